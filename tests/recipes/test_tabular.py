import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recipes import tabular
from tfapp import export
from tfapp.errors import Usage


@pytest.fixture
def people(tmp_path):
    """200 rows with gaps: who is older than 40 or a chief earns much."""
    random = np.random.default_rng(0)
    lines = ["age,job title,member,pay,class"]
    for row in range(200):
        age, job = random.integers(18, 70), random.choice(["chief", "clerk", "cook", ""])
        much = age > 40 or job == "chief"
        lines.append(
            f"{'?' if row % 10 == 0 else age},{job},{'yes' if row % 3 else 'no'},{age * 1000 + row},{'>50K' if much else '<=50K'}"
        )
    path = tmp_path / "people.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def built(config):
    """Data, preprocessing and the model, and the raw features of all that is trained on, as [n, 1]."""
    data = tabular.data(config)
    preprocess = tabular.preprocess(config, data)
    inputs = {name: keras.Input(out.shape[1:], dtype=out.dtype, name=name) for name, out in preprocess.output.items()}
    model = tabular.model(config, inputs, data)
    return data, preprocess, model, batch(data.train.features)


def batch(features):
    return {name: tf.constant(column[:, None]) for name, column in features.items()}


def exported(preprocess, model):
    raw = {name: keras.Input((1,), dtype=tensor.dtype, name=name) for name, tensor in preprocess.input.items()}
    return keras.Model(raw, model(preprocess(raw)))


@pytest.mark.moderate
def test_the_default_is_breast_cancer_and_learns(tmp_path):
    keras.utils.set_random_seed(0)
    config = tabular.Config()
    data, preprocess, model, raw = built(config)
    training = tabular.training(config, data)
    model.compile(training.optimizer, training.loss, metrics=list(training.metrics), steps_per_execution=10)
    model.fit(preprocess(raw), data.train.labels, epochs=10, batch_size=64, verbose=0)
    _, accuracy = model.evaluate(preprocess(batch(data.test.features)), data.test.labels, verbose=0)
    assert data.classes == ("benign", "malignant") and accuracy >= 0.93


@pytest.mark.moderate
@pytest.mark.parametrize("scale", ["standardise", "normalise"])
@pytest.mark.parametrize("bins", [0, 8])
def test_what_the_model_is_given_is_finite_and_of_sane_size(people, scale, bins):
    config = tabular.Config(data=[people], target="class", scale=scale, bins=bins)
    _, preprocess, model, raw = built(config)
    inputs = preprocess(raw)
    numbers = inputs["numbers"].numpy()
    assert np.isfinite(numbers).all() and np.abs(numbers).max() <= 10
    assert model(inputs).shape == (len(numbers), 2)


@pytest.mark.moderate
def test_it_is_adapted_on_the_training_part_alone(people):
    config = tabular.Config(data=[people], target="class")
    data, preprocess, _, raw = built(config)
    scaled = preprocess(raw)["numbers"].numpy()[:, 2]  # age, member, pay
    np.testing.assert_allclose([scaled.mean(), scaled.std()], [0, 1], atol=1e-3)


@pytest.mark.moderate
def test_a_missing_number_is_the_middle_and_is_told_to_the_model(people):
    config = tabular.Config(data=[people], target="class", bins=0)
    data, preprocess, _, raw = built(config)
    ages = data.train.features["age"]
    middle = np.float32(np.nanmedian(ages))
    row = {name: column[:1] for name, column in raw.items()}
    gone, there = (preprocess({**row, "age": tf.constant([[age]])})["numbers"].numpy() for age in (np.nan, middle))
    np.testing.assert_allclose(gone[0, :3], there[0, :3], atol=1e-6)
    assert gone[0, 3] == 1 and there[0, 3] == 0


@pytest.mark.filterwarnings("error")
def test_a_column_without_a_single_number_is_zero_and_no_warning(people):
    config = tabular.Config(data=[people], target="class", types={"job title": "number"}, bins=0)
    _, preprocess, _, raw = built(config)
    numbers = preprocess(raw)["numbers"].numpy()
    assert np.isfinite(numbers).all() and (numbers[:, 1] == 0).all()


@pytest.mark.moderate
def test_an_unseen_category_goes_to_its_own_bucket(people):
    config = tabular.Config(data=[people], target="class")
    _, preprocess, model, raw = built(config)
    row = {name: column[:1] for name, column in raw.items()}
    number = {
        job: int(preprocess({**row, "job_title": tf.constant([[job]])})["categories"][0, 0])
        for job in ("chief", "clerk", "cook", "", "astronaut")
    }
    assert number["astronaut"] == 0 and sorted(number.values()) == [0, 1, 2, 3, 4]


@pytest.mark.moderate
def test_a_rare_category_shares_the_bucket_of_the_unseen(people, tmp_path):
    path = tmp_path / "more.csv"
    path.write_text(open(people).read() + "30,juggler,no,30000,<=50K\n")
    config = tabular.Config(data=[str(path)], target="class", split={"validation": 0, "test": 0})
    _, preprocess, _, raw = built(config)
    assert int(preprocess(raw)["categories"][-1, 0]) == 0


@pytest.mark.moderate
@pytest.mark.parametrize("target", ["class", "pay"])
def test_model_and_preprocessing_come_back_from_a_keras_file_and_a_saved_model(people, tmp_path, target):
    # With the target «pay», «class» is an input, though TensorFlow takes no Python keyword for a name; nor may it
    # then be mistaken for its neighbour.
    header, *rows = open(people).read().splitlines()
    people = tmp_path / "more.csv"
    people.write_text("\n".join([header + ",class_", *(f"{row},{len(row)}" for row in rows)]))
    data, preprocess, model, raw = built(
        tabular.Config(data=[str(people)], target=target, types={"member": "category"})
    )
    whole = exported(preprocess, model)
    expected = whole(raw).numpy()
    assert expected.shape == (len(data.train), data.outputs)
    np.testing.assert_allclose(model(preprocess(raw)).numpy(), expected, rtol=1e-5, atol=1e-5)

    whole.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(again(raw).numpy(), expected, rtol=1e-5, atol=1e-5)

    export.saved_model(whole, tmp_path / "saved")
    served = export.load_saved(tmp_path / "saved")
    np.testing.assert_allclose(served(raw), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.moderate
def test_a_regression_starts_at_the_mean_and_scale_of_its_target(people):
    config = tabular.Config(data=[people], target="pay", bins=8)
    data, preprocess, model, raw = built(config)
    assert data.task == "regression"
    values = model(preprocess(raw)).numpy()
    assert 0.2 < values.mean() / data.train.labels.mean() < 5 and values.std() < 5 * data.train.labels.std()


@pytest.mark.slow
def test_a_regression_learns(people):
    keras.utils.set_random_seed(0)
    config = tabular.Config(data=[people], target="pay", dropout=0)
    data, preprocess, model, raw = built(config)
    training = tabular.training(config, data)
    model.compile(training.optimizer, training.loss, metrics=list(training.metrics), steps_per_execution=10)
    model.fit(preprocess(raw), data.train.labels, epochs=100, batch_size=32, verbose=0)
    values = model.predict(preprocess(batch(data.test.features)), verbose=0)[:, 0]
    gone = np.isnan(data.test.features["age"])
    assert np.corrcoef(values[~gone], data.test.labels[~gone])[0, 1] > 0.95


@pytest.mark.moderate
def test_only_numbers_or_only_categories_will_do(people):
    for ignore, kept in ((["job title"], ["numbers"]), (["age", "member", "pay"], ["categories"])):
        _, preprocess, model, raw = built(tabular.Config(data=[people], target="class", ignore=ignore))
        assert list(preprocess.output) == kept and model(preprocess(raw)).shape[1] == 2


def test_data_without_a_target_says_what_to_type(people):
    with pytest.raises(Usage, match="target=COLUMN"):
        tabular.data(tabular.Config(data=[people]))
