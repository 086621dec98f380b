"""A sharded image folder is the folder, only faster: the same examples, parts, order and pixels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.data.test_images import picture, save
from tfapp.cli.main import main
from tfapp.data import images, records, shard
from tfapp.data.pipeline import Batches, readable
from tfapp.errors import Missing, Usage
from tfapp.settings import Split

pytestmark = pytest.mark.moderate

ASKED = shard.Asked(16, shards=3)


@pytest.fixture
def source(tmp_path) -> Path:
    """Two classes; one file turned, two pairs of copies, one cut short, one that only decoding finds damaged, one no image."""
    home = tmp_path / "photos"
    for i in range(24):
        save(home / ("cat", "dog")[i % 2] / f"{i:02}.jpg", picture(30 + i, 40, seed=i), orientation=6 if i == 5 else 1)
    shutil.copy(home / "cat/02.jpg", home / "cat/copy.jpg")
    shutil.copy(home / "dog/03.jpg", home / "dog/copy.jpg")
    whole = (home / "cat/04.jpg").read_bytes()
    (home / "cat/cut.jpg").write_bytes(whole[: len(whole) // 2])
    at = whole.index(b"\xff\xda")
    (home / "dog/damaged.jpg").write_bytes(whole[:at] + b"\xff\xda\x00\x03\x01" + whole[at + 5 :])
    (home / "dog/notes.txt").write_text("no image")
    return home


@pytest.fixture
def sharded(source, tmp_path) -> Path:
    shard.write(source, tmp_path / "shards", ASKED, lambda line: None)
    return tmp_path / "shards"


def parts(data):
    return zip((data.train, data.validation, data.test), ("train", "validation", "test"), strict=True)


def same(one, other) -> None:
    """All that a run knows of its data, pixels included where they are in memory."""
    assert (one.classes, one.reader, one.notes) == (other.classes, other.reader, other.notes)
    assert sorted(map(str, one.dropped)) == sorted(map(str, other.dropped)) and one.dropped
    for (ours, name), (theirs, _) in zip(parts(one), parts(other), strict=True):
        assert list(ours.names) == list(theirs.names) and len(ours), name
        assert np.array_equal(ours.labels, theirs.labels)
        if ours.load is None:
            assert np.array_equal(ours.features, theirs.features)


@pytest.mark.parametrize("limit", [None, 0])
def test_shards_give_the_examples_parts_and_losses_of_the_folder(source, sharded, limit):
    split = Split(validation=0.2, test=0.2)
    same(*(images.from_folder(one, split, 16, memory_limit=limit) for one in (source, sharded)))
    assert not list(sharded.glob("unfinished*")) and len(list(sharded.glob("*.tfrecord"))) == 3


def test_parts_that_the_user_gave_are_kept(source, tmp_path):
    given = tmp_path / "given"
    shutil.copytree(source, given / "train"), shutil.copytree(source, given / "test")
    save(given / "test" / "cow" / "1.jpg")
    shard.write(given, tmp_path / "out", ASKED, lambda line: None)
    same(*(images.from_folder(one, Split(), 16) for one in (given, tmp_path / "out")))


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_step_s_batch_is_the_folder_s_from_any_step_on_for_any_number_of_replicas(source, sharded, replicas):
    ours, theirs = (
        Batches(images.from_folder(one, Split(), 16, memory_limit=0).train, 4, 7, shuffle=True)
        for one in (sharded, source)
    )
    for start in (0, 3):
        pairs = zip(ours.dataset(start, replicas), theirs.dataset(start, replicas), strict=False)
        for (a, b), _ in zip(pairs, range(8), strict=False):
            assert all(np.array_equal(x, y) for x, y in zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True))


def test_a_stopped_command_goes_on_and_writes_the_same_bytes(source, sharded, tmp_path, monkeypatch):
    real, written = images.encoded, []

    def stopped(found, *rest):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(found)
        return real(found, *rest)

    monkeypatch.setattr(images, "encoded", stopped)
    with pytest.raises(KeyboardInterrupt):
        shard.write(source, tmp_path / "other", ASKED, lambda line: None)
    with pytest.raises(Missing, match="unfinished shards"):
        images.from_folder(tmp_path / "other", Split(), 16)
    monkeypatch.setattr(images, "encoded", real)
    said: list[str] = []
    shard.write(source, tmp_path / "other", ASKED, said.append)
    assert said == ["2 of 3 shards were there"]
    for path in sharded.glob("*.tfrecord"):
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()
    same(*(images.from_folder(one, Split(), 16) for one in (sharded, tmp_path / "other")))
    shard.write(source, tmp_path / "other", ASKED, said.append)
    assert "has these shards already" in said[-1]


def test_compressed_shards_are_read_into_memory_or_refused_with_the_way_out(source, tmp_path):
    shard.write(source, tmp_path / "gz", shard.Asked(16, compression="gzip"), lambda line: None)
    same(*(images.from_folder(one, Split(), 16) for one in (source, tmp_path / "gz")))
    with pytest.raises(Missing, match="shard them anew without --compression"):
        images.from_folder(tmp_path / "gz", Split(), 16, memory_limit=0)


def test_jpegs_are_smaller_and_nearly_the_same(tmp_path):
    for i in range(4):
        smooth = picture(8, 8, i).resize((200, 200), Image.Resampling.BICUBIC)
        save(tmp_path / "photos" / "ab"[i % 2] / f"{i}.png", smooth)
    none = Split(validation=0, test=0)
    whole = images.from_folder(tmp_path / "photos", none, 128).train.features.astype(float)
    shard.write(tmp_path / "photos", tmp_path / "out", shard.Asked(128, encoding="jpeg", shards=1), lambda line: None)
    (file,) = (tmp_path / "out").glob("*.tfrecord")
    assert file.stat().st_size < whole.size / 3
    for limit in (None, 0):
        part = images.from_folder(tmp_path / "out", none, 128, memory_limit=limit).train
        found = next(iter(Batches(part, 4).dataset()))[0].numpy()
        assert 0 < np.abs(found - whole).mean() < 4


def test_other_programs_read_the_records_as_examples(source, sharded):
    example = tf.train.Example.FromString(
        next(tf.data.TFRecordDataset(sorted(map(str, sharded.glob("*.tfrecord")))).as_numpy_iterator())
    ).features.feature
    assert example["label"].bytes_list.value[0] == b"cat" and example["name"].bytes_list.value[0] == b"cat/00.jpg"
    assert len(example["image"].bytes_list.value[0]) == 16 * 16 * 3 and example["number"].int64_list.value[0] == 0


def test_shards_of_another_form_or_source_are_refused(source, sharded, tmp_path):
    with pytest.raises(Usage, match="images of size 16, and 32 is asked for\ntake size=16, or shard"):
        images.from_folder(sharded, Split(), 32)
    with pytest.raises(Usage, match="resize pad, and crop"):
        images.from_folder(sharded, Split(), 16, resize="crop")
    with pytest.raises(Usage, match="other settings"):
        shard.write(source, sharded, shard.Asked(16), print)
    save(source / "cat" / "new.jpg")
    with pytest.raises(Usage, match="another source, or files that changed"):
        shard.write(source, sharded, ASKED, print)
    with pytest.raises(Usage, match="is not empty"):
        shard.write(source, source, ASKED, print)
    with pytest.raises(Usage, match="holds shards already"):
        shard.write(sharded, tmp_path / "new", ASKED, print)
    (tmp_path / "none").mkdir()
    with pytest.raises(Missing, match="no image in"):
        shard.write(tmp_path / "none", tmp_path / "new", ASKED, print)


def test_damage_is_named_with_the_way_out(sharded):
    path = sorted(sharded.glob("*.tfrecord"))[1]
    whole = path.read_bytes()
    path.write_bytes(whole[:700] + bytes([whole[700] ^ 1]) + whole[701:])
    with pytest.raises(Missing, match="a shard in .* is damaged"):
        images.from_folder(sharded, Split(), 16)
    path.write_bytes(whole[:-10])
    with pytest.raises(Missing, match=r"bytes instead of"):
        images.from_folder(sharded, Split(), 16)
    path.unlink()
    with pytest.raises(Missing, match="is not there"):
        images.from_folder(sharded, Split(), 16)
    path.write_bytes(whole)
    data = images.from_folder(sharded, Split(), 16, memory_limit=0)
    path.write_bytes(whole[:100])
    with pytest.raises(Missing, match="can no longer be read, as "), readable(data):
        list(Batches(data.train, 4).dataset().take(20))
    path.write_bytes(whole)
    (sharded / records.INDEX).write_bytes(b"")
    with pytest.raises(Missing, match="cannot read .*index.npz"):
        images.from_folder(sharded, Split(), 16)


def test_new_data_for_evaluation_may_be_shards(source, sharded):
    reader = images.reader_of(16, 3, "pad")
    ours, theirs = (images.read_labelled(reader, ["dog"], one) for one in (sharded, source))
    assert list(ours[0].names) == list(theirs[0].names) and np.array_equal(ours[0].features, theirs[0].features)
    assert {one.name for one in ours[1]} == {one.name for one in theirs[1]} and not ours[0].labels.any()


@pytest.mark.e2e
@pytest.mark.slow
def test_a_training_on_shards_ends_in_the_weights_of_one_on_the_folder(source, tmp_path, capsys):
    assert main(["data", "shard", str(source), str(tmp_path / "shards"), "--size", "32", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == 26 and len(told["shards"]) == 1 and len(told["dropped"]) == 3
    words = ["size=32", "fit.epochs=2", "fit.batch_size=8", "filters=2", "units=4"]
    for name, folder in (("one", source), ("other", tmp_path / "shards")):
        assert main(["train", "image_folder", f"folder={folder}", *words, "--run", str(tmp_path / name)]) == 0
    with np.load(tmp_path / "one/predictions.npz") as one, np.load(tmp_path / "other/predictions.npz") as other:
        assert all((one[name] == other[name]).all() for name in one.files)
    assert main(["evaluate", str(tmp_path / "one"), "--data", str(tmp_path / "shards")]) == 0
