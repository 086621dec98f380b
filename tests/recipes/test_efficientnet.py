"""EfficientNet's blocks scaled by one number: what it means is what is built, told and written down."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from PIL import Image
from pydantic import ValidationError

from recipes import efficientnet as recipe
from tfapp import export
from tfapp.errors import Missing

DOCS = Path(__file__).parents[2] / "docs/compress.md"
RANDOM = np.random.default_rng(0)


def built(outputs=10, **settings):
    config = recipe.Config(**settings)
    size = recipe.resolution(config)
    return recipe.model(config, keras.Input((size, size, 3)), SimpleNamespace(outputs=outputs))


@pytest.fixture
def photographs(tmp_path):
    for i in range(20):
        path = tmp_path / "photographs" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RANDOM.integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    return str(tmp_path / "photographs")


@pytest.mark.parametrize("phi", [-4, -1, -0.5, 0, 1, 2.5, 8])
def test_widths_are_multiples_of_8_and_never_more_than_a_tenth_too_narrow(phi):
    config = recipe.Config(phi=phi)
    for filters in (*(stage[1] for stage in recipe.STAGES), recipe.STEM, recipe.HEAD):
        wanted, given = filters * 1.1**phi, recipe.widened(filters, config)
        assert given % 8 == 0 and given >= 0.9 * wanted and (given <= wanted + 8 or given == 8)


def test_depths_are_rounded_up_and_sizes_grow_with_phi():
    config = recipe.Config(phi=1)
    assert [recipe.deepened(stage[0], config) for stage in recipe.STAGES] == [2, 3, 3, 3]
    assert [recipe.resolution(recipe.Config(phi=phi)) for phi in (-1, 0, 1, 2, 3)] == [56, 64, 72, 88, 96]


def test_phi_0_is_the_base_network():
    config = recipe.Config()
    for blocks, filters, *_ in recipe.STAGES:
        assert (recipe.deepened(blocks, config), recipe.widened(filters, config)) == (blocks, filters)


@pytest.mark.moderate
def test_the_model_has_the_blocks_and_widths_that_are_told():
    config = recipe.Config(phi=1)
    told = recipe.scaled(config)
    assert told == "phi=1: 72×72 pixels, widths 16-24-48-88 (16 before, 280 after), depths 2-3-3-3"
    model = built(phi=1)
    depthwise = [layer for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
    assert len(depthwise) == 2 + 3 + 3 + 3
    assert {layer.output_shape[-1] for layer in model.layers if isinstance(layer, keras.layers.Add)} == {16, 24, 48, 88}
    assert model.layers[-3].output_shape == (None, 280)


def multiply_adds(model):
    """Multiplications of a weight by a value for one image, in the convolutions and the dense layer."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            total += layer.depthwise_kernel.shape.num_elements() * np.prod(layer.output_shape[1:3])
        elif isinstance(layer, keras.layers.Conv2D):
            total += layer.kernel.shape.num_elements() * np.prod(layer.output_shape[1:3])
        elif isinstance(layer, keras.layers.Dense):
            total += layer.kernel.shape.num_elements()
    return int(total)


@pytest.mark.slow
def test_the_table_in_the_docs_is_that_of_the_networks():
    rows = ["| `phi` | pixels | widths | blocks | parameters | multiply-adds |", "|---|---|---|---|---|---|"]
    for phi in (-2, -1, 0, 1, 2, 3):
        config, model = recipe.Config(phi=phi), built(phi=phi)
        size = recipe.resolution(config)
        widths = "-".join(str(recipe.widened(stage[1], config)) for stage in recipe.STAGES)
        depths = "-".join(str(recipe.deepened(stage[0], config)) for stage in recipe.STAGES)
        work = f"{multiply_adds(model) / 1e6:.1f} M"
        rows.append(f"| {phi} | {size}×{size} | {widths} | {depths} | {model.count_params():,} | {work} |")
    assert "\n".join(rows) in DOCS.read_text(encoding="utf-8"), "the table is now:\n" + "\n".join(rows)


@pytest.mark.moderate
def test_only_plain_layers_are_used():
    layers = {type(layer) for layer in built(phi=-4).layers}
    assert all(layer.__module__.startswith("tf_keras") for layer in layers)
    assert not any("Lambda" in layer.__name__ for layer in layers)


@pytest.mark.moderate
def test_later_blocks_are_left_out_more_often_and_each_example_on_its_own():
    model = built(survival=0.5)
    drops = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout) and layer.noise_shape]
    assert [round(layer.rate, 3) for layer in drops] == [round(0.5 * block / 7, 3) for block in (1, 3, 5, 7)]
    kept = drops[-1](tf.ones([64, 2, 2, 3]), training=True).numpy()
    assert {one.min() for one in kept} == {one.max() for one in kept} == {0.0, 2.0}


def test_what_is_told_before_training_says_what_phi_means(photographs):
    data = recipe.data(recipe.Config(folder=photographs, phi=-1, base=32))
    assert data.train.features.shape[1:] == (24, 24, 3)
    assert data.notes[-1].startswith("phi=-1: 24×24 pixels, ")


@pytest.mark.moderate
def test_augmentation_depends_on_the_seed_alone_and_can_be_off():
    image = tf.constant(RANDOM.integers(0, 256, (40, 40, 3), np.uint8))
    changed = tf.function(recipe.augment(recipe.Config(flip=True)))
    first, again, other = (changed(image, tf.constant([seed, 2])).numpy() for seed in (1, 1, 3))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (40, 40, 3) and first.dtype == np.uint8 and (first != other).any()
    assert recipe.augment(recipe.Config(augment=0)) is None
    flip = recipe.augment(recipe.Config(augment=0, flip=True))
    seen = {flip(image, tf.constant([seed, 2])).numpy().tobytes() for seed in range(12)}
    assert seen == {image.numpy().tobytes(), image.numpy()[:, ::-1].tobytes()}


@pytest.mark.slow
def test_it_comes_back_from_a_keras_file_and_a_saved_model(photographs, tmp_path):
    config = recipe.Config(folder=photographs, phi=-4, base=32, stride=1)
    data = recipe.data(config)
    preprocess = recipe.preprocess(config, data)
    model = recipe.model(config, keras.Input(preprocess.output_shape[1:]), data)
    raw = keras.Input(preprocess.input_shape[1:], dtype="uint8", name="image")
    whole = keras.Model(raw, model(preprocess(raw)))
    images = data.train.features[:4]
    expected = whole(images).numpy()
    assert expected.shape == (4, 2)
    whole.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(again(images), expected, rtol=1e-5, atol=1e-5)
    export.saved_model(whole, tmp_path / "saved")
    np.testing.assert_allclose(export.load_saved(tmp_path / "saved")(images), expected, rtol=1e-5, atol=1e-5)


def test_a_narrowed_network_has_less_width_and_as_many_blocks():
    config = recipe.Config(phi=1)
    narrow = recipe.narrowed(recipe.narrowed(config, 0.5), 0.5)
    assert narrow.width == 0.25 and narrow.phi == 1
    assert [recipe.widened(filters, narrow) for filters in (16, 40, 80, 256)] == [8, 16, 24, 72]
    assert recipe.narrowed(config, 1) == config
    smallest = recipe.narrowed(config, 1e-6)
    assert recipe.widened(256, smallest) == 8
    recipe.Config(**smallest.model_dump())


def test_folder_and_csv_at_once_are_refused():
    with pytest.raises(ValidationError, match="not both"):
        recipe.Config(folder="a", csv="b")


def test_no_images_says_how_to_give_some():
    with pytest.raises(Missing, match="tfapp train efficientnet folder="):
        recipe.data(recipe.Config())
