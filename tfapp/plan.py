"""Plan: what was asked for, and nothing else; and how layers of settings become one.

Layers, last wins: defaults of the fields < the recipe's `defaults` < `-c file.yaml` (in order) <
environment (`TFAPP_FIT__EPOCHS=5`) < words on the command line (`fit.epochs=5`).
"""

from __future__ import annotations

import difflib
import os
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from tfapp.errors import Missing, Usage, nearest
from tfapp.features import Features
from tfapp.runtime import Runtime
from tfapp.settings import Settings


class Schedule(Settings):
    """How the learning rate moves over the run; `fit.schedule=cosine` is short for `fit.schedule.kind=cosine`."""

    shorthand: ClassVar[str | None] = "kind"

    kind: Literal["constant", "cosine", "linear", "exponential", "plateau"] = Field(
        "constant",
        description="constant; cosine, linear or exponential decay over the whole run; plateau: cut when "
        "the monitored value stops improving",
    )
    warmup: float = Field(0, ge=0, description="epochs of linear rise from 0 to the recipe's learning rate")
    final: float = Field(0.01, ge=0, le=1, description="last learning rate as a share of the peak")
    factor: float = Field(0.5, gt=0, lt=1, description="plateau: what the learning rate is multiplied by")
    patience: int = Field(5, ge=1, description="plateau: epochs without improvement before a cut")

    @model_validator(mode="after")
    def _exponential_decay_never_reaches_zero(self) -> Schedule:
        if self.kind == "exponential" and self.final == 0:
            raise ValueError("an exponential decay never reaches final=0; use final=0.01 or kind=linear")
        return self


class Checkpoint(Settings):
    """When the state of training is saved, so that the same command goes on from there."""

    every_epochs: int | None = Field(None, ge=1, description="save each so many epochs")
    every_steps: int | None = Field(None, ge=1, description="save each so many steps")
    every_minutes: float | None = Field(
        None, gt=0, description="save at the first step after so many minutes; none of the three: 0.5 minutes"
    )
    keep: int = Field(2, ge=1, description="how many checkpoints to keep")


class Fit(Settings):
    """How long, in what batches, by what learning rate, and when to stop."""

    epochs: int = Field(10, ge=1, description="passes over the training examples")
    steps: int | None = Field(None, ge=1, description="stop after so many steps, however many epochs that is")
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        64, description="global batch size: examples a step over all replicas; auto: measured before training"
    )
    accumulate: int = Field(
        1, ge=1, description="take each batch in so many parts, one after another: less memory, the same step"
    )
    steps_per_execution: int | Literal["auto"] = Field(
        "auto", description="steps run between two returns to Python; auto keeps checkpoints and progress prompt"
    )
    jit: bool | Literal["auto"] = Field(
        "auto",
        description="compile the training step with XLA; auto: where a trial finds it faster, in a long training",
    )
    gather: Literal["auto", "step", "queue"] = Field(
        "auto",
        description="where batches are put together: in the step, by a queue beside it; auto: small ones in the step",
    )
    fused: bool = Field(
        True, description="Adam, AdamW and SGD with momentum by one kernel a weight, to rounding the same"
    )
    shuffle: bool = Field(True, description="a new order each epoch, a function of the seed and the epoch alone")
    monitor: str = Field("val_loss", description="the value that decides what is best (without validation: loss)")
    mode: Literal["auto", "min", "max"] = Field("auto", description="whether less or more of it is better")
    patience: int | None = Field(None, ge=1, description="stop after so many epochs without improvement")
    min_delta: float = Field(0.0, ge=0, description="a smaller change is no improvement")
    restore_best: bool = Field(True, description="end with the weights of the best epoch instead of the last")
    schedule: Schedule = Field(Schedule(), description="learning-rate schedule")
    clip_norm: float | None = Field(None, gt=0, description="clip the gradient to this global L2 norm")
    clip_value: float | None = Field(None, gt=0, description="clip every component of the gradient to ± this")
    class_weight: Literal["none", "balanced"] = Field(
        "none", description="balanced: weight each class in the loss by n / (classes × its count)"
    )
    checkpoint: Checkpoint = Field(Checkpoint(), description="when to save the state of training")

    @model_validator(mode="after")
    def _clip_one_way(self) -> Fit:
        if self.clip_norm and self.clip_value:
            raise ValueError("clip_norm and clip_value together: give one of them")
        return self


C = TypeVar("C", bound=Settings)


class Plan(Features, Generic[C]):
    """Everything that decides what a run does. Saved whole as the run's plan.yaml."""

    recipe: str = Field(description="a recipe's name, or the path of its file")
    config: C
    fit: Fit = Field(Fit(), description="the training itself")
    runtime: Runtime = Field(Runtime(), description="devices, precision, seed")

    def to_yaml(self) -> str:
        """The plan as a file that `-c` takes."""
        return yaml.dump(self.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def schema(config: type[Settings]) -> type[Plan]:
    """The plan of a recipe with this Config."""
    return Plan[config]  # type: ignore[valid-type]


def resolve(recipe: str, config: type[Settings], layers: Iterable[tuple[str, Mapping[str, Any]]]) -> Plan:
    """One plan from its layers, each a (where it came from, nested mapping), last wins.

    Raises:
      Usage: an unknown key or a wrong type, with the nearest right key or what is allowed.
    """
    whole = schema(config)
    merged: dict[str, Any] = {"recipe": recipe, "config": {}}
    for where, layer in layers:
        for key, value in layer.items():
            _place(whole, merged, _parts(key), value, where)
    try:
        return whole.model_validate({**merged, "recipe": recipe})
    except ValidationError as error:
        raise Usage(_explain(error)) from None


def from_words(words: Iterable[str]) -> dict[str, Any]:
    """`key=value` words as one layer. Values stay text for the field to read, but for none, [..] and quotes.

    Raises:
      Usage: a word without `=`, or a value that is broken YAML.
    """
    layer: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            raise Usage(f"cannot read {_short(word)}: settings are key=value, as fit.epochs=5")
        # Of two words with one key the second takes the last place too.
        layer[key.strip()] = _entries(layer.pop(key.strip(), None), _value(text, word))
    return layer


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """`TFAPP_FIT__EPOCHS=5` as a layer; other TFAPP_ variables without a double underscore are not settings."""
    return {
        key.removeprefix("TFAPP_").lower().replace("__", "."): _value(text, f"{key}={text}")
        for key, text in sorted(environment.items())
        if key.startswith("TFAPP_") and "__" in key
    }


def from_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A YAML file as a layer. Only plain values: nothing that a file says is executed.

    Raises:
      Missing: no such file. Usage: not UTF-8, not plain YAML, not a mapping, or a key twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise Missing(f"no config file at {path}") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise Usage(f"{path} is not a YAML file: {error}") from None
    try:
        layer = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Usage(f"{path} is not plain YAML: {' '.join(str(error).split())}") from None
    if layer is None:
        return {}
    if not isinstance(layer, dict):
        raise Usage(f"{path} holds {type(layer).__name__}, not sections with settings (as «fit: {{epochs: 5}}»)")
    return layer


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed between two dumped plans, a line a setting: «fit.epochs: 10 → 20»."""
    before, after = dict(_flat(old)), dict(_flat(new))
    return [
        f"{key}: {before.get(key, '(not set)')} → {after.get(key, '(not set)')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, _ABSENT) != after.get(key, _ABSENT)
    ]


_ABSENT = object()
_YAML = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """YAML's safe loader of plain values, without the surprises of YAML 1.1.

    1e-3 is a number (1.1 asks for 1.0e-3); on, off, yes, no and dates are text for the field to read; a key
    twice is refused, and so are aliases, by which a file of a few lines can stand for more than memory holds.
    """

    yaml_implicit_resolvers = {
        first: [rule for rule in rules if rule[0] not in {_YAML + "bool", _YAML + "timestamp"}]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"aliases are not read, write *{event.anchor} out", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} twice", node.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what _Loader reads: the text 1e3 in quotes, and no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # PyYAML writes the line breaks of Unicode as they are, and reads them as spaces; in double quotes it spells them.
        style = '"' if {"\x85", "\u2028", "\u2029"} & set(data) else None
        return self.represent_scalar(_YAML + "str", data, style)


_Dumper.add_representer(str, _Dumper.represent_str)
_FLOAT = (_YAML + "float", re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(*_FLOAT)
_Dumper.add_implicit_resolver(*_FLOAT)
_Loader.add_implicit_resolver(_YAML + "bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def _value(text: str, word: str) -> Any:
    if text.strip().lower() in {"none", "null", "~"}:
        return None
    if text[:1] not in {"[", "{", '"', "'"}:
        return text
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Usage(f"cannot read the value of {_short(word)}: {' '.join(str(error).split())}") from None


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting of a nested mapping by its dotted key."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _parts(key: Any) -> tuple[str, ...]:
    return tuple(str(key).split("."))


def _place(schema: type[BaseModel], tree: dict[str, Any], path: tuple[str, ...], value: Any, where: str) -> None:
    """Set a value, or all that a section holds, by a path that the schema knows."""
    config = schema.model_fields["config"].annotation
    if path[0] not in schema.model_fields and path[0] in config.model_fields:  # type: ignore[union-attr]
        path = ("config", *path)
    if path == ("recipe",):
        return
    here, section = tree, schema
    for depth, key in enumerate(path):
        if key not in section.model_fields:
            raise Usage(_unknown(schema, path[: depth + 1], where))
        annotation, rest = section.model_fields[key].annotation, path[depth + 1 :]
        inner = _section(annotation)
        if inner and rest:
            if not isinstance(here.get(key), dict):
                here[key] = {}
            here, section = here[key], inner
            continue
        if rest and not _is_mapping(annotation):
            raise Usage(_unknown(schema, path[: depth + 2], where))
        if inner and isinstance(value, Mapping) and value:
            for name, one in value.items():
                _place(schema, tree, (*path, *_parts(name)), one, where)
        elif inner:
            here[key] = _shorthand(inner, annotation, here.get(key), value, ".".join(path), where)
        elif _is_mapping(annotation):
            # What is left of the path is one key of the user's own, dots and all: types.education.num=number.
            here[key] = _entries(here.get(key), {".".join(rest): value} if rest else value)
        else:
            here[key] = _plain(annotation, value)
        return


def _entries(there: Any, given: Any) -> Any:
    """The user's own keys added to those of earlier layers; an empty mapping takes all away."""
    if not isinstance(given, Mapping) or not given:
        return given
    return {**(there if isinstance(there, Mapping) else {}), **{str(key): value for key, value in given.items()}}


def _shorthand(section: type[Settings], annotation: Any, there: Any, value: Any, key: str, where: str) -> Any:
    """`average=true` turns a section on, `average=none` off, `schedule=cosine` sets its kind; the rest stays as it is."""
    there = there if isinstance(there, dict) else {}
    if value == {} or str(value).lower() in {"true", "on", "yes"}:
        return there
    if str(value).lower() in {"none", "false", "off", "no"} and type(None) in _alternatives(annotation):
        return None
    if section.shorthand and value is not None:
        return {**there, section.shorthand: _plain(section.model_fields[section.shorthand].annotation, value)}
    first = section.shorthand or next(iter(section.model_fields))
    raise Usage(f"{key} is a section of settings, not {_short(value)} ({where})\nset them by name, as {key}.{first}=…")


def _plain(annotation: Any, value: Any) -> Any:
    """none as the word that it is where the field has that word, and a list where the field is one."""
    if value is None and any("none" in get_args(kind) for kind in _alternatives(annotation)):
        return "none"
    return _sequence(annotation, value)


def _sequence(annotation: Any, value: Any) -> Any:
    """`hidden=256,128` is a list where the field is one."""
    wanted = {get_origin(kind) for kind in _alternatives(annotation)}
    if isinstance(value, str) and wanted & {tuple, list}:
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in {Union, types.UnionType} else (annotation,)


def _section(annotation: Any) -> type[Settings] | None:
    for kind in _alternatives(annotation):
        if isinstance(kind, type) and issubclass(kind, Settings):
            return kind
    return None


def _is_mapping(annotation: Any) -> bool:
    return any(get_origin(kind) in {dict, Mapping} or kind is dict for kind in _alternatives(annotation))


def keys(schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key that the schema knows: fit.epochs, config.units, …"""
    for name, info in schema.model_fields.items():
        inner = _section(info.annotation)
        yield prefix + name
        if inner:
            yield from keys(inner, f"{prefix}{name}.")


def _unknown(schema: type[BaseModel], path: tuple[str, ...], where: str) -> str:
    word = ".".join(path)
    known = list(keys(schema))
    # `epochs=5` is fit.epochs mistyped: the same last part beats a similar whole.
    same = [key for key in known if key.split(".")[-1] == path[-1]]
    config = [key.removeprefix("config.") for key in known if key.startswith("config.")]
    parent = ".".join(path[:-1])
    siblings = {key.split(".")[-1]: key for key in known if parent and key.rpartition(".")[0] == parent}
    if same:
        hint = f"did you mean {same[0]!r}?"
    elif siblings:
        # By the last part alone: all of a section's settings begin alike.
        close = difflib.get_close_matches(path[-1], siblings, n=1)
        hint = nearest(siblings[close[0]] if close else "", siblings.values())
    else:
        hint = nearest(word, known + config)
        if hint.startswith("allowed"):
            hint = nearest(word, [*schema.model_fields, *config])
    return f"no setting {_short(word)} ({where})\n{hint}"


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False)[:3]:
        # Union members add the name of the tried type at the end; it says nothing to a user.
        path = ".".join(str(part) for part in problem["loc"] if not str(part).startswith(("function-", "literal[")))
        path = re.sub(r"\.(int|float|str|bool|constrained-\w+|tuple\[.*\])$", "", path)
        came = "" if isinstance(problem["input"], (dict, BaseModel)) else f" (came {_short(problem['input'])})"
        message = problem["msg"].removeprefix("Value error, ")
        line = f"{path}: {message[:1].lower()}{message[1:]}{came}"
        if line not in lines:
            lines.append(line)
    return "\n".join(lines)


def _short(value: Any) -> str:
    """A value as an error message shows it: errors are a line or two, whatever came."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]} … {text[-10:]}"


def explained(plan: Plan) -> Iterator[str]:
    """Every setting with its value and what it is, as aligned lines for a person."""
    rows = list(_settings(type(plan), plan, ""))
    width = min(44, max(len(f"{key}={value}") for key, value, _ in rows))
    for key, value, about in rows:
        yield f"  {f'{key}={value}':{width}}  {about}"


def _settings(schema: type[BaseModel], values: Any, prefix: str) -> Iterator[tuple[str, Any, str]]:
    # The recipe's own settings and the training come before the features, which the schema inherits.
    fields = schema.model_fields
    for name, info in sorted(fields.items(), key=lambda field: field[0] in Features.model_fields):
        value, inner, key = getattr(values, name, None), _section(info.annotation), prefix + name
        if prefix == "" and name == "recipe":
            continue
        if inner is None:
            text = ",".join(str(one) for one in value) if isinstance(value, tuple | list) else value
            yield key, "none" if text is None else text, info.description or ""
        elif value is None:
            yield key, "off", f"{info.description or ''}; on with {key}=true"
            yield from _settings(inner, inner(), f"{key}.")
        else:
            yield from _settings(inner, value, f"{key}.")
