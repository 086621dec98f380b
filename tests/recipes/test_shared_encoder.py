"""The encoder whose layers share their weights is as large as one layer, learns, and survives what is done to models."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from pydantic import ValidationError

from recipes import shared_encoder as recipe
from tfapp import export, stateless
from tfapp.errors import Missing
from tfapp.job import on_one_device

DOCS = Path(__file__).parents[2] / "docs/compress.md"
IDS = np.array([[2, 3, 4, 5, 0, 0, 0], [5, 6, 7, 8, 9, 2, 3]])
SHARES = ["none", "attention", "ffn", "all"]


def small(news, **settings):
    return recipe.Config(
        **{"data": [news], "vocabulary": 400, "embedding": 8, "units": 16, "heads": 2, "layers": 3} | settings
    )


def built(config):
    data = recipe.data(config)
    preprocess = recipe.preprocess(config, data)
    model = recipe.model(config, keras.Input(preprocess.output.shape[1:], dtype=preprocess.output.dtype), data)
    return data, preprocess, model


def batch(texts):
    return tf.constant(np.asarray(texts, dtype=object)[:, None])


def encoder(length=7, **settings):
    """The model alone, for texts of as many words."""
    return recipe.model(small("", **settings), keras.Input((length,), dtype="int64"), SimpleNamespace(outputs=2))


def parameters(**settings):
    return encoder(**settings).count_params()


@pytest.mark.moderate
def test_layers_that_share_all_take_no_more_parameters_than_one():
    one = parameters(layers=1)
    assert parameters(layers=6) == one
    attention = parameters(layers=2, share="ffn") - one
    ffn = parameters(layers=2, share="attention") - one
    units = 16
    assert attention == 4 * units * (units + 1) + 2 * units
    assert ffn == 2 * units * 4 * units + 5 * units + 2 * units
    assert parameters(layers=4, share="none") == one + 3 * (attention + ffn)


@pytest.mark.slow
def test_the_table_in_the_docs_is_that_of_the_encoders():
    rows = ["| `share` | `embedding` | the words | all else, 4 layers | all else, 12 layers |", "|---|---|---|---|---|"]
    usual = recipe.Config()
    for share, embedding in [("none", usual.units), *((share, usual.embedding) for share in SHARES)]:
        counts = []
        for layers in (4, 12):
            config = recipe.Config(share=share, embedding=embedding, layers=layers)
            model = recipe.model(config, keras.Input((64,), dtype="int64"), SimpleNamespace(outputs=4))
            words = model.get_layer("words").count_params()
            counts.append(f"{model.count_params() - words:,}")
        rows.append(f"| {share} | {embedding} | {words:,} | {' | '.join(counts)} |")
    assert "\n".join(rows) in DOCS.read_text(encoding="utf-8"), "the table is now:\n" + "\n".join(rows)


@pytest.mark.moderate
def test_a_word_costs_its_own_vector_and_not_the_width_of_the_layers():
    assert parameters(vocabulary=500) - parameters(vocabulary=400) == 100 * 8


@pytest.mark.slow
def test_it_learns(news):
    keras.utils.set_random_seed(0)
    config = small(news, learning_rate=1e-2)
    data, preprocess, model = built(config)
    training = recipe.training(config, data)
    model.compile(training.optimizer, training.loss, metrics=list(training.metrics), steps_per_execution=5)
    model.fit(preprocess(batch(data.train.features)), data.train.labels, epochs=12, batch_size=32, verbose=0)
    _, accuracy = model.evaluate(preprocess(batch(data.test.features)), data.test.labels, verbose=0)
    assert accuracy >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
def test_model_and_vocabulary_come_back_from_a_keras_file_and_a_saved_model(news, tmp_path, share):
    data, preprocess, model = built(small(news, share=share))
    raw = keras.Input((1,), dtype="string", name="text")
    whole = keras.Model(raw, model(preprocess(raw)))
    texts = batch([*data.test.features[:5], "never seen words", "!!!", ""])
    expected = whole(texts).numpy()
    assert expected.shape == (8, 2) and np.isfinite(expected).all()

    whole.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert again.count_params() == whole.count_params()
    np.testing.assert_allclose(again(texts).numpy(), expected, rtol=1e-5, atol=1e-5)

    export.saved_model(whole, tmp_path / "saved")
    served = export.load_saved(tmp_path / "saved")
    np.testing.assert_allclose(served(texts), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.moderate
def test_a_copy_on_one_device_shares_as_the_model_does():
    model = encoder()
    copy = on_one_device(model)
    assert copy.count_params() == model.count_params()
    np.testing.assert_allclose(copy(IDS), model(IDS), rtol=1e-6, atol=1e-6)


@pytest.mark.moderate
def test_padding_changes_nothing():
    short, long = encoder(length=7), encoder(length=9)
    # The longer one has places of its own, for padding alone.
    both = zip(short.get_weights(), long.get_weights(), strict=True)
    long.set_weights([np.concatenate([a, b[len(a) :]]) for a, b in both])
    np.testing.assert_allclose(short(IDS), long(tf.pad(IDS, [[0, 0], [0, 2]])), rtol=1e-5, atol=1e-5)


@pytest.mark.moderate
def test_a_shared_dropout_draws_anew_in_every_layer_and_the_same_again():
    model, step = encoder(dropout=0.5), tf.Variable(0, dtype=tf.int64)
    shared = [layer for layer in model.layers if len(layer.inbound_nodes) == 3 and "dropout" in layer.name]
    assert len(shared) == 2
    stateless.install(model, 0, step)

    def masks():
        # Traced anew, as in a process that goes on from a checkpoint.
        draw = tf.function(lambda: [shared[0](tf.ones([4, 7, 16]), training=True) for _ in range(3)])
        return [mask.numpy() for mask in draw()]

    first = masks()
    assert len({mask.tobytes() for mask in first}) == 3
    np.testing.assert_array_equal(first, masks())
    step.assign(1)
    assert not np.array_equal(first, masks())


def test_a_narrowed_encoder_keeps_its_heads_and_layers():
    config = recipe.narrowed(recipe.Config(units=128, heads=4, embedding=32), 0.3)
    assert (config.units, config.heads, config.embedding, config.layers) == (40, 4, 10, recipe.Config().layers)
    assert recipe.narrowed(recipe.Config(), 1) == recipe.Config()
    smallest = recipe.narrowed(recipe.Config(), 1e-6)
    assert (smallest.units, smallest.embedding) == (smallest.heads, 1)
    recipe.Config(**smallest.model_dump())


def test_units_that_the_heads_cannot_share_out_are_refused():
    with pytest.raises(ValidationError, match="units=100 cannot be shared out among heads=3"):
        recipe.Config(units=100, heads=3)


def test_no_data_says_how_to_give_some():
    with pytest.raises(Missing, match="tfapp train shared_encoder data="):
        recipe.data(recipe.Config())
