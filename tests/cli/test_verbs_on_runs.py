"""The verbs on finished runs of every kind of data, given what a person may give them, right and wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tfapp.cli.main import main

SMALL = str(Path(__file__).parent.parent / "fixtures" / "small.py")
RANDOM = np.random.default_rng(0)

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


def table(path: Path, rows: list[tuple[object, ...]], header: str = "a,b,class,y") -> str:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Tables and texts, whole and wrong."""
    folder = tmp_path_factory.mktemp("files")
    a, b = RANDOM.normal(size=(2, 90)).round(3)
    c = RANDOM.choice(["x", "y", "z"], 90)
    table(folder / "classes.csv", [(i, j, k, "yes" if i + j > 0 else "no") for i, j, k in zip(a, b, c, strict=True)])
    table(folder / "values.csv", [(i, j, k, 2 * i + j) for i, j, k in zip(a, b, c, strict=True)])
    table(folder / "foreign.csv", [(i, j, k, "maybe") for i, j, k in zip(a, b, c, strict=True)])
    table(folder / "new.csv", [(0.5, 1, "x"), ("hello", 2, "unseen"), (1, "", "")], "a,b,class")
    table(folder / "lacking.csv", [(0.5, "x"), (1, "y")], "a,class")
    table(
        folder / "texts.csv", [(f"good {i}", "pos") if i % 2 else (f"bad {i}", "neg") for i in range(60)], "text,label"
    )
    (folder / "empty.csv").touch()
    (folder / "binary.csv").write_bytes(bytes(range(256)))
    np.save(folder / "nan.npy", np.full((2, 6, 6, 1), np.nan, np.float32))
    np.save(folder / "mixed.npy", np.stack([np.full((6, 6, 1), value, np.float32) for value in (0, np.nan, 1)]))
    np.save(folder / "shape.npy", np.zeros((2, 5, 5, 1), np.float32))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, files) -> dict[str, str]:
    """A finished run of each kind of data; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    words = {
        "array": [SMALL],
        "classes": ["tabular", f"data={files}/classes.csv", "target=y"],
        "values": ["tabular", f"data={files}/values.csv", "target=y"],
        "text": ["text_classification", f"data={files}/texts.csv", "vocabulary=100"],
    }
    for name, given in words.items():
        assert main(["train", *given, "fit.epochs=1", "--run", str(folder / name)]) == 0
    return {name: str(folder / name) for name in words}


@pytest.fixture
def copy(trained, tmp_path) -> Path:
    """A run to spoil."""
    return shutil.copytree(trained["array"], tmp_path / "copy")


def said(capsys) -> list[str]:
    """The lines of an error, of which there are one to three, without a traceback."""
    lines = capsys.readouterr().err.splitlines()
    while lines and not lines[0].startswith("error: "):
        lines.pop(0)  # what was told before it
    assert 1 <= len(lines) <= 3 and not any("Traceback" in line for line in lines)
    return lines


@pytest.mark.parametrize(("kind", "file", "rows"), [("classes", "new", 3), ("values", "new", 3), ("text", "texts", 60)])
def test_a_table_or_a_file_of_texts_is_predicted_row_by_row(trained, files, kind, file, rows, capsys):
    assert main(["predict", trained[kind], f"{files}/{file}.csv"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.startswith("name,y" if kind != "text" else "name,label") and len(lines) == rows
    assert lines[0].startswith(f"{file}.csv:2,")
    assert main(["predict", trained[kind], f"{files}/{file}.csv", "--json"]) == 0
    assert len([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == rows


@pytest.mark.parametrize(
    ("kind", "file", "code", "told"),
    [
        ("classes", "lacking.csv", 2, "the model needs the column 'b'"),
        ("classes", "empty.csv", 5, "is empty"),
        ("classes", "binary.csv", 5, "is not UTF-8 text"),
        ("classes", "nowhere.csv", 5, "not found"),
        ("text", "new.csv", 2, "has no column 'text'"),
        ("text", "binary.csv", 5, "is not UTF-8 text"),
        ("array", "nan.npy", 5, "holds NaN or infinity"),
        ("array", "shape.npy", 2, "an array of shape [2, 5, 5, 1]"),
        ("array", "classes.csv", 5, "not a JPEG, PNG, GIF or BMP image"),
    ],
)
def test_what_cannot_be_predicted_is_told(trained, files, kind, file, code, told, capsys):
    assert main(["predict", trained[kind], f"{files}/{file}"]) == code
    assert told in said(capsys)[0]


def test_an_example_that_holds_nan_is_left_out_by_name(trained, files, capsys):
    assert main(["predict", trained["array"], f"{files}/mixed.npy"]) == 0
    out, err = capsys.readouterr()
    assert [line.split(",")[0] for line in out.splitlines()] == ["name", "mixed.npy:0", "mixed.npy:2"]
    assert err == "left out mixed.npy:1: holds NaN or infinity\n"


def test_an_output_that_cannot_be_is_told_and_leaves_what_is_there(trained, files, tmp_path, capsys):
    (tmp_path / "mine").write_text("mine")
    for words in (
        ["predict", trained["classes"], f"{files}/new.csv", "--output", f"{tmp_path}/mine/new.csv"],
        ["export", trained["array"], "--format", "keras", "--output", f"{tmp_path}/mine/model.keras"],
        ["compare", trained["classes"], trained["values"], "--html", f"{tmp_path}/mine/page.html"],
    ):
        assert main(words) == 2
        assert "cannot make the folder" in said(capsys)[0]
    assert (tmp_path / "mine").read_text() == "mine"


def test_foreign_classes_are_left_out_and_counted_and_nothing_else_is_an_error(trained, files, capsys, tmp_path):
    run = shutil.copytree(trained["classes"], tmp_path / "run")
    assert main(["evaluate", str(run), "--data", f"{files}/foreign.csv"]) == 5
    assert "no row with a label that the model knows" in said(capsys)[0]
    lines = (files / "foreign.csv").read_text() + "1,1,x,yes\n"
    (tmp_path / "mixed.csv").write_text(lines)
    assert main(["evaluate", str(run), "--data", f"{tmp_path}/mixed.csv"]) == 0
    out, err = capsys.readouterr()
    assert "left out 90 examples" in err and "of 1 unseen example right" in out
    # The report's calibration is of the run's own test part.
    assert "calibration" not in out


def test_runs_of_different_tasks_are_set_side_by_side_and_not_compared(trained, capsys):
    assert main(["compare", trained["classes"], trained["values"], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pairs"] == [] and found["unpaired"] == ["values"]
    assert found["rows"]["accuracy"][1] is None and found["rows"]["rmse"][0] is None
    assert main(["compare", trained["classes"], trained["values"]]) == 0
    assert "values: tested on other examples than classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "form"), [(k, f) for k in ("classes", "values", "text") for f in ("savedmodel", "keras")]
)
def test_every_kind_of_model_is_exported_and_checked(trained, kind, form, tmp_path, capsys):
    words = ["export", trained[kind], "--format", form, "--output", str(tmp_path / "model.keras"), "--no-measure"]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["max_difference"] < 1e-4
    assert main(words) == 2
    assert "exists already, and is left as it is" in said(capsys)[0]


@pytest.mark.parametrize(
    ("kind", "file"), [("classes", "classes"), ("values", "values"), ("text", "texts"), ("array", "mixed")]
)
def test_a_tflite_file_answers_as_its_run_does(trained, files, kind, file, tmp_path, capsys):
    path, new = tmp_path / "model.tflite", str(files / f"{file}.{'npy' if kind == 'array' else 'csv'}")
    assert main(["export", trained[kind], "--format", "tflite", "--output", str(path), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written["max_difference"] < 1e-5 and written["measured"]["change"]["value"] == pytest.approx(0, abs=1e-5)
    assert path.with_suffix(".preprocess").is_dir() == (kind != "array")
    answers = []
    for model in (trained[kind], str(path)):
        assert main(["predict", model, new, "--json"]) == 0
        answers.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    for a, b in zip(*answers, strict=True):
        for key, value in a.items():
            assert b[key] == pytest.approx(value, abs=1e-5) if isinstance(value, float) else b[key] == value
    if kind == "array":
        return
    measured = []
    for model in (trained[kind], str(path)):
        assert main(["evaluate", model, "--data", new, "--json"]) == 0
        measured.append(json.loads(capsys.readouterr().out))
    main_score = "mae" if kind == "values" else "accuracy"
    assert measured[1]["scores"][main_score]["value"] == pytest.approx(
        measured[0]["scores"][main_score]["value"], abs=1e-5
    )
    assert main(["evaluate", str(path)]) == 2
    assert "does not hold the data it was tested on" in said(capsys)[0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--format", "keras", "--quantize", "int8"], "--quantize is for TFLite files, not for keras"),
        (["--format", "tflite", "--representative", "64"], "--representative means nothing to --quantize none"),
        (["--format", "tflite", "--quantize", "dynamic", "--io", "int8"], "--io means nothing to --quantize dynamic"),
        (["--format", "tflite", "--quantize", "int8", "--representative", "8"], "--representative 8 is too few"),
        (["--format", "tflite", "--quantize", "int8", "--tolerance", "-1"], "'--tolerance': -1.0 is not in the range"),
    ],
)
def test_what_nobody_would_read_is_refused(trained, words, told, capsys):
    assert main(["export", trained["array"], *words]) == 2
    assert told in said(capsys)[0]


def test_a_model_with_code_of_its_own_is_not_loaded_but_exported_as_it_was_saved(copy, capsys):
    import tf_keras as keras

    layers = [
        keras.Input((6, 6, 1)),
        keras.layers.Lambda(lambda x: 2 * x),
        keras.layers.Flatten(),
        keras.layers.Dense(3),
    ]
    keras.Sequential(layers).save(copy / "model.keras")
    assert main(["export", str(copy), "--format", "keras"]) == 3
    assert "is not loaded, since it needs code of its own" in said(capsys)[0]
    assert not list((copy / "exports").glob("*"))
    for form in ("savedmodel", "tflite"):
        assert main(["export", str(copy), "--format", form, "--no-measure"]) == 0


@pytest.mark.parametrize(
    "spoilt", ["model/saved_model.pb", "model/variables/variables.data-00000-of-00001", "model.keras"]
)
def test_a_damaged_model_is_told_not_passed_on_and_had_anew(copy, spoilt, capsys):
    whole = (copy / spoilt).read_bytes()
    (copy / spoilt).write_bytes(whole[: len(whole) // 3])
    form = "keras" if spoilt == "model.keras" else "savedmodel"
    assert main(["export", str(copy), "--format", form]) == 1
    assert "cannot be loaded" in said(capsys)[0]
    assert not list((copy / "exports").glob("*"))
    before = json.loads((copy / "report.json").read_text())["evaluation"]["scores"]
    shutil.rmtree(copy / "model") if form == "savedmodel" else (copy / spoilt).unlink()
    assert main(["train", "-c", str(copy / "plan.yaml"), "--run", str(copy)]) == 0
    assert main(["export", str(copy), "--format", form, "--no-measure"]) == 0
    again = json.loads((copy / "report.json").read_text())
    assert again["evaluation"]["scores"] == before and again["seconds"] > 0


def test_damaged_predictions_are_told_and_measured_again(copy, trained, capsys):
    (copy / "predictions.npz").write_bytes(b"PK\3\4 half")
    assert main(["compare", trained["array"], str(copy)]) == 5
    assert "predictions.npz is damaged" in said(capsys)[0]
    assert main(["evaluate", str(copy)]) == 0
    assert main(["compare", trained["array"], str(copy)]) == 0


@pytest.mark.parametrize(
    ("spoilt", "told"),
    [
        ("ckpt-*.data*", "ckpt-4 is damaged and left out"),
        ("ckpt-*.index", "ckpt-4 is damaged and left out"),
        ("checkpoint", ""),  # TensorFlow's list of them: they are found without.
    ],
)
def test_a_run_whose_checkpoint_is_torn_says_so_and_ends_as_it_would_have(copy, spoilt, told, capsys):
    outputs = np.load(copy / "predictions.npz")["outputs"]
    for path in (copy / "checkpoints").glob(spoilt):
        path.write_bytes(path.read_bytes()[:7])
    (copy / "report.json").unlink()
    capsys.readouterr()
    assert main(["train", "-c", str(copy / "plan.yaml"), "--run", str(copy)]) == 0
    err = capsys.readouterr().err
    assert told in err and ("epoch 1/1" in err) == bool(told)
    np.testing.assert_array_equal(np.load(copy / "predictions.npz")["outputs"], outputs)


def test_lost_best_weights_are_told(copy, capsys):
    (copy / "checkpoints" / "best.npz").write_bytes(b"PK\3\4 half")
    (copy / "report.json").unlink()
    assert main(["train", "-c", str(copy / "plan.yaml"), "--run", str(copy)]) == 5
    lines = said(capsys)
    assert "best.npz, the best weights so far, cannot be read" in lines[0] and "--fresh" in lines[1]


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("lost", ["gone", "torn"])
def test_an_image_lost_while_the_run_reads_it_on_the_fly_is_named(part, lost, tmp_path, monkeypatch, capsys):
    from PIL import Image

    from tfapp.data import images

    for i in range(40):
        path = tmp_path / "photos" / ("cat", "dog")[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RANDOM.integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    read, taken = images.from_folder, []

    def then_lose_one(*args, **settings):
        data = read(*args, **settings, memory_limit=0)
        path = Path(getattr(data, part).features["path"][1])
        taken.append(f"{path.parent.name}/{path.name}")
        path.unlink() if lost == "gone" else path.write_bytes(path.read_bytes()[:300])
        return data

    monkeypatch.setattr(images, "from_folder", then_lose_one)
    words = ["train", "image_folder", f"folder={tmp_path}/photos", "size=32", "filters=2", "fit.epochs=1"]
    assert main([*words, "--run", str(tmp_path / "run")]) == 5
    lines = said(capsys)
    assert f"1 examples can no longer be read, as {taken[0]}" in lines[0] and "put them back" in lines[1]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


def test_a_recipe_that_changed_since_says_which_setting_is_no_more(tmp_path, capsys):
    mine = tmp_path / "mine.py"
    mine.write_text(Path(SMALL).read_text())
    assert main(["train", str(mine), "--steps", "1", "--run", str(tmp_path / "run")]) == 0
    mine.write_text(mine.read_text().replace("flip", "mirror"))
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    lines = said(capsys)
    assert "no setting 'config.flip'" in lines[0] and "plan.yaml" in lines[0]
