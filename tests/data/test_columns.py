"""Tables that are packed, read column by column, and named by their lines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tfapp.data import columns, tables
from tfapp.data.columns import Parquet, Store
from tfapp.data.lines import Lines
from tfapp.settings import Split

ROWS = 1_000_000


def test_a_table_that_is_packed_reads_as_the_one_that_is_not(tmp_path: Path, monkeypatch) -> None:
    random = np.random.default_rng(0)
    lines = [
        f"{x:.3f},{'abc'[i % 3]},{('yes', 'no', '')[i % 7 % 3]},{'good' if x > 0 else 'bad'}"
        for i, x in enumerate(random.normal(size=300))
    ]
    for name, text in (
        ("simple", lines),
        ("quoted", [f'"{line.replace(",", chr(34) + "," + chr(34))}"' for line in lines]),
    ):
        path = tmp_path / f"{name}.csv"
        path.write_text("\n".join(["x,letter,flag,target", *text]))
        found = []
        for packed in (columns.PACKED, 1):
            monkeypatch.setattr(Store.__init__, "__defaults__", (packed,))
            found.append(tables.read(path, "target", split=Split()))
        (plain, small), kinds = found, {"x": "f", "letter": "O", "flag": "f"}
        assert plain.notes == small.notes and plain.classes == small.classes == ("bad", "good")
        for part in ("train", "validation", "test"):
            one, other = getattr(plain, part), getattr(small, part)
            assert list(one.names) == list(other.names) and np.array_equal(one.labels, other.labels)
            for key, kind in kinds.items():
                assert one.features[key].dtype.kind == kind
                np.testing.assert_array_equal(one.features[key], other.features[key])


def test_a_store_gives_back_what_it_took_in_its_order() -> None:
    store = Store(["a", "b.c"], packed=40)
    for start in range(0, 60, 20):
        numbers = [str(number) for number in range(start, start + 20)]
        store.add([pa.array(numbers), pa.array(numbers[::-1])])
    found = store.columns()
    assert isinstance(found, Parquet) and list(found) == ["a", "b.c"] and store.rows == found.rows == 60
    assert found["a"].to_pylist() == [str(number) for number in range(60)]
    assert found["b.c"].to_pylist()[:20] == [str(number) for number in reversed(range(20))]
    with pytest.raises(KeyError):
        found["b"]


def test_lines_are_named_when_they_are_asked_for() -> None:
    lines = Lines.joined(
        [Lines.of("a.csv", np.arange(2, 5)), Lines.of("b.csv", np.array([7])), Lines.of("", np.arange(2))]
    )
    names = ["a.csv:2", "a.csv:3", "a.csv:4", "b.csv:7", "0", "1"]
    assert len(lines) == 6 and list(lines) == names == list(np.asarray(lines))
    assert lines[3] == "b.csv:7" and lines[-1] == "1" and list(lines[np.array([3, 0])]) == ["b.csv:7", "a.csv:2"]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "most"), [("csv", 450), ("parquet", 350)])
def test_a_million_rows_take_bounded_memory(tmp_path: Path, kind: str, most: int) -> None:
    """Megabytes beyond what the modules take; the CSV has 75, and 45 are held at the end."""
    import pyarrow.csv as csv
    import pyarrow.parquet as parquet

    random = np.random.default_rng(0)
    held = {f"x{i}": random.normal(size=ROWS).round(4) for i in range(9)}
    held |= {"city": np.array([f"city-{i}" for i in range(50)])[random.integers(0, 50, ROWS)]}
    table = pa.table(held | {"target": np.where(held["x0"] + held["x1"] > 0, "yes", "no")})
    path = tmp_path / f"table.{kind}"
    if kind == "csv":
        with path.open("wb") as file:
            file.write(",".join(table.column_names).encode() + b"\n")
            csv.write_csv(table, file, csv.WriteOptions(include_header=False, quoting_style="none"))
    else:
        parquet.write_table(table, path)
    code = (
        "import resource, sys; from tfapp.data import tables; from tfapp.settings import Split\n"
        "import sklearn.model_selection, pandas, scipy.sparse\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "before = peak(); data = tables.read([sys.argv[1]], 'target', split=Split())\n"
        "print(peak() - before, len(data.train) + len(data.validation) + len(data.test))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    megabytes, rows = map(float, done.stdout.split())
    assert rows == ROWS and megabytes < most
