"""Every built-in recipe and three applications: each method works, or is refused with a reason. Makes the docs' table.

python -m tests.compress.test_coverage > table.md      writes the table that stands in docs/compress.md
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APPLICATION = str(ROOT / "tests" / "fixtures" / "application.py")
DOCS = ROOT / "docs" / "compress.md"
METHODS = {
    "prune": ["prune.sparsity=0.5", "prune.schedule=constant"],
    "2:4": ["prune.pattern=2:4"],
    "cluster": ["cluster.clusters=8", "cluster.begin=0"],
    "quantize": ["quantize=true"],
    "int8": [],
}
SHORT = ["fit.steps=2", "fit.batch_size=4"]
HEAD = (
    "| model | prune | 2:4 | cluster | quantize (while training) | int8 (after training) |\n|---|---|---|---|---|---|"
)


def models(folder: Path) -> dict[str, list[str]]:
    """What is trained, on tiny data made here: the row's name and the words."""
    from tests.recipes.test_image_recipes import idx_folder, photographs

    grey, colour, photos = (folder / name for name in ("grey", "colour", "photos"))
    for path in (grey, colour, photos):
        path.mkdir()
    idx_folder(grey, (28, 28))
    idx_folder(colour, (32, 32, 3))
    photographs(photos, 40)
    (folder / "news.csv").write_text(
        "text,label\n" + "".join(f"word{i % 7} some text {i},{'ab'[i % 2]}\n" for i in range(200))
    )
    (folder / "people.csv").write_text(
        "age,job,y\n" + "".join(f"{i % 50},{'xyz'[i % 3]},{'no yes'.split()[i % 2]}\n" for i in range(200))
    )
    text = ["shared_encoder", f"data={folder}/news.csv", "units=16", "layers=2"]
    return {
        "digits": ["digits"],
        "mnist": ["mnist", f"folder={grey}"],
        "fashion_mnist": ["fashion_mnist", f"folder={grey}"],
        "cifar10": ["cifar10", f"folder={colour}"],
        "image_folder": ["image_folder", f"folder={photos}", "size=32"],
        "efficientnet": ["efficientnet", f"folder={photos}"],
        "tabular": ["tabular", f"data={folder}/people.csv", "target=y"],
        "text_classification (pooled)": ["text_classification", f"data={folder}/news.csv"],
        "text_classification (cnn)": ["text_classification", f"data={folder}/news.csv", "model=cnn"],
        "text_classification (transformer)": ["text_classification", f"data={folder}/news.csv", "model=transformer"],
        "shared_encoder": text,
        "language_model": ["language_model", "layers=2", "width=32"],
        **{name: [APPLICATION, f"name={name}"] for name in ("MobileNetV2", "EfficientNetB0", "ResNet50")},
    }


def trained(words: list[str], folder: Path) -> list[str]:
    """Two real steps in the engine; what the features said."""
    from tfapp import features, run, train
    from tfapp import job as jobs
    from tfapp.cli import asking

    recipe, module, plan, _ = asking.ask([*words, *SHORT], [], None, None)
    opened = run.begin(folder, plan, recipe.digest)
    with plan.runtime.enter() as machine:
        data = module.data(plan.config)
        with machine.strategy.scope():
            job = features.apply(plan, jobs.of(plan, module, data, machine))
        train.fit(job, opened, lambda line: None)
    return list(job.notes)


def exported(words: list[str], folder: Path) -> str:
    """A run of two steps as an int8 file, whatever it costs in accuracy; the file answers."""
    from tfapp import run, shipped
    from tfapp.cli.main import main
    from tfapp.lite import exporting
    from tfapp.lite.asked import Asked

    with contextlib.redirect_stdout(sys.stderr):
        assert main(["train", *words, *SHORT, "--run", str(folder)]) == 0
    path = folder / "model.tflite"
    written = exporting.write(run.Run(folder), path, Asked("int8", tolerance=1e9), lambda line: None)
    assert shipped.load(path)
    kept = written.get("kept_in_float")
    return f"yes; {len(kept)} operations in float" if kept else "yes"


def cell(method: str, words: list[str], folder: Path) -> str:
    from tfapp.errors import Expected

    try:
        if method == "int8":
            return exported(words, folder)
        notes = trained([*words, *METHODS[method]], folder)
    except Expected as error:
        return "no: " + str(error).splitlines()[0].partition(": ")[2]
    said = next((note for note in notes if note.startswith(("prune", "cluster", "quantize"))), "")
    if method == "quantize":
        return said.removeprefix("quantize: ")
    return "yes, " + said[said.index("(") + 1 : said.index(" of the parameters")]


def rows(names: Sequence[str] = ()) -> Iterator[str]:
    """A row a model, or those of the names given."""
    with tempfile.TemporaryDirectory() as place:
        for number, (name, words) in enumerate(models(Path(place)).items()):
            if names and name not in names:
                continue
            cells = [cell(method, words, Path(place) / f"run-{number}-{method.replace(':', '')}") for method in METHODS]
            yield f"| {name} | {' | '.join(cells)} |"


@pytest.mark.slow
def test_the_table_in_the_docs_is_what_comes_out() -> None:
    text = DOCS.read_text()
    for row in rows():
        assert row in text, f"docs/compress.md has another row than\n{row}\nwrite it anew: python -m {__name__}"


if __name__ == "__main__":
    print(HEAD)
    for line in rows(sys.argv[1:]):
        print(line, flush=True)
