"""Stages come in one order, grow stronger by level, and go on from one another."""

from __future__ import annotations

import pytest

from tfapp import plan as plans
from tfapp import recipe as recipes
from tfapp.compress import stages
from tfapp.errors import Usage


def test_a_pipeline_is_stages_in_their_order() -> None:
    assert stages.parse("prune, quantize") == ("prune", "quantize")
    for text, told in (
        ("prun", "no stage 'prun' in --pipeline\n.*prune"),
        ("quantize,prune", "in the order distill,prune,cluster,quantize"),
        ("prune,prune", "once each"),
        ("", "once each"),
    ):
        with pytest.raises(Usage, match=told):
            stages.parse(text)


def test_each_level_is_stronger_than_the_one_before_and_a_pinned_stage_stays() -> None:
    levels = [stages.strengths(stages.STAGES, level, {}) for level in stages.LEVELS]
    assert all(set(level) == {"distill", "prune", "cluster"} for level in levels)
    for one, next_ in zip(levels, levels[1:], strict=False):
        assert next_["distill"] < one["distill"] and next_["prune"] > one["prune"] and next_["cluster"] < one["cluster"]
    assert stages.strengths(("prune", "quantize"), 5, {"prune": 0.6}) == {"prune": 0.6}
    assert [stages.strengths(("prune", "cluster"), level, {}) for level in (9, 10, 17)] == [
        {"prune": 0.8, "cluster": 32},
        {"prune": 0.825, "cluster": 27},
        {"prune": 0.95, "cluster": 8},
    ]


def planned(base: dict, *layers: dict) -> plans.Plan:
    module = recipes.load(recipes.find("digits"))
    return plans.resolve("digits", module.Config, [("base", base), *(("stage", layer) for layer in layers)])


def test_a_stage_s_plan_goes_on_from_the_one_before_without_its_section() -> None:
    pruned = planned({"fit.patience": 3}, stages.settings("prune", 0.9, "runs/a", "runs/a", 4))
    assert pruned.prune is not None and pruned.prune.sparsity == 0.9 and pruned.start.run == "runs/a"
    assert pruned.fit.epochs == 4 and pruned.fit.patience is None and pruned.fit.schedule.kind == "cosine"
    dumped = pruned.model_dump(mode="json")
    clustered = planned(dumped, stages.settings("cluster", 16, "runs/b", "runs/a", 2))
    assert clustered.prune is None and clustered.cluster.clusters == 16 and clustered.start.run == "runs/b"
    rounded = planned(clustered.model_dump(mode="json"), stages.settings("quantize", None, "runs/c", "runs/a", 2))
    assert rounded.cluster is None and rounded.quantize.preserve == "auto"


def test_the_name_of_a_stage_says_how_strong_it_is() -> None:
    assert stages.name("prune", 0.8) == "prune-0.8" and stages.name("cluster", 32.0) == "cluster-32"
    assert stages.name("quantize", None) == "quantize"


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("cluster=8", "for the stage cluster, which is not in --pipeline prune,quantize"),
        ("prune", "settings are key=value"),
        ("start.run=x", "start.run is what compress sets itself"),
        ("config.units=3", "config.units is what compress sets itself"),
    ],
)
def test_words_that_no_stage_takes_are_refused(word: str, told: str) -> None:
    with pytest.raises(Usage, match=told):
        stages.checked([word], ("prune", "quantize"))
    assert stages.checked(["prune.pattern=2:4", "fit.batch_size=8"], ("prune",)) == (
        "prune.pattern=2:4",
        "fit.batch_size=8",
    )
