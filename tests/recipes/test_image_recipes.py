from __future__ import annotations

import gzip
import struct
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from PIL import Image
from pydantic import ValidationError
from tf_keras.src.utils import data_utils

from recipes import cifar10, fashion_mnist, image_folder, mnist
from tfapp.data import downloads
from tfapp.errors import Missing

RANDOM = np.random.default_rng(0)


def idx_folder(folder: Path, shape: tuple[int, ...]) -> str:
    """100 random images with ten labels as a pair of IDX files."""
    images = RANDOM.integers(0, 256, (100, *shape), np.uint8)
    labels = (np.arange(100) % 10).astype(np.uint8)
    for name, array in ((f"train-images-idx{images.ndim}-ubyte", images), ("train-labels-idx1-ubyte", labels)):
        head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (folder / name).write_bytes(head + array.tobytes())
    return str(folder)


def photographs(folder: Path, count: int = 20) -> str:
    for i in range(count):
        path = folder / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(RANDOM.integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    return str(folder)


def build(recipe, config, data):
    """Preprocessing and model on a batch, as a run does."""
    preprocess = recipe.preprocess(config, data)
    model = recipe.model(config, keras.Input(preprocess.output_shape[1:]), data)
    return model, model(preprocess(data.train.features[:4]))


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty home folder, and a network that is down."""

    def refuse(*args):
        raise urllib.error.URLError("network is down")

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".keras").mkdir()
    monkeypatch.setattr(data_utils, "urlretrieve", refuse)
    return tmp_path / ".keras"


@pytest.mark.parametrize("recipe", [mnist, fashion_mnist])
def test_the_small_cnn_gives_ten_logits(tmp_path, recipe):
    config = recipe.Config(folder=idx_folder(tmp_path, (28, 28)))
    data = recipe.data(config)
    model, logits = build(recipe, config, data)
    assert logits.shape == (4, 10) and model.layers[-1].activation is keras.activations.linear
    assert len(data.classes) == 10 and data.reader["channels"] == 1


@pytest.mark.moderate
@pytest.mark.parametrize(("name", "layers"), [("resnet20", 20), ("cnn", 7)])
def test_the_networks_for_cifar_have_the_depth_they_are_named_for(tmp_path, name, layers):
    config = cifar10.Config(folder=idx_folder(tmp_path, (32, 32, 3)), model=name)
    model, logits = build(cifar10, config, cifar10.data(config))
    weighted = [one for one in model.layers if isinstance(one, keras.layers.Conv2D | keras.layers.Dense)]
    assert logits.shape == (4, 10) and len(weighted) == layers
    if name == "resnet20":
        kernels = sum(int(np.prod(one.kernel.shape)) for one in weighted)
        assert 0.26e6 < kernels < 0.28e6  # «0.27 M» in table 6 of the paper


@pytest.mark.moderate
def test_the_recipes_can_be_saved_and_loaded_in_safe_mode(tmp_path):
    config = cifar10.Config(folder=idx_folder(tmp_path, (32, 32, 3)))
    model, _ = build(cifar10, config, cifar10.data(config))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    batch = RANDOM.random((2, 32, 32, 3), np.float32)
    np.testing.assert_allclose(model(batch), again(batch), atol=1e-5)


@pytest.mark.moderate
def test_augmentation_for_cifar_depends_on_the_seed_alone():
    changed = cifar10.augment(cifar10.Config())
    image = tf.constant(RANDOM.integers(0, 256, (32, 32, 3), np.uint8))
    seeds = [tf.constant([i, 1]) for i in range(8)]
    first = [changed(image, seed).numpy() for seed in seeds]
    again = [tf.function(changed)(image, seed).numpy() for seed in seeds]
    np.testing.assert_array_equal(first, again)
    assert first[0].dtype == np.uint8 and first[0].shape == (32, 32, 3)
    assert len({one.tobytes() for one in first}) == 8
    assert cifar10.augment(cifar10.Config(flip=False, shift=0)) is None


def test_augmentation_of_photographs_depends_on_the_seed_alone_and_can_be_off():
    image = tf.constant(RANDOM.integers(0, 256, (40, 40, 3), np.uint8))
    changed = tf.function(image_folder.augment(image_folder.Config(augment={"flip": True})))
    first, again, other = (changed(image, tf.constant([seed, 2])).numpy() for seed in (1, 1, 3))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (40, 40, 3) and first.dtype == np.uint8 and (first != other).any()
    off = {"shift": 0, "rotation": 0, "zoom": 0, "brightness": 0}
    assert image_folder.augment(image_folder.Config(augment=off)) is None


@pytest.mark.moderate
@pytest.mark.parametrize("backbone", ["small_cnn", "resnet20"])
def test_the_small_networks_take_a_folder_of_photographs(tmp_path, backbone):
    config = image_folder.Config(folder=photographs(tmp_path), size=32, backbone=backbone)
    data = image_folder.data(config)
    _, logits = build(image_folder, config, data)
    assert logits.shape == (4, 2)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["MobileNetV2", "EfficientNetB0", "EfficientNetV2B0", "ResNet50", "ResNet50V2"])
def test_the_applications_take_a_folder_of_photographs(tmp_path, backbone):
    config = image_folder.Config(folder=photographs(tmp_path), size=32, backbone=backbone)
    _, logits = build(image_folder, config, image_folder.data(config))
    assert logits.shape == (4, 2)


@pytest.mark.parametrize(
    ("backbone", "module"),
    [("MobileNetV2", "mobilenet_v2"), ("EfficientNetB0", "efficientnet"), ("EfficientNetV2B0", "efficientnet_v2")]
    + [("ResNet50", "resnet"), ("ResNet50V2", "resnet_v2")],
)
def test_pixels_are_scaled_as_the_application_was_trained(tmp_path, backbone, module):
    pixels = RANDOM.integers(0, 256, (2, 32, 32, 3), np.uint8)
    ours = image_folder.preprocess(image_folder.Config(size=32, backbone=backbone), None)
    theirs = getattr(keras.applications, module).preprocess_input(pixels.astype(np.float32))
    np.testing.assert_allclose(ours(pixels), theirs, atol=1e-3)
    ours.save(tmp_path / "preprocess.keras")
    again = keras.models.load_model(tmp_path / "preprocess.keras", safe_mode=True)
    np.testing.assert_allclose(again(pixels), theirs, atol=1e-3)


def test_no_images_says_how_to_give_some():
    with pytest.raises(Missing, match="tfapp train image_folder config.folder="):
        image_folder.data(image_folder.Config())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"folder": "a", "csv": "b"}, "not both"),
        ({"weights": "imagenet"}, "small_cnn has no imagenet weights"),
        ({"backbone": "ResNet50", "freeze": True}, "freeze=true would freeze random weights"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(words, message):
    with pytest.raises(ValidationError, match=message):
        image_folder.Config(**words)


@pytest.mark.moderate
def test_imagenet_weights_that_cannot_be_had_name_the_file(offline, tmp_path):
    config = image_folder.Config(
        folder=photographs(tmp_path), size=32, backbone="MobileNetV2", weights="imagenet", freeze=True
    )
    data = image_folder.data(config)
    with pytest.raises(Missing, match=r"put mobilenet_v2_\S+\.h5 into ~/.keras/models"):
        image_folder.model(config, keras.Input((32, 32, 3)), data)


@pytest.mark.parametrize(
    ("recipe", "file"),
    [
        (mnist, "mnist.npz"),
        (fashion_mnist, "{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz"),
        (cifar10, "cifar-10-python.tar.gz"),
    ],
)
def test_offline_the_file_that_is_wanted_is_named(offline, recipe, file):
    with pytest.raises(Missing) as caught:
        recipe.data(recipe.Config())
    message = str(caught.value)
    assert file in message and "~/.keras/datasets/" in message and "config.folder=" in message
    assert message.count("\n") <= 2


def test_mnist_comes_from_the_cache_of_keras(offline, monkeypatch):
    # The loader takes its own file only, by its hash.
    monkeypatch.setattr(data_utils, "validate_file", lambda *args, **options: True)
    (offline / "datasets").mkdir()
    x, y = RANDOM.integers(0, 256, (40, 28, 28), np.uint8), (np.arange(40) % 10).astype(np.uint8)
    np.savez(offline / "datasets/mnist.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    data = mnist.data(mnist.Config())
    assert (len(data.train), len(data.validation), len(data.test)) == (27, 3, 10)
    np.testing.assert_array_equal(data.test.features[..., 0], x[30:])


def test_fashion_mnist_comes_from_the_cache_of_keras(offline):
    cache = offline / "datasets/fashion-mnist"
    cache.mkdir(parents=True)
    for name, count in (("train", 30), ("t10k", 10)):
        images = RANDOM.integers(0, 256, (count, 28, 28), np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (cache / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    data = fashion_mnist.data(fashion_mnist.Config())
    assert (len(data.train), len(data.test)) == (27, 10) and data.classes[9] == "ankle boot"


def test_a_damaged_file_in_the_cache_is_named(offline):
    cache = offline / "datasets/fashion-mnist"
    cache.mkdir(parents=True)
    (cache / "train-labels-idx1-ubyte.gz").write_bytes(b"no gzip")
    for name in ("train-images-idx3", "t10k-images-idx3", "t10k-labels-idx1"):
        (cache / f"{name}-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(Missing, match="cannot get fashion_mnist"):
        downloads.keras_dataset("fashion_mnist")
