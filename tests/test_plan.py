"""Settings from words, files and the environment become one plan, or a line that says why not."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from tfapp import plan
from tfapp import recipe as recipes
from tfapp.errors import Missing, Usage
from tfapp.settings import Settings, Split


class Config(Settings):
    """Settings of every kind that a recipe can have."""

    units: int = Field(64, ge=1)
    rate: float = Field(0.1, ge=0, lt=1)
    residual: bool = False
    target: str = "label"
    group: str | None = None
    weights: Literal["none", "imagenet"] = "none"
    hidden: list[int] = [256, 128]
    size: tuple[int, ...] = (32, 32)
    columns: list[str] = []
    types: dict[str, Literal["number", "category"]] = {}
    scale: float | Literal["auto"] = "auto"
    split: Split = Split()


SCHEMA = plan.schema(Config)


# Random settings of a schema. ------------------------------------------------------------------------------------


def alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def section_of(annotation: Any) -> type[Settings] | None:
    return next((k for k in alternatives(annotation) if isinstance(k, type) and issubclass(k, Settings)), None)


def one(kind: Any, bounds: list[Any]) -> st.SearchStrategy[Any]:
    """Values of one type, within the bounds of its field."""
    low = next((b.ge for b in bounds if hasattr(b, "ge")), None)
    low = next((b.gt for b in bounds if hasattr(b, "gt")), low)
    high = next((b.le for b in bounds if hasattr(b, "le")), next((b.lt for b in bounds if hasattr(b, "lt")), None))
    origin, inner = get_origin(kind), get_args(kind)
    if kind is type(None):
        return st.none()
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(low, high)
    if kind is float:
        return st.floats(low, high, allow_nan=False, allow_infinity=False)
    if kind is str:
        return st.text()
    if origin is Annotated:
        return one(inner[0], inner[1].metadata)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (list, tuple):
        return st.lists(one(inner[0], []), max_size=3)
    if origin is dict:
        return st.dictionaries(st.text(), one(inner[1], []), max_size=3)
    return sections(kind)


def sections(kind: type[Settings], without: set[str] = frozenset()) -> st.SearchStrategy[dict[str, Any]]:
    """Some of a section's settings, valid as a whole."""
    fields = {
        name: st.one_of([one(alternative, info.metadata) for alternative in alternatives(info.annotation)])
        for name, info in kind.model_fields.items()
        if name not in without
    }
    return st.fixed_dictionaries({}, optional=fields).filter(lambda values: without or valid(kind, values))


def valid(kind: type[Settings], values: Any) -> bool:
    try:
        kind.model_validate(values)
    except ValidationError:
        return False
    return True


LAYERS = sections(SCHEMA, without={"recipe"})


def words(kind: type[Settings], layer: Mapping[str, Any], prefix: str = "") -> list[str]:
    """A nested layer as one would type it."""
    typed = []
    for name, value in layer.items():
        section = section_of(kind.model_fields[name].annotation)
        if section and value:
            typed += words(section, value, f"{prefix}{name}.")
        else:
            typed.append(f"{prefix}{name}={spelt(value)}")
    return typed


def spelt(value: Any) -> str:
    if isinstance(value, str):
        return yaml.safe_dump(value, default_style='"', width=math.inf).strip()
    if isinstance(value, list):
        return f"[{', '.join(map(spelt, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{spelt(k)}: {spelt(v)}' for k, v in value.items())}}}"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return repr(value)


def resolve(*layers: Mapping[str, Any], config: type[Settings] = Config) -> plan.Plan:
    return plan.resolve("mine", config, [(f"layer {number}", layer) for number, layer in enumerate(layers)])


def typed(*words: str) -> plan.Plan:
    return resolve(plan.from_words(words))


def told(*words: str) -> str:
    """What a person who types this is told."""
    with pytest.raises(Usage) as caught:
        typed(*words)
    assert 1 <= len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


# Words -----------------------------------------------------------------------------------------------------------


@given(LAYERS)
def test_a_layer_typed_as_words_is_the_same_plan(layer: dict[str, Any]) -> None:
    assert resolve(plan.from_words(words(SCHEMA, layer))) == resolve(layer)


@given(LAYERS)
def test_a_valid_layer_sets_what_it_says_and_leaves_the_rest_at_its_default(layer: dict[str, Any]) -> None:
    assert resolve(layer) == SCHEMA.model_validate({"recipe": "mine", "config": {}, **layer})


@given(st.sampled_from(sorted(plan.keys(SCHEMA))), st.text())
@example("config", "5")
@example("types.a", "number")
@example("fit.epochs", "9" * 5000)
@example("columns", "['")
@example("fit.schedule", "{kind: {kind: cosine}}")
def test_any_text_for_any_setting_gives_a_plan_or_a_line_that_says_why_not(key: str, text: str) -> None:
    try:
        list(plan.explained(typed(f"{key}={text}", "units=3")))
    except Usage as error:
        assert len(str(error).splitlines()) <= 3 and len(str(error)) < 1000


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("fit.clip_norm=1e-3", "fit.clip_norm", 1e-3),
        ("rate=.5", "config.rate", 0.5),
        ("fit.shuffle=false", "fit.shuffle", False),
        ("fit.shuffle=off", "fit.shuffle", False),
        ("fit.patience=none", "fit.patience", None),
        ("group=none", "config.group", None),
        ('group="none"', "config.group", "none"),
        ("weights=none", "config.weights", "none"),
        ("fit.class_weight=none", "fit.class_weight", "none"),
        ("target=none of it", "config.target", "none of it"),
        ("target=", "config.target", ""),
        ("target=2024-01-01", "config.target", "2024-01-01"),
        ("target=1e3", "config.target", "1e3"),
        ("target=a=b", "config.target", "a=b"),
        ("target='it''s'", "config.target", "it's"),
        ("target=Größe 数", "config.target", "Größe 数"),
        (f"target={'x' * 100_000}", "config.target", "x" * 100_000),
        ("hidden=64,32", "config.hidden", [64, 32]),
        ("hidden=[64, 32]", "config.hidden", [64, 32]),
        ("hidden=[]", "config.hidden", []),
        ("hidden=", "config.hidden", []),
        ("columns=a,b c", "config.columns", ["a", "b c"]),
        ('columns=["a,b"]', "config.columns", ["a,b"]),
        ("size=8", "config.size", (8,)),
        ("scale=auto", "config.scale", "auto"),
        ("scale=0.5", "config.scale", 0.5),
        ("types.age=number", "config.types", {"age": "number"}),
        ("types.education.num=number", "config.types", {"education.num": "number"}),
        ("config.split.test=0.3", "config.split.test", 0.3),
        ("split.stratify=off", "config.split.stratify", "off"),
        ("fit.schedule=cosine", "fit.schedule.kind", "cosine"),
        ("average=true", "average.momentum", 0.99),
        ("average=0.9", "average.momentum", 0.9),
        ("average.momentum=0.9", "average.momentum", 0.9),
        ("average=off", "average", None),
        ("regularize=on", "regularize.l2", 0),
    ],
)
def test_a_word_means_what_one_would_think(word: str, key: str, value: Any) -> None:
    found: Any = typed(word)
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value and type(found) is type(value) or value == 0


@pytest.mark.parametrize("word", ["fit.epochs", "", "=", "=5", " =5", "--fit.epochs"])
def test_a_word_that_is_no_key_and_value_is_refused_with_an_example(word: str) -> None:
    assert "settings are key=value, as fit.epochs=5" in told(word)


@pytest.mark.parametrize("word", ["hidden=[64", "target='x", "types={a: b", 'target="\\q"', "hidden=[&a 1, *a]"])
def test_a_value_of_broken_yaml_is_refused(word: str) -> None:
    assert told(word).startswith("cannot read the value of ")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("fit.epochs=abc", "fit.epochs: input should be a valid integer"),
        ("fit.epochs=0", "fit.epochs: input should be greater than or equal to 1 (came '0')"),
        ("fit.epochs=1.5", "fit.epochs: input should be a valid integer"),
        ("rate=nan", "config.rate: input should be"),
        ("fit.clip_norm=inf", "fit.clip_norm: input should be a finite number"),
        ("weights=imagnet", "config.weights: input should be 'none' or 'imagenet'"),
        ("hidden=a,b", "config.hidden.0: input should be a valid integer"),
        ("types.age=date", "config.types.age: input should be 'number' or 'category'"),
        ("fit.schedule=cosin", "fit.schedule.kind: input should be 'constant', 'cosine'"),
        ("fit=false", "fit is a section of settings, not 'false'"),
        ("config=5", "config is a section of settings, not '5'"),
        ("regularize=0.1", "set them by name, as regularize.l1="),
        ("fit.schedule=none", "fit.schedule is a section of settings"),
        ("split.test=0.95", "leave nothing to train on"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_what_is_allowed(word: str, said: str) -> None:
    assert said in told(word)


def test_two_ways_of_clipping_are_refused() -> None:
    assert "give one of them" in told("fit.clip_norm=1", "fit.clip_value=1")


def test_an_exponential_decay_to_zero_is_refused() -> None:
    assert "never reaches final=0" in told("fit.schedule=exponential", "fit.schedule.final=0")


def test_a_very_long_wrong_value_is_shown_short() -> None:
    assert len(told("fit.epochs=" + "x" * 100_000)) < 250
    assert len(told("x" * 100_000 + "=1")) < 1000
    assert len(told("x" * 100_000)) < 250


# Unknown keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("epochs=5", "did you mean 'fit.epochs'?"),
        ("fit.epoch=5", "did you mean 'fit.epochs'?"),
        ("unit=5", "did you mean 'units'?"),
        ("split.tests=0.1", "did you mean 'config.split.test'?"),
        ("fit.epochs.x=5", "did you mean 'fit.epochs'?"),
        ("runtime.gpus=2", "allowed: runtime.communication, runtime.deterministic"),
        ("zzz=1", "allowed: audit, average, cluster, columns"),
        ("average.decay=0.9", "allowed: average.momentum"),
        ("recipe.name=x", "did you mean 'recipe'?"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_or_with_what_is_allowed(word: str, hint: str) -> None:
    assert hint in told(word)


KEYS = set(plan.keys(SCHEMA)) | {key.removeprefix("config.") for key in plan.keys(SCHEMA)}


@given(st.one_of(st.text(), st.sampled_from(sorted(KEYS)).flatmap(lambda key: st.text().map(lambda t: f"{key}.{t}"))))
def test_every_unknown_key_is_refused_with_a_hint(key: str) -> None:
    assume(key not in KEYS and not key.startswith(("types.", "config.types.", "distill.hints.")) and key != "recipe")
    with pytest.raises(Usage, match=r"(?s)^no setting .*\n(did you mean|allowed: )"):
        resolve({key: 1})


def test_an_unknown_key_says_where_it_came_from() -> None:
    with pytest.raises(Usage, match=r"no setting 'fit.epoch' \(layer 1\)"):
        resolve({"fit": {"epochs": 1}}, {"fit": {"epoch": 1}})


# Layers ----------------------------------------------------------------------------------------------------------


def overlaid(below: Mapping[str, Any], above: Mapping[str, Any], kind: type[Settings]) -> dict[str, Any]:
    """What two layers come to, setting by setting."""
    merged = dict(below)
    for name, value in above.items():
        section = section_of(kind.model_fields[name].annotation)
        there = merged.get(name)
        if section and isinstance(value, dict):
            merged[name] = overlaid(there or {}, value, section)
        elif isinstance(value, dict) and value:
            merged[name] = {**(there or {}), **value}
        else:
            merged[name] = value
    return merged


@given(LAYERS, LAYERS, LAYERS)
def test_of_several_layers_the_last_to_name_a_setting_wins(a: dict, b: dict, c: dict) -> None:
    merged = overlaid(overlaid(a, b, SCHEMA), c, SCHEMA)
    assume(valid(SCHEMA, {"recipe": "mine", "config": {}, **merged}))
    assert resolve(a, b, c) == resolve(merged)


@given(LAYERS, LAYERS)
def test_words_on_one_line_and_on_two_layers_are_the_same(a: dict, b: dict) -> None:
    first, second = words(SCHEMA, a), words(SCHEMA, b)
    try:
        apart = resolve(plan.from_words(first), plan.from_words(second))
    except Usage:
        assume(False)
    assert typed(*first, *second) == apart


def test_a_short_form_changes_its_own_setting_alone() -> None:
    found = typed("fit.schedule.warmup=2", "fit.schedule=cosine", "average.momentum=0.5", "average=true")
    assert found.fit.schedule == plan.Schedule(kind="cosine", warmup=2)
    assert found.average.momentum == 0.5


def test_a_section_can_be_turned_off_and_on_again() -> None:
    assert typed("average=0.5", "average=false").average is None
    assert typed("average=0.5", "average=false", "average=true").average.momentum == 0.99
    assert typed("average=false", "average.momentum=0.5", "average=false").average is None


def test_the_user_s_own_keys_add_up_over_layers_until_an_empty_mapping() -> None:
    first, second = {"types": {"a": "number"}}, plan.from_words(["types.b=category"])
    assert resolve(first, second).config.types == {"a": "number", "b": "category"}
    assert resolve(first, {"types": {}}, second).config.types == {"b": "category"}


def test_the_recipe_is_the_one_that_was_asked_for_whatever_a_layer_says() -> None:
    assert resolve({"recipe": "another"}).recipe == "mine"


# The environment -------------------------------------------------------------------------------------------------


def test_the_environment_sets_what_has_a_double_underscore_and_nothing_else() -> None:
    environment = {
        "TFAPP_FIT__EPOCHS": "7",
        "TFAPP_FIT__SCHEDULE__KIND": "cosine",
        "TFAPP_CONFIG__HIDDEN": "[1, 2]",
        "TFAPP_RUNS": "/elsewhere",
        "TFAPP_DEBUG": "1",
        "OTHER__THING": "x",
    }
    found = resolve(plan.from_environment(environment))
    assert found == typed("fit.epochs=7", "fit.schedule=cosine", "hidden=1,2")


def test_an_unknown_key_in_the_environment_is_refused_too() -> None:
    with pytest.raises(Usage, match="no setting 'fit.epoch'"):
        resolve(plan.from_environment({"TFAPP_FIT__EPOCH": "7"}))
    with pytest.raises(Usage, match="no setting"):
        resolve(plan.from_environment({"TFAPP___": "7"}))


# Files -----------------------------------------------------------------------------------------------------------


def written(folder: Path, text: str | bytes) -> dict[str, Any]:
    path = folder / "layer.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return plan.from_file(path)


@pytest.mark.moderate
@given(LAYERS)
@example(
    {
        "config": {
            "target": "1e3",
            "columns": ["off", "2024-01-01", "", "null", "0x1F", "1:30", "~", "\x85", " \u2028\n"],
        }
    }
)
@example({"config": {"types": {"education.num": "number", "1": "number", "": "category"}}, "average": {}})
def test_a_saved_plan_read_again_is_the_same_plan(tmp_path_factory, layer: dict[str, Any]) -> None:
    asked = resolve(layer)
    folder = tmp_path_factory.getbasetemp()
    assert resolve(written(folder, asked.to_yaml())) == asked
    assert plan.difference(asked.model_dump(mode="json"), yaml.safe_load(asked.to_yaml())) == []


@pytest.mark.parametrize("name", [recipe.word for recipe in recipes.listed()])
def test_a_saved_plan_of_every_recipe_read_over_its_defaults_is_the_same_plan(name: str, tmp_path: Path) -> None:
    module = recipes.load(recipes.find(name))
    own = recipes.defaults(module)
    asked = resolve(own, plan.from_words(["fit.schedule=linear", "average=on"]), config=module.Config)
    assert resolve(own, written(tmp_path, asked.to_yaml()), config=module.Config) == asked
    assert all(info.description for info in module.Config.model_fields.values() if not section_of(info.annotation))
    shown = list(plan.explained(asked))
    assert any(line.lstrip().startswith("fit.schedule.kind=linear ") for line in shown)


def test_a_file_reads_numbers_and_words_as_a_person_means_them(tmp_path: Path) -> None:
    layer = written(
        tmp_path,
        "config: {rate: 1e-3, residual: yes, target: 2024-01-01, split: {stratify: off}}\n"
        "fit.epochs: 3\naverage: on\nfit: {class_weight: none, clip_norm: 1E0}\ntypes: {education.num: number}\n",
    )
    found = resolve(layer)
    assert (found.config.rate, found.config.residual, found.config.target) == (1e-3, True, "2024-01-01")
    assert (found.config.split.stratify, found.fit.epochs, found.fit.clip_norm) == ("off", 3, 1.0)
    assert found.average is not None and found.config.types == {"education.num": "number"}


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n", "\ufeff", "\n\n"])
def test_an_empty_file_sets_nothing(tmp_path: Path, text: str) -> None:
    assert written(tmp_path, text) == {}


HOSTILE = {
    "a tag that calls": "fit: !!python/object/apply:os.system ['touch {folder}/done']",
    "a tag that makes": "!!python/object/new:os.system ['touch {folder}/done']",
    "a tag that names": "fit: !!python/name:os.system",
    "a tag of its own": "fit: !thing {{epochs: 3}}",
    "an alias": "fit: &f {{epochs: 3}}\nruntime: *f",
    "an alias of itself": "fit: &f\n  epochs: *f",
    "a list in itself": "hidden: &h [*h]",
    "a merge": "fit: &f {{epochs: 3}}\nruntime: {{<<: *f}}",
    "a thousand million laughs": "hidden: &a0 [x, x]\n"
    + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)),
    "a key twice": "fit: {{epochs: 3, epochs: 4}}",
    "a section twice": "fit: {{epochs: 3}}\nfit: {{epochs: 4}}",
    "a key that is a list": "? [a]\n: b",
    "two documents": "fit: {{epochs: 3}}\n---\nfit: {{epochs: 4}}",
    "a list": "- fit",
    "a word": "fit",
    "a tab": "fit:\n\tepochs: 3",
    "a colon too much": "fit: epochs: 3",
    "an open bracket": "hidden: [1,",
    "very deep": "fit: " + "[" * 100_000,
    "a number too large to read": "fit: {{epochs: " + "9" * 5000 + "}}",
    "a NUL": "fit: \0",
}


@pytest.mark.moderate
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_ends_in_usage_and_nothing_of_it_is_done(tmp_path: Path, kind: str) -> None:
    text = HOSTILE[kind]
    with pytest.raises(Usage, match="layer.yaml"):
        written(tmp_path, text.format(folder=tmp_path) if "{" in text else text)
    assert [path.name for path in tmp_path.iterdir()] == ["layer.yaml"]


@given(st.one_of(st.text(), st.text("fit: epochs{}[]&*!|>'\"-?,#\n5."), st.binary().map(bytes)))
def test_any_file_at_all_gives_a_plan_or_usage(tmp_path_factory, text: str | bytes) -> None:
    try:
        resolve(written(tmp_path_factory.getbasetemp(), text))
    except Usage as error:
        assert len(str(error).splitlines()) <= 3


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "none.yaml", tmp_path / "file" / "none.yaml"):
        with pytest.raises(Missing, match="no config file at"):
            plan.from_file(path)


def test_a_folder_or_other_bytes_are_no_file_of_settings(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="is not a YAML file"):
        plan.from_file(tmp_path)
    with pytest.raises(Usage, match="is not a YAML file"):
        written(tmp_path, b"\xff\xfe\x00")


# The difference between plans ------------------------------------------------------------------------------------


@given(LAYERS, LAYERS)
def test_the_difference_of_two_plans_names_each_changed_setting_once(a: dict, b: dict) -> None:
    first, second = (resolve(layer).model_dump(mode="json") for layer in (a, b))
    lines = plan.difference(first, second)
    assert bool(lines) == (first != second)
    assert len({line.partition(": ")[0] for line in lines}) == len(lines) or "types" in str(lines)
    assert plan.difference(first, first) == []


def test_the_difference_says_what_was_and_what_is() -> None:
    first, second = typed("fit.epochs=10"), typed("fit.epochs=20", "average=0.9")
    assert plan.difference(first.model_dump(), second.model_dump()) == [
        "average: None → (not set)",
        "average.momentum: (not set) → 0.9",
        "fit.epochs: 10 → 20",
    ]
