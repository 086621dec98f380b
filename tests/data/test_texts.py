import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfapp.data import texts
from tfapp.data.texts import Layout
from tfapp.errors import Missing, Usage
from tfapp.settings import Split

ROWS = [(f"text number {i}", "ab"[i % 2]) for i in range(40)]
CSV = "text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS)


def written(tmp_path, text, name="t.csv", encoding="utf-8"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def whole(data):
    """Every text of the three parts, with the name of its class."""
    return {
        str(part.features[row]): data.classes[part.labels[row]]
        for part in (data.train, data.validation, data.test)
        for row in range(len(part))
    }


def test_texts_and_labels_are_found_by_name(tmp_path):
    data = texts.read(written(tmp_path, CSV))
    assert data.kind == "text" and data.task == "classification" and data.classes == ("a", "b")
    assert whole(data) == dict(ROWS) and data.train.features.dtype == object
    assert data.notes[0] == "40 texts; 2 classes: a 50%, b 50%"


def test_jsonl_and_tsv_hold_the_same_as_csv(tmp_path):
    lines = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS)
    assert whole(texts.read(written(tmp_path, lines, "t.jsonl"))) == dict(ROWS)
    assert whole(texts.read(written(tmp_path, CSV.replace(",", "\t"), "t.tsv"))) == dict(ROWS)


def test_columns_by_number_need_no_header_line(tmp_path):
    path = written(tmp_path, "".join(f'"{1 + i % 3}","title {i}","body, {i}"\n' for i in range(60)))
    names = written(tmp_path, "World\nSports\nBusiness\n", "classes.txt")
    data = texts.read(path, Layout(("2", "3"), "1"), classes=names)
    assert data.classes == ("World", "Sports", "Business") and data.target == "label"
    found = whole(data)
    assert len(found) == 60 and found["title 0 body, 0"] == "World" and found["title 4 body, 4"] == "Sports"


def test_columns_by_number_can_stand_below_a_header_line(tmp_path):
    data = texts.read(written(tmp_path, CSV), Layout(("1",), "2", header=True))
    assert whole(data) == dict(ROWS)


def test_class_numbers_count_from_nought_if_there_is_a_nought(tmp_path):
    path = written(tmp_path, "text,label\n" + "".join(f"t{i},{i % 2}\n" for i in range(20)))
    data = texts.read(path, classes=written(tmp_path, "no\nyes\n", "classes.txt"))
    assert whole(data)["t3"] == "yes"


def test_a_class_number_without_a_name_is_a_clear_error(tmp_path):
    path = written(tmp_path, "text,label\n" + "".join(f"t{i},{i % 4}\n" for i in range(20)))
    with pytest.raises(Usage, match="(?s)label '2' has no name.*2 lines name the labels 0 to 1"):
        texts.read(path, classes=written(tmp_path, "no\nyes\n", "classes.txt"))


def test_empty_texts_missing_labels_and_ragged_rows_are_dropped_and_counted(tmp_path):
    data = texts.read(written(tmp_path, CSV + " ,a\nx y,\nragged\n"))
    assert sorted((row.name, row.reason) for row in data.dropped) == [
        ("t.csv:42", "empty text"),
        ("t.csv:43", "label is missing"),
        ("t.csv:44", "1 cells where 2 are expected"),
    ]
    assert "(3 dropped)" in data.notes[0]


def test_broken_lines_of_jsonl_are_dropped_and_counted(tmp_path):
    lines = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS)
    data = texts.read(
        written(tmp_path, lines + '{"text": "x"\n[1]\n{"text": "x"}\n{"text": null, "label": 1}\n', "t.jsonl")
    )
    assert [row.reason for row in data.dropped] == [
        "not a JSON object in one line",
        "not a JSON object in one line",
        "no 'label'",
        "empty text",
    ]


def test_half_a_surrogate_pair_is_replaced(tmp_path):
    lines = "".join(json.dumps({"text": text + " \ud83d", "label": label}) + "\n" for text, label in ROWS)
    data = texts.read(written(tmp_path, lines, "t.jsonl"))
    assert data.train.features[0].endswith(" ?")


@pytest.mark.parametrize(
    "text, name, error, message",
    [
        ("", "t.csv", Missing, "is empty"),
        ("text,label\n", "t.csv", Missing, "no text with a label"),
        ("txt,label\nx,a\n", "t.csv", Usage, "no column 'text': did you mean 'txt'"),
        ('{"body": "x", "label": 1}\n', "t.jsonl", Usage, "(?s)no 'text' in line 1.*keys: body, label"),
        ("text,label\nx,a\ny,a\n", "t.csv", Missing, "only one class, 'a'"),
        ("{}\n", "t.jsonl", Usage, "no 'text'"),
        ("no json\n", "t.jsonl", Missing, "no text with a label .*not a JSON object"),
    ],
)
def test_a_file_to_learn_nothing_from_is_a_clear_error(tmp_path, text, name, error, message):
    with pytest.raises(error, match=message):
        texts.read(written(tmp_path, text, name))


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_file_that_is_not_utf8_says_what_to_do(tmp_path, name):
    text = CSV + "é,a\n" if name == "t.csv" else '{"text": "a", "label": "é"}\n'
    with pytest.raises(Missing, match="(?s)not UTF-8.*iconv"):
        texts.read(written(tmp_path, text, name, encoding="latin1"))


def test_labels_that_are_no_classes_are_a_clear_error(tmp_path):
    with pytest.raises(Usage, match="are no classes"):
        texts.read(written(tmp_path, "text,label\n" + "".join(f"x,{i}\n" for i in range(100))))


def test_a_folder_per_class_is_read(tmp_path):
    for i in range(20):
        written(tmp_path, f"words {i}", f"reviews/{'good' if i % 2 else 'bad'}/{i:02}.txt")
    written(tmp_path, "", "reviews/good/empty.txt")
    written(tmp_path, "é", "reviews/good/latin.txt", encoding="latin1")
    data = texts.read(tmp_path / "reviews")
    assert data.classes == ("bad", "good") and len(whole(data)) == 20 and whole(data)["words 3"] == "good"
    assert {(row.name, row.reason) for row in data.dropped} == {
        ("good/empty.txt", "empty text"),
        ("good/latin.txt", "not UTF-8 text"),
    }


def test_train_and_test_folders_are_respected(tmp_path):
    for part in ("train", "test"):
        for i in range(10):
            written(tmp_path, f"{part} {i}", f"imdb/{part}/{'pos' if i % 2 else 'neg'}/{i}.txt")
    data = texts.read(tmp_path / "imdb", split=Split(validation=0.2, test=0.5))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [8, 2, 10]
    assert all(text.startswith("test") for text in data.test.features)


def test_a_folder_without_texts_is_a_clear_error(tmp_path):
    (tmp_path / "reviews" / "good").mkdir(parents=True)
    with pytest.raises(Missing, match="(?s)no .txt file in a folder per class.*CLASS/NAME.txt"):
        texts.read(tmp_path / "reviews")


def test_a_split_column_is_respected(tmp_path):
    rows = "".join(f"t{i},{'ab'[i % 2]},{'dev' if i < 6 else 'test' if i < 10 else 'train'}\n" for i in range(30))
    data = texts.read(written(tmp_path, "text,label,part\n" + rows), Layout(split="part"))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [20, 6, 4]


def test_equal_texts_in_given_parts_are_said(tmp_path):
    data = texts.read(written(tmp_path, CSV), test=written(tmp_path, "text,label\ntext number 1,b\n", "test.csv"))
    assert data.notes[-1].startswith("leak: 1 of 1 test examples")


def test_new_files_are_read_as_the_training_files_were(tmp_path):
    reader = texts.read(written(tmp_path, CSV)).reader
    features, names, dropped = texts.read_new(
        reader,
        [written(tmp_path, "n,text\n1,hello there\n2,\n", "new.csv"), written(tmp_path, "one\ntwo\n", "doc.txt")],
    )
    assert features.tolist() == ["hello there", "one\ntwo"] and features.dtype == object
    assert names.tolist() == ["new.csv:2", "doc.txt"] and [row.name for row in dropped] == ["new.csv:3"]
    with pytest.raises(Usage, match="no column 'text'"):
        texts.read_new(reader, written(tmp_path, "a,b\n1,2\n", "bad.csv"))
    with pytest.raises(Missing, match="no text in .*empty text"):
        texts.read_new(reader, written(tmp_path, " ", "blank.txt"))


def test_labelled_files_drop_labels_never_seen(tmp_path):
    path = written(tmp_path, "".join(f"{1 + i % 2},word {i}\n" for i in range(20)))
    data = texts.read(path, Layout(("2",), "1"), classes=written(tmp_path, "World\nSports\n", "classes.txt"))
    new = written(tmp_path, "2,x\nWorld,y\n7,z\n", "new.csv")
    examples, dropped = texts.read_labelled(data.reader, data.classes, new)
    assert examples.labels.tolist() == [1, 0] and examples.names.tolist() == ["new.csv:1", "new.csv:2"]
    assert [row.reason for row in dropped] == ["label '7' was never seen in training"]
    with pytest.raises(Missing, match="no text with a label that the model knows"):
        texts.read_labelled(data.reader, data.classes, written(tmp_path, "7,z\n", "odd.csv"))


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_what_csv_and_jsonl_hold_comes_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("texts")
    with (folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
    with (folder / "t.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
    good = [(text.strip(), label.strip()) for text, label in rows if text.strip() and label.strip()]
    reader = {"text": ["text"], "label": "label", "header": None, "delimiter": ",", "labels": {}}
    for name in ("t.csv", "t.jsonl"):
        if not good:
            with pytest.raises(Missing):
                texts.read_labelled(reader, [label for _, label in good], folder / name)
            continue
        classes = list(dict.fromkeys(label for _, label in good))
        examples, dropped = texts.read_labelled(reader, classes, folder / name)
        assert list(zip(examples.features, np.array(classes)[examples.labels], strict=True)) == good
        assert len(dropped) == len(rows) - len(good)
