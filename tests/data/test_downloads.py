"""A download that cannot be had is told with what to fetch and where to put it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfapp.data import downloads
from tfapp.errors import Missing


def test_what_the_loader_gives_is_passed_on(monkeypatch, tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    arrays = {"x_train": np.zeros((3, 28, 28), np.uint8), "y_train": np.arange(3)}
    np.savez(path, **arrays, x_test=arrays["x_train"], y_test=arrays["y_train"])
    monkeypatch.setattr("tf_keras.src.datasets.mnist.get_file", lambda *a, **k: str(path))
    (features, labels), _ = downloads.keras_dataset("mnist")
    assert features.shape == (3, 28, 28) and list(labels) == [0, 1, 2]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_without_a_network_the_message_names_the_files_and_where_they_go(name: str, monkeypatch) -> None:
    def fail(*words, **more):
        raise Exception(f"URL fetch failure on https://example.org/{name}:\n None -- no network")

    monkeypatch.setattr(f"tf_keras.src.datasets.{name}.get_file", fail)
    with pytest.raises(Missing) as caught:
        downloads.keras_dataset(name)  # type: ignore[arg-type]
    first, second, third = str(caught.value).splitlines()
    assert first.startswith(f"cannot get {name}: URL fetch failure")
    assert "~/.keras/datasets/" in second and third.endswith(f"tfapp train {name} config.folder=FOLDER")


def test_a_damaged_file_in_the_cache_is_missing_too(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "mnist.npz").write_bytes(b"half")
    monkeypatch.setattr("tf_keras.src.datasets.mnist.get_file", lambda *a, **k: str(tmp_path / "mnist.npz"))
    with pytest.raises(Missing, match="cannot get mnist"):
        downloads.keras_dataset("mnist")


def test_weights_that_cannot_be_had_are_named_and_another_error_is_none_of_this() -> None:
    def fail():
        raise Exception("URL fetch failure on https://example.org/a/weights.h5: None -- no network")

    with pytest.raises(Missing, match="cannot get the ImageNet weights of Net(.|\n)*weights.h5 into ~/.keras/models"):
        downloads.application_weights(fail, "Net")
    with pytest.raises(ZeroDivisionError):
        downloads.application_weights(lambda: 1 / 0, "Net")
    assert downloads.application_weights(lambda: 3, "Net") == 3


def test_scikit_learn_s_digits_are_read_as_it_reads_them() -> None:
    from sklearn.datasets import load_digits

    rows, wanted = downloads.of_scikit_learn("digits.csv.gz"), load_digits()
    assert np.array_equal(rows[:, :-1], wanted.data) and np.array_equal(rows[:, -1], wanted.target)
