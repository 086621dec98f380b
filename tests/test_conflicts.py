"""Every row of the table of conflicts is refused, and has a test here."""

from __future__ import annotations

import json

import pytest

from tfapp import conflicts, plan
from tfapp import recipe as recipes
from tfapp.errors import Refused
from tfapp.features import Features
from tfapp.settings import Settings


class Config(Settings):
    pass


# Words that go against a row, and the words that its way out leads to.
TRIGGERS = [
    ("fit.schedule=plateau fit.schedule.warmup=1", "fit.schedule=plateau"),
    ("fit.schedule=plateau fit.schedule.warmup=1", "fit.schedule=cosine fit.schedule.warmup=1"),
    ("runtime.precision=float16 runtime.strategy=tpu", "runtime.precision=bfloat16 runtime.strategy=tpu"),
    ("runtime.communication=ring runtime.strategy=mirrored", "runtime.strategy=mirrored"),
    ("runtime.communication=ring runtime.strategy=mirrored", "runtime.communication=ring runtime.strategy=multiworker"),
    ("fit.jit=true runtime.strategy=tpu", "runtime.strategy=tpu"),
    ("fit.batch_size=auto runtime.strategy=tpu", "fit.batch_size=64 runtime.strategy=tpu"),
    ("runtime.replicas=2 runtime.strategy=single", "runtime.replicas=2 runtime.strategy=mirrored"),
    ("runtime.replicas=2 runtime.strategy=tpu", "runtime.strategy=tpu"),
    ("runtime.strategy=parameter_server runtime.deterministic=true", "runtime.strategy=parameter_server"),
    (
        "runtime.strategy=parameter_server runtime.deterministic=true",
        "runtime.strategy=multiworker runtime.deterministic=true",
    ),
    ("runtime.strategy=parameter_server runtime.replicas=2", "runtime.strategy=parameter_server"),
    (
        "runtime.strategy=parameter_server runtime.precision=float16",
        "runtime.strategy=parameter_server runtime.precision=bfloat16",
    ),
    ("runtime.strategy=parameter_server fit.jit=true", "runtime.strategy=parameter_server"),
    ("runtime.strategy=parameter_server fit.batch_size=auto", "runtime.strategy=parameter_server fit.batch_size=64"),
    ("runtime.strategy=parameter_server fit.accumulate=2", "runtime.strategy=parameter_server fit.batch_size=8"),
    ("runtime.strategy=parameter_server private=3", "runtime.strategy=multiworker private=3"),
    ("runtime.strategy=parameter_server prune=0.5", "runtime.strategy=multiworker prune=0.5 start=run"),
    ("runtime.strategy=parameter_server cluster=16", "cluster=16 start=run"),
    ("runtime.strategy=parameter_server quantize=true", "quantize=true start=run"),
    ("runtime.strategy=parameter_server average=true", "runtime.strategy=parameter_server"),
    ("runtime.strategy=parameter_server audit.shadow=0", "audit.shadow=0"),
    ("runtime.strategy=mesh", "runtime.mesh.data=2 runtime.mesh.model=2"),
    ("runtime.mesh.data=1", "runtime.mesh.data=2"),
    ("runtime.mesh.model=2 runtime.strategy=mirrored", "runtime.mesh.model=2"),
    ("runtime.mesh.model=2 runtime.replicas=2", "runtime.mesh.model=2 runtime.mesh.data=2"),
    ("runtime.mesh.data=2 fit.jit=true", "runtime.mesh.data=2"),
    ("runtime.mesh.model=2 fit.accumulate=2", "runtime.mesh.data=4 runtime.mesh.model=2"),
    ("runtime.mesh.model=2 runtime.precision=float16", "runtime.mesh.model=2 runtime.precision=bfloat16"),
    ("runtime.mesh.model=2 private=3", "runtime.mesh.data=2 private=3"),
    ("runtime.mesh.model=2 prune=0.5", "prune=0.5 start=run"),
    ("runtime.mesh.model=2 cluster=16", "cluster=16 start=run"),
    ("runtime.mesh.model=2 quantize=true", "quantize=true start=run"),
    ("runtime.mesh.model=2 regularize.l2=0.1", "runtime.mesh.model=2 regularize.weight_decay=0.1"),
    ("runtime.mesh.model=2 distill=run distill.hints.a=b", "runtime.mesh.model=2 distill=run"),
    ("quantize=true prune=0.5", "quantize=true start=run"),
    ("quantize=true cluster=16", "quantize=true start=run"),
    ("quantize=true runtime.precision=bfloat16", "quantize=true"),
    ("quantize=true fit.accumulate=2", "quantize=true"),
    ("quantize=true distill=run distill.hints.a=b", "quantize=true start=run distill=run"),
    ("private=true", "private=3"),
    ("private=3 private.noise_multiplier=1", "private.noise_multiplier=1"),
    ("private=3 quantize=true", "private=3"),
    ("private=3 runtime.precision=float16", "private=3 runtime.precision=bfloat16"),
    ("private=3 fit.accumulate=4", "private=3 private.microbatch=64"),
    ("private=3 fit.batch_size=auto", "private=3 fit.batch_size=256 private.microbatch=64"),
    ("private=3 fit.class_weight=balanced", "private=3"),
    ("private=3 fit.clip_norm=1", "private=3 private.clip_norm=1"),
    ("private=3 private.sampling=shuffle fit.shuffle=false", "private=3 private.sampling=shuffle"),
    ("private=3 private.sampling=shuffle fit.shuffle=false", "private=3 fit.shuffle=false"),
    ("private=3 distill=run distill.hints.a=b", "private=3 distill=run"),
    ("audit.shadow=0 audit.canaries=10", "audit.shadow=0"),
    ("start=true", "start=run"),
    ("fit.jit=true runtime.deterministic=true", "fit.jit=true"),
    ("fit.jit=true runtime.deterministic=true", "runtime.deterministic=true"),
    ("distill=true", "distill=runs/big"),
    ("distill=runs/big distill.alpha=0", "distill=runs/big distill.alpha=0.5"),
]


def planned(words: str) -> plan.Plan:
    return plan.resolve("mine", Config, [("words", plan.from_words(words.split()))])


@pytest.mark.parametrize(("words", "way_out"), TRIGGERS)
def test_a_combination_is_refused_by_one_row_and_its_way_out_is_not(words: str, way_out: str) -> None:
    row = next(row for row in conflicts.CONFLICTS if row.when(planned(words)))
    with pytest.raises(Refused) as caught:
        conflicts.check(planned(words))
    assert str(caught.value) == f"{row.why}\n{row.instead}"
    conflicts.check(planned(way_out))


def test_every_row_has_words_that_go_against_it_alone() -> None:
    against = [
        {number for number, row in enumerate(conflicts.CONFLICTS) if row.when(planned(words))} for words, _ in TRIGGERS
    ]
    assert all(len(rows) == 1 for rows in against)
    untested = set(range(len(conflicts.CONFLICTS))) - set.union(*against)
    assert not untested, f"TRIGGERS has no words for: {[conflicts.CONFLICTS[number].why for number in untested]}"


def test_a_row_names_the_settings_that_it_refuses_and_the_way_out() -> None:
    known = set(plan.keys(plan.schema(Config))) | set(Features.model_fields)
    for row in conflicts.CONFLICTS:
        words = [word.partition("=")[0] for word in row.why.replace(",", " ").replace(":", " ").split()]
        named = [word for word in words if "." in word or word in Features.model_fields]
        assert named and set(named) <= known, row.why
        assert row.instead and "\n" not in row.why + row.instead


@pytest.mark.moderate
@pytest.mark.parametrize("name", [recipe.word for recipe in recipes.listed()])
def test_no_recipe_s_own_plan_is_refused(name: str) -> None:
    module = recipes.load(recipes.find(name))
    conflicts.check(plan.resolve(name, module.Config, [("own", recipes.defaults(module))]))


def test_servers_that_tf_config_names_count_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = {"chief": ["c:1"], "worker": ["a:1"], "ps": ["s:1"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": jobs, "task": {"type": "chief", "index": 0}}))
    with pytest.raises(Refused, match="deterministic=true with parameter servers"):
        conflicts.check(planned("runtime.deterministic=true"))
    conflicts.check(planned("runtime.deterministic=true runtime.strategy=multiworker"))
