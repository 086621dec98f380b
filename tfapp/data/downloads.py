"""The data sets that Keras downloads and caches, with an error that helps where there is no network."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tfapp.errors import Missing

Pair = tuple[np.ndarray, np.ndarray]

# What to fetch by hand, and where in the cache (~/.keras/datasets) its loader looks.
_WANTED = {
    "mnist": ("https://storage.googleapis.com/tensorflow/tf-keras-datasets/", ["mnist.npz"], ""),
    "fashion_mnist": (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        [
            "train-images-idx3-ubyte.gz",
            "train-labels-idx1-ubyte.gz",
            "t10k-images-idx3-ubyte.gz",
            "t10k-labels-idx1-ubyte.gz",
        ],
        "fashion-mnist/",
    ),
    "cifar10": ("https://www.cs.toronto.edu/~kriz/", ["cifar-10-python.tar.gz"], ""),
}
# The name under which the loader looks for it in its cache, where that differs.
_CACHED_AS = {"cifar-10-python.tar.gz": "cifar-10-batches-py.tar.gz"}


def keras_dataset(name: Literal["mnist", "fashion_mnist", "cifar10"]) -> tuple[Pair, Pair]:
    """(features, labels) for training and for the test, by the loader of `tf_keras.datasets`.

    Raises:
      Missing: not in the cache and not to be had from the network, or damaged there.
    """
    import tf_keras as keras

    loader = getattr(keras.datasets, name)
    try:
        return loader.load_data()
    except Exception as error:  # the loader raises a bare Exception for a failed download, others for a damaged file
        origin, files, folder = _WANTED[name]
        cached = " ".join(f"~/.keras/datasets/{folder}{_CACHED_AS.get(file, file)}" for file in files)
        raise Missing(
            f"cannot get {name}: {' '.join(str(error).split())}\n"
            f"fetch {origin}{{{','.join(files)}}} on a machine with a network and put it here as {cached},\n".replace(
                f"{{{files[0]}}}", files[0]
            )
            + ("or give the folder with your own copy" if name == "cifar10" else "or give a folder of IDX files")
            + f": tfapp train {name} config.folder=FOLDER"
        ) from error


def application_weights(build, name: str):
    """`build()` of a tf_keras application with its ImageNet weights, from ~/.keras/models or the network.

    Raises:
      Missing: neither in the cache nor to be had; the message names the file.
    """
    try:
        return build()
    except Exception as error:
        if "URL fetch failure" not in str(error):
            raise
        words = str(error).split()
        url = next((word for word in words if word.startswith("http")), "")
        raise Missing(
            f"cannot get the ImageNet weights of {name}: {' '.join(words)}\n"
            f"put {url.rsplit('/', 1)[-1] or 'the file'} from {url or 'Keras'} into ~/.keras/models,\n"
            "or train from scratch: config.weights=none"
        ) from error
