"""Arrow reads simple files as the csv module does, and leaves the others alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfapp.data import delimited
from tfapp.data.columns import Store

WHITE = " \t\x0b\x0c\x1c\x1f\x85\xa0\u2028\u3000"
cells = st.text(st.sampled_from("ab1.-é語'" + WHITE), max_size=5)


def slow(path: Path) -> list[list[str]]:
    return [cells for _, cells in delimited.rows(path, "comma")]


@settings(max_examples=60)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_a_simple_file_is_read_alike(tmp_path_factory, rows: list[tuple[str, str]], end: str, ended: bool) -> None:
    path = tmp_path_factory.mktemp("table") / "t.csv"
    path.write_text(end.join(["a,b", *map(",".join, rows)]) + end * ended, encoding="utf-8", newline="")
    # Nothing packed, and everything.
    for packed in (2**20, 1):
        store = Store(["a", "b"], packed)
        assert delimited.columns(path, store, 2, "comma")
        found = [column.to_pylist() for column in store.columns().values()]
        assert [list(row) for row in zip(*found, strict=True)] == slow(path)[1:]


def test_a_header_may_have_quotes_and_may_not_go_on_in_the_next_line(tmp_path: Path) -> None:
    path, store = tmp_path / "t.csv", Store(["a", "b, c"])
    path.write_text('"a","b, c"\n1,2\n')
    assert delimited.columns(path, store, 2, "comma") and store.rows == 1
    for text in ('"a","b\nc"\n1,2\n', 'a"b,"c\n1,2\n'):
        path.write_text(text)
        assert not delimited.columns(path, Store(["a", "b"]), 2, "comma")


@pytest.mark.parametrize(
    "text",
    [
        'a,b\n"1",2\n',
        "a,b\n1,2\n\n3,4\n",
        "a,b\n1,2,3\n",
        "a,b\n1\n",
        "a,b\r1,2\r",
        "a,b\n1,\0\n",
        "\na,b\n1,2\n",
        "\ufeff\r\na,b\r\n1,2\r\n",
    ],
)
def test_what_is_not_simple_is_left_to_the_csv_module(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    assert not delimited.columns(path, Store(["a", "b"]), 2, "comma")


def test_what_is_not_utf_8_is_left_too(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n1,\xff\n")
    assert not delimited.columns(path, Store(["a", "b"]), 2, "comma")
