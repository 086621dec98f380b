"""Every recipe is held to what its docstring says: how to run it, what it costs, what it scores, where its data is from."""

from __future__ import annotations

import functools
import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from tfapp import recipe as recipes
from tfapp.cli.main import main
from tfapp.evaluate import classification, language, regression

HEADINGS = ("Run", "Cost", "Score", "Data")
NAMES = [one.word for one in recipes.listed()]
SCORE = re.compile(r"\b(\d+(?:\.\d+)?) (?:test )?(bits per byte|[A-Za-z][\w²-]*(?: loss| score)?)")
LESS_IS_BETTER = {"bits_per_byte", "log_loss", "perplexity", "brier", "mae", "rmse", "median_absolute_error"}


def told(name: str) -> dict[str, str]:
    """What stands under each heading of a recipe's docstring."""
    head = recipes.find(name).about.partition("\n\n")[2].partition("\n\n")[0]
    parts = re.split(r"^(\w+):[ \t]+", head, flags=re.MULTILINE)
    return {heading: text.strip() for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


def commands(name: str) -> list[list[str]]:
    """The words of each command under «Run:», without `tfapp` and a remark in brackets at the end."""
    lines = [line.strip() for line in told(name)["Run"].splitlines()]
    return [shlex.split(re.sub(r"\s{2,}\(.*\)$", "", line))[1:] for line in lines]


@functools.cache
def known_scores() -> set[str]:
    """The names of all that a report can measure."""
    labels, outputs = np.arange(40) % 20, np.eye(20)[np.arange(40) % 20]
    many = classification.measure(labels, outputs, [str(i) for i in range(20)])
    text = language.measure(np.ones((4, 5)), np.ones((4, 5), bool), True)
    return (
        set(text["scores"])
        | set(many["scores"])
        | set(regression.measure(np.arange(40.0), np.arange(40.0) + 1)["scores"])
    )


def scores(name: str, about: str = "") -> list[tuple[str, float]]:
    """(metric as the report names it, number) of the «Score:» parts, between semicolons, that speak of `about`."""
    found = []
    for part in told(name)["Score"].split(";"):
        if about in part:
            pairs = SCORE.findall(" ".join(part.split()))
            found += [
                (word.lower().replace("-", "_").replace("²", "2").replace(" ", "_"), float(n)) for n, word in pairs
            ]
    return [(metric, number) for metric, number in found if metric in known_scores()]


@pytest.mark.parametrize("name", NAMES)
def test_it_says_how_to_run_it_what_it_costs_what_it_scores_and_where_its_data_is_from(name):
    said = told(name)
    assert tuple(said) == HEADINGS and all(said.values())
    assert recipes.find(name).title.endswith(".")


@pytest.mark.parametrize(("name", "words"), [(name, words) for name in NAMES for words in commands(name)])
def test_every_command_that_it_shows_is_a_plan_for_it(name, words, capsys):
    assert words[:2] == ["train", name], "under «Run:» stand `tfapp train` commands of the recipe itself, one a line"
    assert main([*words, "--dry-run"]) == 0
    plan = yaml.safe_load(capsys.readouterr().out)
    assert plan["recipe"] == name
    for key, value in (word.split("=", 1) for word in words[2:]):
        here = plan if key.split(".")[0] in plan else plan["config"]
        for step in key.split("."):
            here = here[step]
        written = (",".join(map(str, here)) if isinstance(here, list) else str(here)).lower()
        assert written == value.lower() or here == yaml.safe_load(value)


@pytest.mark.moderate
def test_none_of_these_commands_needs_tensorflow():
    script = (
        "import json, sys; from tfapp.cli.main import main\n"
        "for words in json.loads(sys.argv[1]): assert main([*words, '--dry-run']) == 0\n"
        "assert not {'tensorflow', 'tf_keras', 'pandas', 'sklearn'} & set(sys.modules), sorted(sys.modules)"
    )
    every = [words for name in NAMES for words in commands(name)]
    subprocess.run([sys.executable, "-c", script, json.dumps(every)], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("name", NAMES)
def test_the_score_is_a_number_with_a_metric_that_the_report_has(name):
    assert scores(name), f"as «at least 0.98 test accuracy», of these: {', '.join(sorted(known_scores()))}"


def run(words: list[str], folder: Path) -> dict:
    assert main([*words, "--run", str(folder)]) == 0
    return json.loads((folder / "report.json").read_text())


def hold(report: dict, name: str, about: str = "") -> None:
    """Compare a run's test scores with what the recipe promises."""
    promised = scores(name, about)
    assert promised, f"no score under «Score:» of {name} speaks of {about!r}"
    assert report["evaluation"]["part"] == "test"
    for metric, number in promised:
        reached = report["evaluation"]["scores"][metric]["value"]
        assert reached <= number if metric in LESS_IS_BETTER else reached >= number


@pytest.mark.slow
@pytest.mark.e2e
def test_digits_scores_what_it_says_in_less_than_a_minute(tmp_path):
    began = time.process_time()
    report = run(commands("digits")[0], tmp_path / "run")
    spent = time.process_time() - began
    hold(report, "digits")
    assert "under a minute on two cores" in told("digits")["Cost"]
    # Of the processor, from the words to the report: a busy machine takes longer, but not more of it.
    assert spent < 2 * 60


@pytest.mark.slow
@pytest.mark.e2e
def test_tabular_scores_what_it_says_on_the_data_it_brings(tmp_path):
    hold(run(commands("tabular")[0], tmp_path / "run"), "tabular", "breast cancer")


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(3600)
def test_language_model_scores_what_it_says_on_the_text_that_python_brings(tmp_path):
    hold(run(commands("language_model")[0], tmp_path / "run"), "language_model")


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("recipe", "about", "files"),
    [
        ("mnist", "8,000", {"path/to/idx-files": "mnist10k"}),
        ("tabular", "Adult", {"adult.csv": "adult/adult.csv"}),
        (
            "text_classification",
            "AG News",
            {"ag_news.csv": "ag_news/ag_news.csv", "classes.txt": "ag_news/classes.txt"},
        ),
        (
            "shared_encoder",
            "AG News",
            {"ag_news.csv": "ag_news/ag_news.csv", "classes.txt": "ag_news/classes.txt"},
        ),
        ("image_folder", "hand signs", {"path/to/images": "sign_digits"}),
        ("efficientnet", "hand signs", {"path/to/images": "sign_digits"}),
    ],
)
def test_a_recipe_scores_what_it_says_on_real_data(recipe, about, files, shared_data, tmp_path):
    given = {name: str(shared_data / file) for name, file in files.items()}
    words = next(
        words for words in commands(recipe) if all(any(w.endswith(f"={name}") for w in words) for name in given)
    )
    pairs = [word.partition("=") for word in words]
    hold(run([key + equals + given.get(value, value) for key, equals, value in pairs], tmp_path / "run"), recipe, about)
