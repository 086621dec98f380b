from __future__ import annotations

import io
import shutil
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tfapp.data import arrays, images
from tfapp.errors import Missing, Usage
from tfapp.settings import Split

RANDOM = np.random.default_rng(0)


def picture(height=20, width=30, seed=0) -> Image.Image:
    """A smooth picture without symmetry, so that a wrong turn shows and JPEG keeps it."""
    y, x = np.mgrid[:height, :width]
    red, green, blue = 255 * x / width, 255 * y / height, (x * y + 37 * seed) % 256
    return Image.fromarray(np.stack([red, green, blue], -1).astype(np.uint8))


def save(path: Path, image: Image.Image | None = None, orientation: int = 1, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = image or picture(seed=seed)
    options = {"exif": exif} if orientation > 1 else {}
    image.save(path, **({"quality": 95} if path.suffix == ".jpg" else {}), **options)
    return path


@pytest.fixture
def animals(tmp_path) -> Path:
    for i in range(20):
        save(tmp_path / "animals" / ("cat", "dog")[i % 2] / f"{i:02}.png", seed=i)
    return tmp_path / "animals"


def reasons(dropped) -> dict[str, str]:
    return {one.name: one.reason for one in dropped}


@pytest.mark.moderate
def test_a_folder_per_class_becomes_sorted_classes_and_named_examples(animals):
    data = images.from_folder(animals, Split(validation=0.2, test=0.2), 16)
    assert data.classes == ("cat", "dog") and data.kind == "image"
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 4, 4)
    assert data.train.features.shape == (12, 16, 16, 3) and data.train.features.dtype == np.uint8
    for name, label in zip(data.train.names, data.train.labels, strict=True):
        assert name.split("/")[0] == data.classes[label]
    assert data.reader == {"height": 16, "width": 16, "channels": 3, "dtype": "uint8", "resize": "pad"}


@pytest.mark.moderate
def test_a_folder_that_was_moved_is_split_the_same_way(animals, tmp_path):
    here = images.from_folder(animals, Split(), 8)
    shutil.move(animals, tmp_path / "moved")
    assert list(images.from_folder(tmp_path / "moved", Split(), 8).test.names) == list(here.test.names)


@pytest.mark.moderate
def test_images_in_memory_and_images_decoded_on_the_fly_are_split_and_decoded_alike(animals):
    import tensorflow as tf

    save(animals / "cat" / "turned.jpg", orientation=6)
    inside = images.from_folder(animals, Split(), (12, 16), resize="crop")
    outside = images.from_folder(animals, Split(), (12, 16), resize="crop", memory_limit=0)
    assert outside.train.load is not None and "on the fly" in outside.notes[0] and "in memory" in inside.notes[0]
    for ours, theirs in zip((inside.train, inside.test), (outside.train, outside.test), strict=True):
        assert list(ours.names) == list(theirs.names)
        loaded = tf.data.Dataset.from_tensor_slices(theirs.features).map(theirs.load)
        assert loaded.element_spec.shape == (12, 16, 3)
        np.testing.assert_array_equal(np.stack(list(loaded.as_numpy_iterator())), ours.features)


@pytest.mark.moderate
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_turned_by_exif_stands_upright(tmp_path, orientation):
    path = save(tmp_path / "a.jpg", picture(24, 36), orientation)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    reader = {"height": upright.shape[0], "width": upright.shape[1], "channels": 3, "dtype": "uint8", "resize": "pad"}
    found, _, dropped = images.read_new(reader, [path])
    assert not dropped
    np.testing.assert_array_equal(found[0], upright)


@pytest.mark.parametrize("orientation", [None, 0, 1, 6, 8, 9])
@pytest.mark.parametrize("order", [b"II*\0", b"MM\0*"])
@pytest.mark.parametrize("more", [b"", b'http://ns.adobe.com/xap/1.0/\0<a tiff:Orientation="3"/>', b"Exif\0\0II*\0"])
def test_a_small_jpeg_s_orientation_is_the_one_that_pillow_tells(tmp_path, monkeypatch, orientation, order, more):
    sign = "<" if order[:1] == b"I" else ">"
    fields = [(0x010F, 2, 4, 0), *([(0x0112, 3, 1, orientation)] if orientation is not None else [])]
    tiff = order + struct.pack(f"{sign}IH", 8, len(fields))
    tiff += b"".join(struct.pack(f"{sign}HHIHxx", *field) for field in fields) + bytes(4)
    segments = [b"Exif\0\0" + tiff, *([more] if more else [])]
    whole = encoded("JPEG")
    head = b"".join(b"\xff\xe1" + struct.pack(">H", len(one) + 2) + one for one in segments)
    (tmp_path / "a.jpg").write_bytes(whole[:2] + head + whole[2:])
    told = images.inspect(tmp_path / "a.jpg")
    monkeypatch.setattr(images, "_inspect_plain", lambda path: None)
    assert told.orientation == images.inspect(tmp_path / "a.jpg").orientation


@pytest.mark.moderate
@pytest.mark.parametrize("resize", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_decoded_at_a_part_of_its_size_is_the_picture_made_smaller(tmp_path, resize, orientation):
    path = save(tmp_path / "a.jpg", picture(12, 16).resize((1000, 700), Image.Resampling.BICUBIC), orientation)
    whole = save(tmp_path / "a.png", ImageOps.exif_transpose(Image.open(path)))
    reader = {"height": 60, "width": 90, "channels": 3, "dtype": "uint8", "resize": resize}
    (small, wanted), _, _ = images.read_new(reader, [path, whole])
    assert np.abs(small.astype(float) - wanted).mean() < 1.5


@pytest.mark.moderate
@pytest.mark.parametrize("resize", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpegs_are_decoded_alike_in_batches_of_one_size_one_by_one_and_in_a_graph(
    tmp_path, monkeypatch, resize, channels
):
    for i in range(10):
        save(tmp_path / f"{i}.jpg", picture(31, 23, i), 6 if i == 3 else 1)
        save(tmp_path / f"larger{i}.jpg", picture(77, 90, i))
    content = (tmp_path / "5.jpg").read_bytes()
    (tmp_path / "5.jpg").write_bytes(content[: len(content) // 2] + b"\xff\xff\xff\xc1" * 40 + b"\xff\xd9")
    found = []
    for alike, few in ((2, 0), (1000, 1000), (1000, 0)):
        monkeypatch.setattr(images, "ALIKE", alike)
        monkeypatch.setattr(images, "FEW", few)
        found.append(images.read_new(images.reader_of((17, 19), channels, resize), [tmp_path]))
    assert all(one[1:] == found[0][1:] for one in found) and len(found[0][1]) > 15
    for one in found:
        np.testing.assert_array_equal(one[0], found[0][0])


@pytest.mark.parametrize("box", [41, 47, 96])
def test_the_place_of_an_image_is_worked_out_alike_in_a_graph_and_without(box):
    """41 and 47 are such that twice that times its reciprocal is not 2."""
    import tensorflow as tf

    def places(size):
        crop = images._fitting([box, box // 2], size[0], size[1])
        return images._shrinking(size, box, box, "pad"), images._fitting(size, box, box // 2), crop

    sizes = [[i, j] for i in (5, box, 2 * box, 4 * box) for j in range(1, 400, 7)]
    mapped = tf.data.Dataset.from_tensor_slices(sizes).map(places).as_numpy_iterator()
    for size, there in zip(sizes, mapped, strict=True):
        for one, other in zip(places(tf.constant(size)), there, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_png_turned_by_exif_stands_upright(tmp_path):
    path = save(tmp_path / "a.png", picture(24, 36), 6)
    assert images.inspect(path) == images.Head(6)


@pytest.mark.moderate
@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", "jpg"), ("L", "jpg"), ("CMYK", "jpg"), ("RGB", "png"), ("RGBA", "png"), ("LA", "png"), ("P", "png")]
    + [("1", "png"), ("I;16", "png"), ("L", "png"), ("P", "gif"), ("RGB", "bmp"), ("L", "bmp"), ("P", "bmp")]
    + [("1", "bmp"), ("RGBA", "bmp")],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_file_is_read_as_colour_or_grey(tmp_path, mode, suffix, channels):
    image = picture()
    image = image.convert("L").convert(mode) if mode in ("1", "I;16") else image.convert(mode)
    path = save(tmp_path / f"a.{suffix}", image)
    reader = {"height": 20, "width": 30, "channels": channels, "dtype": "uint8", "resize": "stretch"}
    found, names, dropped = images.read_new(reader, [path])
    assert found.shape == (1, 20, 30, channels) and not dropped and names == [f"a.{suffix}"]
    if mode in ("RGB", "L", "P", "1"):
        wanted = np.asarray(Image.open(path).convert("RGB").convert("RGB" if channels == 3 else "L"), np.int16)
        assert np.abs(found[0].astype(np.int16) - wanted.reshape(20, 30, channels)).max() <= 2


@pytest.mark.moderate
def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    reader = {"height": 8, "width": 8, "channels": 3, "dtype": "uint8", "resize": "pad"}
    found, _, _ = images.read_new(reader, [tmp_path / "a.gif"])
    assert found[0, 4, 4].tolist() == [255, 0, 0]


@pytest.mark.moderate
def test_pad_keeps_the_whole_image_crop_fills_and_stretch_fills(tmp_path):
    path = save(tmp_path / "a.png", Image.new("RGB", (40, 20), "white"))
    black = {}
    for resize in ("pad", "crop", "stretch"):
        reader = {"height": 20, "width": 20, "channels": 3, "dtype": "uint8", "resize": resize}
        black[resize] = int((images.read_new(reader, [path])[0] == 0).all(-1).sum())
    assert black == {"pad": 200, "crop": 0, "stretch": 0}


@pytest.mark.moderate
def test_a_sliver_keeps_at_least_one_pixel(tmp_path):
    path = save(tmp_path / "a.png", Image.new("RGB", (1000, 1), "white"))
    for resize in ("pad", "crop", "stretch"):
        reader = {"height": 8, "width": 8, "channels": 3, "dtype": "uint8", "resize": resize}
        assert images.read_new(reader, [path])[0].shape == (1, 8, 8, 3)


@pytest.mark.moderate
def test_files_are_told_by_content_and_not_by_name(animals):
    shutil.move(animals / "cat/00.png", animals / "cat/00.jpg")
    shutil.move(animals / "cat/02.png", animals / "cat/no-suffix")
    data = images.from_folder(animals, Split(), 16)
    assert not data.dropped and sum(map(len, (data.train, data.validation, data.test))) == 20


@pytest.mark.moderate
def test_unreadable_files_are_dropped_with_a_reason_and_hidden_ones_skipped(animals):
    whole = save(animals / "cat/whole.jpg", picture(200, 300)).read_bytes()
    (animals / "cat/half.jpg").write_bytes(whole[: len(whole) // 2])
    (animals / "cat/half.png").write_bytes((animals / "cat/00.png").read_bytes()[:-30])
    picture().save(animals / "cat/half.bmp")
    (animals / "cat/half.bmp").write_bytes((animals / "cat/half.bmp").read_bytes()[:-100])
    picture().save(animals / "cat/half.gif")
    (animals / "cat/half.gif").write_bytes((animals / "cat/half.gif").read_bytes()[:-100])
    (animals / "cat/empty.jpg").touch()
    (animals / "cat/notes.txt").write_text("hello")
    (animals / "cat/.hidden.jpg").touch()
    (animals / ".cache").mkdir()
    save(animals / "beside.png")
    data = images.from_folder(animals, Split(), 16)
    assert reasons(data.dropped) == {
        "cat/half.jpg": "truncated JPEG",
        "cat/half.png": reasons(data.dropped)["cat/half.png"],
        "cat/half.bmp": "damaged image: image file is truncated (84 bytes not processed)",
        "cat/half.gif": "truncated GIF",
        "cat/empty.jpg": "the file is empty",
        "cat/notes.txt": "not a JPEG, PNG, GIF or BMP image",
        "beside.png": "not in a class folder, so without a label",
    }
    assert sum(map(len, (data.train, data.validation, data.test))) == 21


def test_a_jpeg_with_a_long_trailer_is_whole(tmp_path):
    path = save(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes() + bytes(200_000))
    assert images.inspect(path) == images.Head(1)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG whose checksum is right, whatever is in it."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(pixels: bytes) -> bytes:
    """A PNG of 20×20 colour pixels whose only pixel chunk holds these bytes."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 20, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def encoded(form: str, **options) -> bytes:
    buffer = io.BytesIO()
    (picture(200, 300).convert("P") if form == "GIF" else picture(200, 300)).save(buffer, form, **options)
    return buffer.getvalue()


def flipped(content: bytes, share: float) -> bytes:
    place = int(share * len(content))
    return content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]


def run_length_bmp(rows: bytes) -> bytes:
    """A BMP of 8×8 pixels in 256 colours, compressed by run lengths."""
    palette = bytes(range(256)) * 4
    head = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 8, 1, len(rows), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(rows), 0, 0, 54 + 1024) + head + palette + rows


WHOLE = {
    "whole.jpg": encoded("JPEG"),
    "whole-progressive.jpg": encoded("JPEG", progressive=True),
    "whole.png": encoded("PNG"),
    "whole-by-hand.png": png(zlib.compress(b"".join(b"\0" + bytes(range(60)) for _ in range(20)))),
    "whole.gif": encoded("GIF"),
    "whole.bmp": encoded("BMP"),
    "whole-rle.bmp": run_length_bmp(b"\x08\x05\0\0" * 8 + b"\0\1"),
}
DAMAGED = {
    **{
        f"{share}-of-{name}": content[: int(share * len(content))]
        for name, content in WHOLE.items()
        for share in (0.05, 0.3, 0.5, 0.9, 0.99)
        if "rle" not in name
    },
    # The thumbnail in its head brings an end marker along, but the picture's own pixels never come.
    "thumbnail.jpg": (lambda whole: whole[:2] + b"\xff\xe1\x10\x00" + whole[: 0x1000 - 4] + b"\xff\xd9")(
        WHOLE["whole.jpg"]
    ),
    **{f"flipped-at-{share}.png": flipped(WHOLE["whole.png"], share) for share in (0.01, 0.3, 0.6, 0.99)},
    "no-stream.png": png(b"no zlib stream"),
    "nothing.png": png(b""),
    "half-stream.png": png(zlib.compress(RANDOM.bytes(1220))[:600]),
    "half-the-rows.png": png(zlib.compress(bytes(61 * 10))),
    "flipped.gif": flipped(WHOLE["whole.gif"], 0.3),
    "half-closed.gif": WHOLE["whole.gif"][: len(WHOLE["whole.gif"]) // 2] + b"\0;",
    "half-rle.bmp": run_length_bmp(b"\x08\x05\0\0" * 4),
}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> Path:
    """A folder of two classes with a file of each kind of damage among sound ones of each format."""
    folder = tmp_path_factory.mktemp("damaged")
    for i in range(20):
        save(folder / ("cat", "dog")[i % 2] / f"{i:02}.png", seed=i)
    for name, content in (WHOLE | DAMAGED).items():
        (folder / "cat" / name).write_bytes(content)
    return folder


@pytest.mark.moderate
def test_both_ways_of_decoding_leave_out_exactly_the_damaged_files_and_split_the_others_alike(damaged):
    inside = images.from_folder(damaged, Split(validation=0.2, test=0.2), 8)
    outside = images.from_folder(damaged, Split(validation=0.2, test=0.2), 8, memory_limit=0)
    assert {one.name.removeprefix("cat/") for one in inside.dropped} == set(DAMAGED)
    assert inside.dropped == outside.dropped
    assert all(one.reason and "{{" not in one.reason and "[Op" not in one.reason for one in inside.dropped)
    parts = [(data.train, data.validation, data.test) for data in (inside, outside)]
    assert sum(map(len, parts[0])) == 20 + len(WHOLE)
    for ours, theirs in zip(*parts, strict=True):
        assert list(ours.names) == list(theirs.names) and list(ours.labels) == list(theirs.labels)
        each = [np.asarray(theirs.load({k: v[i] for k, v in theirs.features.items()})) for i in range(len(theirs))]
        np.testing.assert_array_equal(np.stack(each), ours.features)


@pytest.mark.moderate
@pytest.mark.parametrize("memory_limit", [None, 0])
def test_damage_that_only_decoding_finds_is_dropped_with_its_reason(animals, memory_limit):
    (animals / "cat/hollow.png").write_bytes(DAMAGED["no-stream.png"])
    assert images.inspect(animals / "cat/hollow.png") == images.Head(1)
    data = images.from_folder(animals, Split(), 16, memory_limit=memory_limit)
    assert reasons(data.dropped) == {"cat/hollow.png": "damaged image: Invalid PNG data, size 71"}
    assert data.notes[0].startswith("20 images in 2 classes")


@pytest.mark.moderate
@pytest.mark.parametrize("memory_limit", [None, 0])
def test_a_class_of_which_no_file_can_be_decoded_is_no_class(animals, memory_limit):
    for path in (animals / "dog").iterdir():
        path.write_bytes(DAMAGED["no-stream.png"])
    with pytest.raises(Missing, match=r"(?s)only one class, 'cat'.*10 files were left out.*damaged image"):
        images.from_folder(animals, Split(), 16, memory_limit=memory_limit)


@pytest.mark.moderate
@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from(["JPEG", "PNG", "GIF", "BMP"]),
    cut=st.floats(0, 1),
    noise=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
)
def test_no_damage_to_a_file_ever_raises(form, cut, noise):
    buffer = io.BytesIO()
    picture().save(buffer, form)
    content = bytearray(buffer.getvalue())
    for where, value in noise:
        content[int(where * (len(content) - 1))] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a")
        path.write_bytes(content[: int(cut * len(content))] if cut < 0.9 else content)
        assert isinstance(images.inspect(path), images.Head | str)
        reader = {"height": 8, "width": 8, "channels": 3, "dtype": "uint8", "resize": "pad"}
        found, names, dropped = images.read_new(reader, [path])
        assert len(found) == len(names) == 1 - len(dropped)


def test_copies_of_a_file_stay_in_one_part(tmp_path):
    for i in range(60):
        save(tmp_path / "ab"[i % 2] / f"{i}.png", seed=i // 6 * 2 + i % 2)
    data = images.from_folder(tmp_path, Split(validation=0.2, test=0.2), 8, memory_limit=0)
    seen = [
        {Path(path).read_bytes() for path in part.features["path"]} for part in (data.train, data.validation, data.test)
    ]
    assert all(seen) and not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert "40 images are copies of others" in data.notes[1]


@pytest.mark.moderate
@pytest.mark.parametrize("validation", ["val", "validation", None])
def test_given_train_and_test_folders_are_respected(tmp_path, validation):
    for part in filter(None, ("train", "test", validation)):
        for i in range(10):
            save(tmp_path / part / "ab"[i % 2] / f"{i}.png", seed=hash((part, i)) % 1000)
    save(tmp_path / "test/new/1.png", seed=5)
    save(tmp_path / "test/stray.png")
    data = images.from_folder(tmp_path, Split(validation=0.2), 8)
    assert (len(data.train), len(data.validation), len(data.test)) == ((10, 10, 10) if validation else (8, 2, 10))
    assert all(name.startswith("test/") for name in data.test.names)
    assert reasons(data.dropped) == {
        "test/new/1.png": "label 'new' was never seen in training",
        "test/stray.png": "not in a class folder, so without a label",
    }


def test_given_parts_that_share_a_file_are_noted(tmp_path):
    for part in ("train", "test"):
        for i in range(10):
            save(tmp_path / part / "ab"[i % 2] / f"{i}.png", seed=i)
    data = images.from_folder(tmp_path, Split(validation=0), 8)
    assert len(data.test) == 10
    assert any("10 of 10 test examples are also in the training part" in note for note in data.notes)


def test_classes_may_be_called_train_and_bus(tmp_path):
    for i in range(10):
        save(tmp_path / ("train", "bus")[i % 2] / f"{i}.png", seed=i)
    assert images.from_folder(tmp_path, Split(), 8).classes == ("bus", "train")


@pytest.mark.moderate
def test_one_class_no_image_and_no_folder_are_missing_with_help(tmp_path):
    with pytest.raises(Missing, match="image folder not found"):
        images.from_folder(tmp_path / "none", Split(), 8)
    with pytest.raises(Missing, match="one sub-folder a class"):
        images.from_folder(tmp_path, Split(), 8)
    save(tmp_path / "only/1.png")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/broken.png").write_text("x")
    with pytest.raises(Missing, match=r"(?s)only one class, 'only'.*other/broken.png: not a JPEG"):
        images.from_folder(tmp_path, Split(), 8)
    (tmp_path / "other/broken.png").unlink()
    with pytest.raises(Missing, match=r"only one class, 'only', in .*: classification needs two$"):
        images.from_folder(tmp_path, Split(), 8)
    (tmp_path / "other/broken.png").write_text("x")
    (tmp_path / "only/1.png").unlink()
    with pytest.raises(Missing, match="no readable image"):
        images.from_folder(tmp_path, Split(), 8)
    with pytest.raises(Usage, match="not a folder"):
        images.from_folder(tmp_path / "other/broken.png", Split(), 8)


@pytest.mark.parametrize("head", ["", "path,label\n", "Label,note,Path\n"])
def test_a_csv_names_files_relative_to_itself(animals, head):
    lines = [f"{name}/{i:02}.png" for i, name in enumerate(["cat", "dog"] * 10)]
    row = "{label},,{path}" if head.startswith("L") else "{path},{label}"
    text = head + "\n".join(row.format(path=line, label=line[:3]) for line in lines)
    (animals / "list.csv").write_text(text, encoding="utf-8-sig")
    data = images.from_csv(animals / "list.csv", Split(), 8)
    assert data.classes == ("cat", "dog") and not data.dropped
    assert sum(map(len, (data.train, data.validation, data.test))) == 20


def test_bad_lines_of_a_csv_are_dropped_with_a_reason(animals):
    good = "".join(f"{name}/{i:02}.png,{name}\n" for i, name in enumerate(["cat", "dog"] * 10))
    (animals / "list.csv").write_text("path,label\n" + good + "cat/99.png,cat\ncat/00.png\n\n,dog\n")
    data = images.from_csv(animals / "list.csv", Split(), 8)
    assert reasons(data.dropped) == {
        "cat/99.png": "file not found",
        "cat/00.png": "line 23 has no label",
        "list.csv:25": "line 25 has no path",
    }


def test_a_split_column_is_respected_and_a_mistyped_one_refused(animals):
    def write(part):
        lines = [f"{n}/{i:02}.png,{n},{part if i > 15 else ''}" for i, n in enumerate(["cat", "dog"] * 10)]
        (animals / "list.csv").write_text("path,label,split\n" + "\n".join(lines))

    write("test")
    data = images.from_csv(animals / "list.csv", Split(), 8)
    assert sorted(data.test.names) == ["cat/16.png", "cat/18.png", "dog/17.png", "dog/19.png"]
    assert len(data.validation) == 2
    write("tset")
    with pytest.raises(Usage, match="line 18: split 'tset'"):
        images.from_csv(animals / "list.csv", Split(), 8)


def test_a_csv_that_is_none_is_refused(tmp_path):
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Usage, match="CSV in UTF-8"):
        images.from_csv(tmp_path / "binary.csv", Split(), 8)
    (tmp_path / "empty.csv").touch()
    with pytest.raises(Missing, match="no image named"):
        images.from_csv(tmp_path / "empty.csv", Split(), 8)


@pytest.mark.moderate
def test_predict_reads_files_folders_and_arrays(animals, tmp_path):
    reader = {"height": 20, "width": 30, "channels": 3, "dtype": "uint8", "resize": "pad"}
    np.save(tmp_path / "two.npy", RANDOM.integers(0, 256, (2, 20, 30, 3), np.uint8))
    (animals / "dog/broken.png").write_text("x")
    found, names, dropped = images.read_new(reader, [animals / "cat/00.png", animals / "dog", tmp_path / "two.npy"])
    assert found.shape == (13, 20, 30, 3)
    assert names[:2] == ["00.png", "dog/01.png"] and names[-1] == "two.npy:1"
    assert reasons(dropped) == {"dog/broken.png": "not a JPEG, PNG, GIF or BMP image"}
    with pytest.raises(Missing, match="image file or folder not found"):
        images.read_new(reader, [animals / "none.png"])


def test_image_files_are_read_for_a_model_of_small_grey_arrays(tmp_path):
    white = np.full((30, 8, 8, 1), 16, np.float32) * (np.arange(30) % 2)[:, None, None, None]
    data = arrays.split(white, np.arange(30) % 2, Split(), kind="image", pixel_max=16)
    save(tmp_path / "a.png", Image.new("RGB", (50, 50), "white"))
    found, _, _ = images.read_new(data.reader, [tmp_path / "a.png"])
    assert found.shape == (1, 8, 8, 1) and found.dtype == np.float32
    np.testing.assert_allclose(found, 16, atol=1e-2)


@pytest.mark.moderate
def test_evaluate_reads_labelled_folders_and_csvs_and_drops_unknown_labels(animals):
    reader = {"height": 8, "width": 8, "channels": 3, "dtype": "uint8", "resize": "pad"}
    save(animals / "cow/1.png")
    examples, dropped = images.read_labelled(reader, ("dog", "cat"), animals)
    assert len(examples) == 20 and examples.labels[0] == 1 and examples.names[0] == "cat/00.png"
    assert reasons(dropped) == {"cow/1.png": "label 'cow' was never seen in training"}
    (animals / "list.csv").write_text("path,label,split\ncat/00.png,cat,train\ndog/01.png,dog,test\n")
    examples, dropped = images.read_labelled(reader, ("dog", "cat"), animals / "list.csv")
    assert list(examples.names) == ["dog/01.png"] and not dropped


def test_an_image_is_turned_against_the_clock_shifted_to_the_left_and_up_and_enlarged_about_its_middle():
    image = RANDOM.integers(0, 256, (9, 9, 3)).astype(np.float32)
    turned = images.moved(image, [0.0, 0.0], np.pi / 2, 1.0)
    np.testing.assert_allclose(turned, np.rot90(image), atol=0.1)
    shifted = images.moved(image, [2 / 9, 1 / 9], 0.0, 1.0)
    np.testing.assert_allclose(shifted[:-1, :-2], image[1:, 2:], atol=0.1)
    larger = images.moved(image, [0.0, 0.0], 0.0, 2.0)
    np.testing.assert_allclose(larger[::2, ::2], image[2:7, 2:7], atol=0.1)


@pytest.mark.moderate
def test_real_photographs_are_read_whole(shared_data):
    data = images.from_folder(shared_data / "sign_digits", Split(), 32, memory_limit=0)
    assert not data.dropped and len(data.classes) == 10
    parts = (data.train, data.validation, data.test)
    assert sum(map(len, parts)) == 2062
    assert sum(int((part.features["orientation"] == 6).sum()) for part in parts) == 3
