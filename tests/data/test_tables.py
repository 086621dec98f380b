import csv

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfapp.data import tables
from tfapp.errors import Missing, Usage
from tfapp.settings import Split

HEADER = "age,job,member,target\n"
ROWS = "".join(
    f"{20 + i % 30}.5,{'abc'[i % 3]},{'yes' if i % 4 else 'no'},{'good' if i % 2 else 'bad'}\n" for i in range(60)
)


def written(tmp_path, text, name="t.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def whole(data):
    """All examples of the three parts by name."""
    return {
        str(name): {key: column[row] for key, column in part.features.items()} | {"label": part.labels[row]}
        for part in (data.train, data.validation, data.test)
        for row, name in enumerate(part.names)
    }


def test_types_are_inferred_and_said(tmp_path):
    data = tables.read(written(tmp_path, HEADER + ROWS), "target")
    assert [(c["name"], c["type"]) for c in data.reader["columns"]] == [
        ("age", "number"),
        ("job", "category"),
        ("member", "boolean"),
    ]
    assert data.task == "classification" and data.classes == ("bad", "good") and data.kind == "table"
    assert data.train.features["age"].dtype == np.float32 and data.train.features["job"].dtype == object
    assert data.notes == (
        "60 rows; 2 classes of target: bad 50%, good 50%",
        "numbers (1): age",
        "booleans (1): member",
        "categories (1): job (3 values)",
    )


def test_names_are_lines_of_the_file(tmp_path):
    found = whole(tables.read(written(tmp_path, HEADER + ROWS), "target"))
    assert len(found) == 60 and found["t.csv:2"]["age"] == 20.5 and found["t.csv:61"]["age"] == 49.5


def test_a_ragged_row_is_dropped_and_counted(tmp_path):
    data = tables.read(written(tmp_path, HEADER + "1,a,yes\n" + ROWS + "2,a,yes,good,more\n"), "target")
    assert [(row.name, row.reason) for row in data.dropped] == [
        ("t.csv:2", "3 cells where 4 are expected"),
        ("t.csv:63", "5 cells where 4 are expected"),
    ]
    assert len(whole(data)) == 60


def test_lines_are_right_after_a_cell_with_line_breaks_and_a_blank_line(tmp_path):
    data = tables.read(written(tmp_path, HEADER + '5,"x\ny",no,good\n\n' + ROWS + "7\n"), "target")
    assert whole(data)["t.csv:5"]["age"] == 20.5
    assert data.dropped[0].name == "t.csv:65"


def test_a_quote_left_open_is_said(tmp_path):
    data = tables.read(written(tmp_path, HEADER + ROWS + '5,"x,no,good\n6,a,no,bad\n'), "target")
    assert "is a quote left open?" in data.dropped[0].reason


def test_missing_cells_are_nan_and_empty_text(tmp_path):
    data = tables.read(written(tmp_path, HEADER + "?,NA,,good\n" + ROWS), "target")
    row = whole(data)["t.csv:2"]
    assert np.isnan(row["age"]) and row["job"] == "" and np.isnan(row["member"])
    assert "numbers (1): age (1.6% missing)" in data.notes


def test_missing_markers_can_be_chosen(tmp_path):
    data = tables.read(written(tmp_path, HEADER + "-9,NA,no,good\n" + ROWS), "target", missing=["-9"])
    row = whole(data)["t.csv:2"]
    assert np.isnan(row["age"]) and row["job"] == "NA"


def test_a_few_cells_that_are_no_number_are_missing_and_counted(tmp_path):
    data = tables.read(written(tmp_path, HEADER + "old,a,no,good\n1e999,a,no,good\n" + ROWS), "target")
    assert "age: 2 cells are no number and count as missing" in data.notes
    assert np.isnan(whole(data)["t.csv:3"]["age"])


def test_rows_without_a_target_are_dropped(tmp_path):
    data = tables.read(written(tmp_path, HEADER + "1,a,no,\n1,a,no,?\n" + ROWS), "target")
    assert [row.reason for row in data.dropped] == ["target is missing"] * 2


def test_nan_targets_of_a_regression_are_dropped(tmp_path):
    text = "x,y\n" + "".join(f"{i * 0.37:.2f},{i * 1.7:.1f}\n" for i in range(50)) + "3,NaN\n4,inf\n"
    data = tables.read(written(tmp_path, text), "y", task="regression")
    assert data.task == "regression" and data.classes == () and data.train.labels.dtype == np.float32
    assert [row.reason for row in data.dropped] == ["y is missing", "y 'inf' is not a number"]


@pytest.mark.parametrize(
    "cells, task",
    [
        ([0, 1] * 50, "classification"),
        ([1, 2, 3, 4, 5] * 20, "classification"),
        (list(range(100)), "regression"),
        ([0.5, 1.5] * 50, "regression"),
        (["a", "b"] * 50, "classification"),
        ([True, False] * 50, "classification"),
    ],
)
def test_the_task_follows_the_target(tmp_path, cells, task):
    text = "x,y\n" + "".join(f"{i % 7 + 0.5},{cell}\n" for i, cell in enumerate(cells))
    assert tables.read(written(tmp_path, text), "y").task == task


def test_class_numbers_are_in_their_order(tmp_path):
    text = "x,y\n" + "".join(f"{i / 7},{i % 12}\n" for i in range(120))
    assert tables.read(written(tmp_path, text), "y").classes == tuple(str(i) for i in range(12))


def test_types_and_ignored_columns_can_be_overridden(tmp_path):
    data = tables.read(written(tmp_path, HEADER + ROWS), "target", types={"age": "category"}, ignore=["member"])
    assert {c["name"]: c["type"] for c in data.reader["columns"]} == {"age": "category", "job": "category"}
    assert "ignored (1): member (as asked)" in data.notes


def test_columns_that_say_nothing_are_left_out(tmp_path):
    text = "id,uid,same,none,x,y\n" + "".join(f"{i},u{i},k,,{i % 9},{'ab'[i % 2]}\n" for i in range(100))
    data = tables.read(written(tmp_path, text), "y")
    assert [c["name"] for c in data.reader["columns"]] == ["x"]
    assert data.notes[-1] == (
        "ignored (4): id (numbers the rows), uid (a different text in almost every row), "
        "same (the same in every row), none (empty)"
    )


def test_keys_are_plain_identifiers_and_distinct(tmp_path):
    text = "price (€),price_,1st,é,y\n" + "".join(f"{i % 9},{i % 8},{i % 7},{i % 6},{'ab'[i % 2]}\n" for i in range(50))
    data = tables.read(written(tmp_path, text), "y")
    assert list(data.train.features) == ["price", "price_2", "column_1st", "column"]


def test_a_missing_target_names_the_nearest_column(tmp_path):
    with pytest.raises(Usage, match="(?s)no column 'traget': did you mean 'target'.*columns: age, job, member, target"):
        tables.read(written(tmp_path, HEADER + ROWS), "traget")
    with pytest.raises(Usage, match="^no column 'zzz'\ncolumns: age, job, member, target$"):
        tables.read(written(tmp_path, HEADER + ROWS), "zzz")


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        (HEADER, "no row in t.csv"),
        (HEADER + "1,2\n", "no row in t.csv .*t.csv:2: 2 cells where 4 are expected"),
        ("a,a,target\n1,2,x\n", "two columns called 'a'"),
        (HEADER + "1,a,no,good\n2,b,yes,good\n", "only one class, 'good'"),
        (HEADER + "1,a,no,\n2,b,yes,\n", "can be learned from: t.csv:2: target is missing"),
        ("target\nx\ny\n", "no column to learn from"),
    ],
)
def test_a_file_to_learn_nothing_from_is_a_clear_error(tmp_path, text, message):
    with pytest.raises(Missing, match=message):
        tables.read(written(tmp_path, text), "target")


def test_a_file_that_is_not_utf8_says_where_and_what_to_do(tmp_path):
    path = written(tmp_path, HEADER + ROWS + "1,é,no,good\n", encoding="latin1")
    with pytest.raises(Missing, match="(?s)not UTF-8 text .line 62, byte 0xe9.*iconv"):
        tables.read(path, "target")
    with pytest.raises(Missing, match="not UTF-8"):
        tables.read(written(tmp_path, HEADER + ROWS, encoding="utf-16"), "target")


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(tmp_path):
    path = written(tmp_path, (HEADER + ROWS).replace("\n", "\r\n"), encoding="utf-8-sig")
    assert set(tables.read(path, "target").train.features) == {"age", "job", "member"}


@pytest.mark.parametrize("delimiter", ["\t", ";", "|"])
def test_the_delimiter_is_found(tmp_path, delimiter):
    path = written(tmp_path, (HEADER + ROWS).replace(",", delimiter))
    assert len(whole(tables.read(path, "target"))) == 60


def test_a_file_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(Missing, match="not found"):
        tables.read(tmp_path / "no.csv", "target")
    with pytest.raises(Missing, match="no .csv, .tsv, .parquet file"):
        tables.read(str(tmp_path / "*.csv"), "target")


def test_a_broken_parquet_file_is_a_clear_error(tmp_path):
    with pytest.raises(Missing, match="as Parquet"):
        tables.read(written(tmp_path, "PAR1 no", "t.parquet"), "target")


def test_parquet_holds_the_same_as_csv(tmp_path):
    path = written(tmp_path, HEADER + ROWS)
    pd.read_csv(path).to_parquet(tmp_path / "t.parquet")
    one, other = tables.read(path, "target"), tables.read(tmp_path / "t.parquet", "target")
    assert one.reader == other.reader and one.notes == other.notes
    for key, column in one.train.features.items():
        np.testing.assert_array_equal(column, other.train.features[key])


def test_parquet_types_become_numbers_text_or_nothing(tmp_path):
    frame = pd.DataFrame(
        {
            "int": pd.array([1, None, 3] * 20, dtype="Int64"),
            "float": [1.5, np.nan, np.inf] * 20,
            "flag": [True, False, True] * 20,
            "kind": pd.Categorical(["a", "b", "c"] * 20),
            "day": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"] * 20),
            "list": [[1], [2], [3]] * 20,
            "y": ["p", "q", "p"] * 20,
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    data = tables.read(tmp_path / "t.parquet", "y")
    assert {c["name"]: c["type"] for c in data.reader["columns"]} == {
        "int": "number",
        "float": "number",
        "flag": "boolean",
        "kind": "category",
        "day": "category",
    }
    assert "float: 20 cells are no number and count as missing" in data.notes
    assert "ignored (1): list (empty)" in data.notes


def test_several_files_are_matched_by_column_name(tmp_path):
    written(tmp_path, HEADER + ROWS, "a.csv")
    written(tmp_path, "target,member,job,age\ngood,no,z,99.5\n", "b.csv")
    data = tables.read(str(tmp_path / "*.csv"), "target")
    assert len(whole(data)) == 61 and whole(data)["b.csv:2"]["age"] == 99.5
    written(tmp_path, "target,member,age\ngood,no,99.5\n", "c.csv")
    with pytest.raises(Usage, match="c.csv has no column 'job'"):
        tables.read([tmp_path / "a.csv", tmp_path / "c.csv"], "target")


def test_a_split_column_is_respected(tmp_path):
    parts = ["train", "Training", "val", "test"]
    text = "x,y,part\n" + "".join(f"{i % 11},{'ab'[i // 4 % 2]},{parts[i % 4]}\n" for i in range(80))
    data = tables.read(written(tmp_path, text), "y", split_column="part")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [40, 20, 20]
    assert set(data.train.features) == {"x"} and all((int(n.split(":")[1]) - 2) % 4 < 2 for n in data.train.names)
    with pytest.raises(Usage, match="(?s)says 'trian' at t.csv:3.*'train'"):
        tables.read(written(tmp_path, "x,y,part\n1,a,test\n2,b,trian\n"), "y", split_column="part")


def test_given_files_are_kept_apart_and_their_unseen_labels_dropped(tmp_path):
    train, test = (
        written(tmp_path, HEADER + ROWS),
        written(tmp_path, HEADER + "77,a,no,good\n1,a,no,ugly\n", "test.csv"),
    )
    data = tables.read(train, "target", test=test, split=Split(validation=0.2, test=0.1))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [48, 12, 1]
    assert data.test.names[0] == "test.csv:2" and data.classes == ("bad", "good")
    assert data.dropped[0].reason == "target 'ugly' was never seen in training"


def test_a_group_is_kept_together_and_is_no_feature(tmp_path):
    text = "x,who,y\n" + "".join(f"{i / 7},p{i // 5},{'ab'[i % 2]}\n" for i in range(200))
    data = tables.read(written(tmp_path, text), "y", group="who")
    who = [
        {(int(name.split(":")[1]) - 2) // 5 for name in part.names} for part in (data.train, data.validation, data.test)
    ]
    assert set(data.train.features) == {"x"} and all(who)
    assert not (who[0] & who[1] or who[0] & who[2] or who[1] & who[2])


def test_new_files_are_read_as_the_training_files_were(tmp_path):
    reader = tables.read(written(tmp_path, HEADER + ROWS), "target").reader
    features, names, dropped = tables.read_new(
        reader, written(tmp_path, "member;extra;age;job\nyes;1;7;new\n?;2;old;\nragged\n", "new.csv")
    )
    np.testing.assert_array_equal(features["age"], np.array([7, np.nan], np.float32))
    assert features["job"].tolist() == ["new", ""] and features["member"].dtype == np.float32
    assert names.tolist() == ["new.csv:2", "new.csv:3"] and [row.name for row in dropped] == ["new.csv:4"]


def test_a_new_file_without_a_needed_column_is_a_clear_error(tmp_path):
    reader = tables.read(written(tmp_path, HEADER + ROWS), "target").reader
    with pytest.raises(Usage, match="(?s)needs the column 'job'.*columns: age, member"):
        tables.read_new(reader, written(tmp_path, "age,member\n1,no\n", "new.csv"))


def test_labelled_files_drop_labels_never_seen(tmp_path):
    data = tables.read(written(tmp_path, HEADER + ROWS), "target")
    path = written(tmp_path, HEADER + "1,a,no,good\n1,a,no,odd\n1,a,no,\n", "new.csv")
    examples, dropped = tables.read_labelled(data.reader, data.classes, path)
    assert examples.labels.tolist() == [1] and list(examples.names) == ["new.csv:2"]
    assert [row.reason for row in dropped] == ["target 'odd' was never seen in training", "target is missing"]
    with pytest.raises(Missing, match="no row with a label that the model knows"):
        tables.read_labelled(data.reader, data.classes, written(tmp_path, HEADER + "1,a,no,odd\n", "odd.csv"))


def test_a_frame_is_read_like_a_file(tmp_path):
    frame = pd.DataFrame({"mean radius": np.arange(40) / 3, "y": ["a", "b"] * 20})
    data = tables.frame(frame, "y")
    assert list(data.train.features) == ["mean_radius"] and data.classes == ("a", "b")
    frame.to_csv(tmp_path / "f.csv", index=False)
    features, _, _ = tables.read_new(data.reader, tmp_path / "f.csv")
    np.testing.assert_array_equal(features["mean_radius"], (np.arange(40) / 3).astype(np.float32))


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)


@given(st.lists(st.lists(CELL, min_size=2, max_size=4), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_every_row_is_read_dropped_or_blank(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["first", "second", "third"], *rows])
    reader = {
        "columns": [{"name": name, "key": name, "type": "category"} for name in ("first", "second", "third")],
        "target": "y",
        "missing": [""],
        "delimiter": ",",
    }
    good = [row for row in rows if len(row) == 3]
    if not good:
        with pytest.raises(Missing):
            tables.read_new(reader, path)
        return
    features, names, dropped = tables.read_new(reader, path)
    assert len(names) == len(good) and len(dropped) == len(rows) - len(good)
    for number, key in enumerate(("first", "second", "third")):
        assert features[key].tolist() == [row[number].strip() for row in good]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=30))
@settings(max_examples=40, deadline=None)
def test_numbers_come_back_as_they_were_written(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("numbers") / "t.csv"
    path.write_text("x\n" + "".join(f"{value!r}\n" for value in values))
    reader = {
        "columns": [{"name": "x", "key": "x", "type": "number"}],
        "target": "y",
        "missing": [""],
        "delimiter": "auto",
    }
    features, _, _ = tables.read_new(reader, path)
    np.testing.assert_array_equal(features["x"], np.array(values, np.float32))


@given(st.text("0123456789.+-eEinfaNtyxXd_ ", max_size=8) | st.from_regex(tables.NUMBER, fullmatch=True))
@settings(max_examples=300, deadline=None)
def test_a_number_is_read_as_it_is_beside_cells_that_are_none(cell):
    alone, odd = tables._numbers(pa.chunked_array([[cell]], pa.string()), tables.MISSING)
    beside, strange = tables._numbers(pa.chunked_array([[cell, "none of it"]], pa.string()), tables.MISSING)
    np.testing.assert_array_equal(alone, beside[:1])
    np.testing.assert_array_equal(odd, strange[:1])
