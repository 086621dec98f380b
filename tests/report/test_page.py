import json
import re
from html.parser import HTMLParser

import pytest

from tests.report import samples
from tfapp.report import render, render_comparison, words

pytestmark = pytest.mark.moderate

VOID = set("area base br col embed hr img input link meta source track wbr".split())
ATTACK = """</title><script>alert(1)</script>'"&<img src=x onerror=alert(2)> $\\frac{1}{2}$ \\1"""


class Page(HTMLParser):
    """Which elements a page has, and whether each one is closed in turn."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.ids, self.attributes, self.text = [], [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing at {self.getpos()}"

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module", params=[*samples.SAMPLES, "comparison"])
def html(request):
    return samples.comparison() if request.param == "comparison" else render(samples.SAMPLES[request.param]())


def test_every_element_is_closed_in_turn_and_every_id_is_unique(html):
    page = Page(html)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    targets = [value[1:] for name, value in page.attributes if name in ("href", "xlink:href") and value[0] == "#"]
    assert set(targets) <= set(page.ids)


def test_the_page_loads_nothing_and_runs_nothing(html):
    page = Page(html)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    for name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "action", "poster"):
            assert value.startswith(("#", "data:image/png;base64,"))
        assert not name.startswith("on")
    assert not re.search(r"url\((?!#)|@import", html)


def test_the_same_report_gives_the_same_bytes():
    assert render(samples.images()) == render(samples.images())


def test_a_report_read_back_from_json_gives_the_same_page():
    report = samples.table()
    assert render(json.loads(json.dumps(report))) == render(report)


def test_the_headline_says_it_in_one_sentence():
    text = " ".join(" ".join(Page(render(samples.images())).text).split())
    assert re.search(r"\d\d\.\d % of 450 unseen examples right 95 % interval \d\d\.\d–\d\d\.\d", text)


def test_each_kind_of_mistake_is_shown():
    assert "data:image/png;base64," in render(samples.images())
    assert "<blockquote>" in render(samples.text())
    assert "mean radius" in render(samples.table())
    assert "Largest errors" in render(samples.values())


def headings(report):
    return re.findall(r"<h2>(.*?)</h2>", render(report))


def test_sections_without_data_do_not_appear():
    assert headings({"recipe": "digits"}) == []
    assert headings({"recipe": "digits", "plan": {"fit": {"epochs": 1}}}) == ["Plan"]
    assert "Confusion matrix" not in headings(samples.values())
    assert "What is left unexplained" not in headings(samples.images())
    assert headings({}) == []


def test_a_section_nobody_has_heard_of_is_shown_as_a_table():
    html = render(samples.many_classes())
    assert "<h2>Attack</h2>" in html
    for told in ("accuracy under attack", "0.061", "PGD-20", "white box"):
        assert told in html


def test_unknown_sections_may_have_any_shape():
    odd = {
        "a": None,
        "b": [],
        "c": [1, "x", None],
        "d": [[1, 2], {"e": 1}],
        "f": {"g": {"h": [{"i": {"j": 1}}]}},
        "k": 3,
    }
    page = Page(render({"recipe": "x", "odd": odd, "zero": 0, "text": "words", "list": [{"a": 1}, {"b": 2}]}))
    assert page.open == [] and "words" in page.text


def hostile(value):
    """The same report with every word that a user could have chosen replaced by an attack."""
    if isinstance(value, dict):
        return {key: inner if key in ("image", "started") else hostile(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [hostile(inner) for inner in value]
    return ATTACK if isinstance(value, str) else value


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_names_and_texts_cannot_become_markup(name):
    report = hostile(samples.SAMPLES[name]())
    for html in (render(report), render_comparison([report, report])):
        page = Page(html)
        assert page.open == []
        assert "script" not in page.tags and ("src", "x") not in page.attributes
        assert not any(attribute.startswith("on") for attribute, _ in page.attributes)


def test_hostile_keys_cannot_become_markup_either():
    report = {
        "recipe": "x",
        ATTACK: {ATTACK: [{ATTACK: 1}]},
        "sizes": {ATTACK: {"bytes": 1}},
        "environment": {ATTACK: 1},
    }
    page = Page(render(report | {"history": [{"loss": 1.0, ATTACK: 1.0, f"val_{ATTACK}": 2.0}]}))
    assert page.open == [] and "script" not in page.tags


def test_numbers_that_are_none_or_nan_do_not_stop_the_page():
    report = samples.images() | {"seconds": None, "best_epoch": None, "latency": {"savedmodel": {"1": {}}}}
    report["history"] = [{"epoch": 1, "loss": float("nan"), "val_loss": None}, {"epoch": 2, "loss": 0.5}]
    report["evaluation"] = report["evaluation"] | {"scores": {"accuracy": {"value": None, "low": None, "high": None}}}
    assert Page(render(report)).open == []


def test_each_exported_file_is_a_row_with_what_it_costs_and_a_point():
    row = {
        "name": "model.int8.tflite",
        "bytes": 293_100,
        "gzip_bytes": 276_000,
        "parameters": 271_692,
        "sparsity": 0.25,
        "layers": [
            {"name": "conv", "shape": [16, 3, 3, 3], "dtype": "int8", "parameters": 432, "sparsity": 0.25, "unique": 99}
        ],
        "n": 206,
        "part": "test",
        "score": {"name": "accuracy", "value": 0.985, "low": 0.97, "high": 1.0},
        "change": {"value": -0.0049, "low": -0.0146, "high": 0.0},
        "agreement": {"share": 0.995, "mean_difference": 0.001},
        "latency": {"1": {"p50_ms": 0.0364, "p95_ms": 0.0372}, "4": {"p50_ms": 0.05, "p95_ms": 0.1}},
        "memory": {"peak_bytes": 90_000_000, "model_bytes": 4_700_000},
        "kept_in_float": ["conv_7/Conv2D"],
    }
    bare = {**row, "name": "model.tflite", "memory": {}, "kept_in_float": [], "latency": {"1": row["latency"]["1"]}}
    html = render({"recipe": "signs", "artefacts": [bare, row]})
    for told in ("What ships", "293 kB", "−0.0049 (−0.0146 to ±0)", "0.0364 ms", "4.7 MB", "25.0 %", "16×3×3×3"):
        assert told in html, told
    assert "model.int8.tflite keeps in float: conv_7/Conv2D." in html
    assert html.count("<svg") == 1 and "Other" not in html


def test_a_run_that_was_interrupted_says_so():
    assert "not finished: interrupted" in render({"recipe": "x", "status": "interrupted"})


def test_twenty_classes_are_a_table_and_more_are_a_picture():
    def confusion(classes):
        matrix = [[5 * (i == j) for j in range(classes)] for i in range(classes)]
        return {"evaluation": {"confusion_matrix": matrix, "classes": [f"class {i}" for i in range(classes)]}}

    assert '<table class="confusion' in render(confusion(20))
    assert '<table class="confusion' not in render(confusion(21)) and "<image" in render(confusion(21))


def test_a_comparison_shows_differences_of_scores_and_plans():
    html = samples.comparison()
    assert "config.dropout" in html and "config.filters" not in html
    assert "McNemar" in html and ">−0.0" in html


def test_runs_of_the_same_name_are_told_apart():
    assert "x (2)" in render_comparison([{"recipe": "x"}, {"recipe": "x"}])


def test_a_private_run_shows_what_it_gave_away_and_what_is_not_covered():
    told = " ".join(Page(render(samples.private())).text)
    assert "ε 1.14 at δ = 1e-05 (PLD, poisson; σ 1.1, q 0.004267, 3,515 steps)" in told
    assert "What is not covered" in told and "validation and the test part are released without noise" in told
    assert "RDP, Poisson, add or remove one" in told and "ε at δ = 1e-08, PLD" in told
    assert "What was spent by when" in told


def test_a_measured_bound_stands_beside_the_proved_one():
    canaries = {"epsilon": 0.31, "upper": 1.134, "delta": 1e-5, "right": 70, "guesses": 100, "canaries": 1000}
    page = Page(render({**samples.private(), "audit": {"canaries": canaries}}))
    assert "ε is at least 0.31" in " ".join(page.text) and "at most 1.134 is proved" in " ".join(page.text)


def test_the_winner_of_a_private_search_shows_what_the_whole_search_gave_away():
    report = samples.private()
    whole = {"runs": 12, "delta": 1e-5, "accountant": "pld", "epsilon": {"pld": 4.2, "rdp": 4.9}}
    report["privacy"]["search"] = whole
    told = " ".join(Page(render(report)).text)
    assert "ε 4.2 at δ = 1e-05 of the search, as it looked at 12 private trainings" in told
    assert words.spent(report["privacy"]) == 4.2


def test_a_run_with_a_known_key_is_not_called_private():
    report = samples.private()
    report["privacy"]["key"] = {"source": "fixed", "insecure": True}
    assert "not private, as its key is known" in " ".join(Page(render(report)).text)
    assert words.spent(report["privacy"]) is None
