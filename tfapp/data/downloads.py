"""The data sets that Keras downloads and caches, with an error that helps where there is no network, and those in scikit-learn."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfapp.errors import Missing

Pair = tuple[np.ndarray, np.ndarray]

# Where each is had from, the files there, and where in ~/.keras/datasets the loader looks for them.
_WANTED = {
    "mnist": ("https://storage.googleapis.com/tensorflow/tf-keras-datasets/", "mnist.npz", "mnist.npz"),
    "fashion_mnist": (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz",
        "fashion-mnist/",
    ),
    "cifar10": ("https://www.cs.toronto.edu/~kriz/", "cifar-10-python.tar.gz", "cifar-10-batches-py.tar.gz"),
}


def keras_dataset(name: Literal["mnist", "fashion_mnist", "cifar10"]) -> tuple[Pair, Pair]:
    """(features, labels) for training and for the test, by the loader of `tf_keras.datasets`.

    Raises:
      Missing: not in the cache and not to be had from the network, or damaged there.
    """
    import tf_keras as keras

    try:
        return getattr(keras.datasets, name).load_data()
    except Exception as error:  # the loader raises a bare Exception for a failed download, others for a damaged file
        origin, files, cached = _WANTED[name]
        raise Missing(
            f"cannot get {name}: {' '.join(str(error).split())}\n"
            f"with a network, fetch {origin}{files} and put it here as ~/.keras/datasets/{cached}\n"
            f"or give a folder of IDX files: tfapp train {name} config.folder=FOLDER"
        ) from error


def of_scikit_learn(file: str) -> np.ndarray:
    """A file of numbers in the folder of scikit-learn's data sets, float64 [rows, columns]; its import would take 0.6 s and 180 MB."""
    package = importlib.util.find_spec("sklearn")
    assert package is not None and package.origin is not None  # tfapp requires it.
    return np.loadtxt(Path(package.origin).parent / "datasets" / "data" / file, delimiter=",")


def application_weights(build: Callable[[], Any], name: str) -> Any:
    """`build()` of a tf_keras application, whose ImageNet weights are in ~/.keras/models or come from the network.

    Raises:
      Missing: neither in the cache nor to be had; the message names the file.
    """
    try:
        return build()
    except Exception as error:
        if "URL fetch failure" not in str(error):
            raise
        url = next(word.rstrip(":") for word in str(error).split() if word.startswith("http"))
        raise Missing(
            f"cannot get the ImageNet weights of {name}: {' '.join(str(error).split())}\n"
            f"with a network, fetch {url} and put {url.rsplit('/', 1)[-1]} into ~/.keras/models\n"
            "or train from scratch: config.weights=none"
        ) from error
