"""What reading a table costs by its size: CPU seconds, peak memory, what is held at the end, each in a process of its own.

The table is made here: nine numbers of four decimals, two categories, and a target of two classes. Memory is counted beyond that
of the process with its modules imported.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet

PORTION = 250_000

MEASURE = """
import json, os, resource, sys, time
import numpy, pandas, pyarrow, scipy.sparse, sklearn.model_selection
from tfapp.data import tables
from tfapp.settings import Split
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
before, began = resident(), time.process_time()
{work}
from tfapp import environment
spent, peak = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
environment.give_back_memory()
print(json.dumps({{"cpu": spent, "peak": peak - before, "held": resident() - before}}))
"""

APP = "held = tables.read([sys.argv[1]], 'target', split=Split())"
PANDAS = """
read = pandas.read_csv if sys.argv[1].endswith("csv") else pandas.read_parquet
frame = read(sys.argv[1])
labels = frame.pop("target").factorize()[0]
def features(frame):
    return {name: column.to_numpy(object if column.dtype.kind == "O" else "float32") for name, column in frame.items()}
split = sklearn.model_selection.train_test_split
rest, test, a, b = split(frame, labels, test_size=0.1, stratify=labels, random_state=0)
train, validation, a, c = split(rest, a, test_size=0.1, stratify=a, random_state=0)
held = [(features(part), y) for part, y in ((train, a), (validation, c), (test, b))]
"""


def write(folder: Path, rows: int) -> dict[str, Path]:
    """The table as CSV and as Parquet."""
    random = np.random.default_rng(0)
    paths = {kind: folder / f"{rows}.{kind}" for kind in ("csv", "parquet")}
    cities, colours = np.array([f"city-{i}" for i in range(50)]), np.array(["red", "green", "blue"])
    writer = None
    with paths["csv"].open("wb") as text:
        for start in range(0, rows, PORTION):
            n = min(PORTION, rows - start)
            held = {f"x{i}": random.normal(size=n).round(4) for i in range(8)}
            held |= {"count": random.integers(0, 1000, n), "city": cities[random.integers(0, 50, n)]}
            held |= {
                "colour": colours[random.integers(0, 3, n)],
                "target": np.where(held["x0"] + held["x1"] > 0, "yes", "no"),
            }
            table = pa.table(held)
            if writer is None:
                writer = parquet.ParquetWriter(paths["parquet"], table.schema)
                text.write(",".join(table.column_names).encode() + b"\n")
            csv.write_csv(table, text, csv.WriteOptions(include_header=False, quoting_style="none"))
            writer.write_table(table)
    assert writer is not None
    writer.close()
    return paths


def measured(path: Path, work: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", MEASURE.format(work=work), str(path)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    told: dict[str, float] = json.loads(done.stdout)
    return told


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="*", default=[10**power for power in range(3, 8)])
    parser.add_argument("--kinds", nargs="*", default=["csv", "parquet"], choices=["csv", "parquet"])
    parser.add_argument("--by", nargs="*", default=["app", "pandas"], choices=["app", "pandas"])
    asked = parser.parse_args()
    print("| rows | file, MB | by | CPU s | peak, MB | held, MB |\n|---|---|---|---|---|---|")
    for rows in asked.rows:
        with tempfile.TemporaryDirectory() as folder:
            for kind, path in write(Path(folder), rows).items():
                for by in asked.by if kind in asked.kinds else ():
                    told = measured(path, {"app": APP, "pandas": PANDAS}[by])
                    size = path.stat().st_size / 1e6
                    print(
                        f"| {rows:,} | {kind} {size:,.1f} | {by} | {told['cpu']:.2f} | {told['peak']:,.0f} | {told['held']:,.0f} |",
                        flush=True,
                    )


main()
