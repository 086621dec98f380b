import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recipes import text_classification as recipe
from tfapp.errors import Missing

MODELS = ["pooled", "cnn", "transformer"]


def built(config):
    data = recipe.data(config)
    preprocess = recipe.preprocess(config, data)
    model = recipe.model(config, keras.Input(preprocess.output.shape[1:], dtype=preprocess.output.dtype), data)
    return data, preprocess, model


def batch(texts):
    return tf.constant(np.asarray(texts, dtype=object)[:, None])


def small(news, **settings):
    return recipe.Config(data=[news], vocabulary=400, embedding=16, filters=16, **settings)


@pytest.mark.moderate
@pytest.mark.parametrize("kind", MODELS)
def test_each_model_learns(news, kind):
    keras.utils.set_random_seed(0)
    config = small(news, model=kind, learning_rate=1e-2)
    data, preprocess, model = built(config)
    training = recipe.training(config, data)
    model.compile(training.optimizer, training.loss, metrics=list(training.metrics), steps_per_execution=5)
    model.fit(preprocess(batch(data.train.features)), data.train.labels, epochs=12, batch_size=32, verbose=0)
    _, accuracy = model.evaluate(preprocess(batch(data.test.features)), data.test.labels, verbose=0)
    assert accuracy >= 0.9


@pytest.mark.moderate
@pytest.mark.parametrize("kind", MODELS)
def test_model_and_vocabulary_come_back_from_a_keras_file_and_a_saved_model(news, tmp_path, kind):
    data, preprocess, model = built(small(news, model=kind))
    raw = keras.Input((1,), dtype="string", name="text")
    whole = keras.Model(raw, model(preprocess(raw)))
    texts = batch([*data.test.features[:5], "never seen words", "!!!", ""])
    expected = whole(texts).numpy()
    assert expected.shape == (8, 2) and np.isfinite(expected).all()

    whole.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(again(texts).numpy(), expected, rtol=1e-5, atol=1e-5)

    whole.export(tmp_path / "saved")
    served = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    np.testing.assert_allclose(next(iter(served(texts).values())).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_the_vocabulary_is_of_the_training_part_alone(news):
    data, preprocess, _ = built(small(news, ngrams=1))
    layer = next(layer for layer in preprocess.layers if isinstance(layer, keras.layers.TextVectorization))
    seen = {word for text in data.train.features for word in text.split()}
    assert set(layer.get_vocabulary()) - {"", "[UNK]"} <= seen


@pytest.mark.moderate
@pytest.mark.parametrize("kind", MODELS)
def test_padding_changes_nothing(news, kind):
    keras.utils.set_random_seed(0)
    _, preprocess, model = built(small(news, model=kind, length=8, ngrams=1))
    long = recipe.model(small(news, model=kind), keras.Input((16,), dtype="int64"), recipe.data(small(news)))
    ids = preprocess(batch(["the goal of the match"]))
    if kind == "transformer":
        pytest.skip("its table of places has a row for each place")
    long.set_weights(model.get_weights())
    padded = tf.pad(ids, [[0, 0], [0, 8]])
    np.testing.assert_allclose(model(ids).numpy(), long(padded).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.moderate
def test_the_length_is_what_most_texts_need(news):
    data, preprocess, _ = built(small(news, ngrams=1))
    assert preprocess.output.shape == (None, 7)
    _, preprocess, _ = built(small(news, length=3))
    assert preprocess.output.shape == (None, 3)


def test_no_data_says_how_to_give_some():
    with pytest.raises(Missing, match="tfapp train text_classification data="):
        recipe.data(recipe.Config())
