from __future__ import annotations

import gzip
import os
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from tfapp.data import idx
from tfapp.errors import Missing, Usage
from tfapp.settings import Split

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def as_idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, CODES[array.dtype.str[1:]], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_pair(folder: Path, name: str, count: int, packed: bool = True) -> np.ndarray:
    images = np.random.default_rng(count).integers(0, 256, (count, 6, 5), np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        content = as_idx(array)
        path = folder / f"{name}-{kind}-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content) if packed else content)
    return images


arrays_of_any_kind = st.sampled_from(sorted(CODES)).flatmap(
    lambda code: st_numpy.arrays(np.dtype(code), st_numpy.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))
)


@pytest.mark.moderate
@settings(max_examples=100, deadline=None)
@given(array=arrays_of_any_kind, packed=st.booleans())
def test_what_is_written_is_read_back(array, packed):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(gzip.compress(as_idx(array)) if packed else as_idx(array))
        found = idx.read(path)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.moderate
@settings(max_examples=200, deadline=None)
@given(array=arrays_of_any_kind, packed=st.booleans(), data=st.data())
def test_a_file_cut_anywhere_is_called_truncated_or_damaged(array, packed, data):
    content = gzip.compress(as_idx(array)) if packed else as_idx(array)
    cut = content[: data.draw(st.integers(0, len(content) - 1))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file-name")
        path.write_bytes(cut)
        with pytest.raises((Missing, Usage), match="file-name"):
            idx.read(path)


@pytest.mark.moderate
@settings(max_examples=200, deadline=None)
@given(
    content=st.binary(max_size=60), start=st.sampled_from([b"", b"\0\0\x08\x01", b"\0\0\x08\xff", b"\x1f\x8b\x08\0"])
)
def test_arbitrary_bytes_give_an_array_or_a_clear_error(content, start):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(start + content)
        try:
            assert isinstance(idx.read(path), np.ndarray)
        except (Missing, Usage):
            pass


def test_a_header_that_promises_petabytes_asks_for_no_memory(tmp_path):
    for name, pack in (("plain", bytes), ("packed", gzip.compress)):
        (tmp_path / name).write_bytes(pack(bytes([0, 0, 8, 3]) + b"\xff" * 12))
        with pytest.raises(Missing, match="truncated"):
            idx.read(tmp_path / name)


def test_bytes_left_over_are_an_error(tmp_path):
    (tmp_path / "file").write_bytes(as_idx(np.zeros(3, np.uint8)) + b"x")
    with pytest.raises(Usage, match="more bytes"):
        idx.read(tmp_path / "file")


def test_another_format_and_a_missing_file_are_named(tmp_path):
    (tmp_path / "file").write_text("label,pixel0")
    with pytest.raises(Usage, match="not an IDX file: .*file begins with bytes 6c 61"):
        idx.read(tmp_path / "file")
    with pytest.raises(Missing, match="nothing-here"):
        idx.read(tmp_path / "nothing-here")
    with pytest.raises(Usage, match="not a file"):
        idx.read(tmp_path)


def test_the_t10k_pair_is_the_test_part(tmp_path):
    write_pair(tmp_path, "train", 100)
    official = write_pair(tmp_path, "t10k", 30, packed=False)
    data = idx.folder(tmp_path, Split(), classes="0123456789")
    assert (len(data.train), len(data.validation), len(data.test)) == (90, 10, 30)
    np.testing.assert_array_equal(data.test.features[..., 0], official)
    assert data.reader["height"] == 6 and data.reader["width"] == 5 and data.reader["channels"] == 1


@pytest.mark.parametrize("name", ["train", "t10k"])
def test_a_single_pair_is_shared_out_in_three(tmp_path, name):
    write_pair(tmp_path, name, 100)
    data = idx.folder(tmp_path, Split())
    assert (len(data.train), len(data.validation), len(data.test)) == (80, 10, 10)


def test_half_a_pair_and_an_empty_folder_say_what_is_missing(tmp_path):
    with pytest.raises(Missing, match="train-images-idx3-ubyte"):
        idx.folder(tmp_path, Split())
    write_pair(tmp_path, "t10k", 30)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(Missing, match="t10k-labels-… is missing"):
        idx.folder(tmp_path, Split())


def test_images_and_labels_of_different_number_do_not_match(tmp_path):
    write_pair(tmp_path, "t10k", 30)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(as_idx(np.zeros(29, np.uint8)))
    with pytest.raises(Usage, match="do not match"):
        idx.folder(tmp_path, Split())


def test_the_real_files_are_read():
    shared = Path(os.environ.get("TFAPP_SHARED", Path(__file__).parents[2] / "../shared"))
    if not (shared / "data/mnist10k").is_dir():
        pytest.skip("no shared data")
    data = idx.folder(shared / "data/mnist10k", Split(), classes="0123456789")
    assert (len(data.train), len(data.validation), len(data.test)) == (8000, 1000, 1000)
    assert np.bincount(data.test.labels, minlength=10).min() >= 85
