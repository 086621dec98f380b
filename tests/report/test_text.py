import io

import numpy as np
import pytest
from rich.console import Console

from tests.report import samples
from tfapp.evaluate import calibration
from tfapp.report import page, text, words


@pytest.mark.moderate
def test_the_last_lines_of_a_run_hold_score_quality_cost_and_place():
    first, quality, cost, place = text.plain(samples.images(), "runs/digits/report.html").splitlines()
    assert "of 450 unseen examples right (95 % interval" in first
    assert quality.startswith("log loss 0.") and "ROC-AUC" in quality and "at temperature" in quality
    assert cost == "savedmodel 321 kB · 0.84 ms for one example · 2.27 ms for a batch of 32 · took 41 s"
    assert place == "report runs/digits/report.html"


def test_the_terminal_shows_the_same_words():
    out = io.StringIO()
    Console(file=out, width=200).print(text.summary(samples.values()))
    assert [line.rstrip() for line in out.getvalue().splitlines()] == text.lines(samples.values())


def test_a_temperature_that_was_not_fitted_is_explained_on_the_terminal_and_on_the_page():
    labels = np.arange(40) % 2
    sure = np.eye(2)[labels] * 0.8 + 0.1
    report = {"calibration": calibration.measure(labels, sure, labels, sure)}
    wanted = "calibration error 0.100 (no temperature: no mistake on the validation examples)"
    assert text.lines(report)[1] == wanted
    assert "No temperature: no mistake on the validation examples." in page.render(report)


def test_markup_in_names_is_not_obeyed():
    report = {"sizes": {"[red]x[/red]": {"bytes": 10}}}
    out = io.StringIO()
    Console(file=out, width=200).print(text.summary(report))
    assert "[red]x[/red] 10 B" in out.getvalue()


def test_an_unmeasured_run_says_so():
    assert text.plain({"recipe": "x"}) == "not measured on unseen examples"


def test_what_the_training_waited_for_is_told_at_its_end_only_where_data_was_the_limit():
    workers = [{"seconds": 60.0, "waited": waited, "loading": 0.75 * (waited == 0.1)} for waited in (0.1, 0.625)]
    bound = {"waiting": {"workers": workers, "remedy": "use more cores"}}
    told = f"input-bound: no batch was ready {words.percent(0.625)} of the time on worker 1; use more cores"
    assert told in text.lines(bound) and told in page.render(bound)
    fine = {"waiting": {"workers": workers[:1]}}
    assert text.lines(fine) == text.lines(
        {}
    ) and f"no batch was ready {words.percent(0.1)} of the time, and loading" in page.render(fine)
