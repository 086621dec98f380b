"""What is searched: settings of a plan with the values that they may take, from words such as `units=int:32..256:32`.

    units=int:32..256:32              whole numbers in steps of 32, both ends included
    units=int:8..512:log              whole numbers, evenly over their logarithm
    dropout=float:0..0.5              numbers;  dropout=float:0..0.5:0.1 in steps
    learning_rate=log:1e-4..1e-2      numbers, evenly over their logarithm
    fit.batch_size=choice:32,64       one of these;  hidden=choice:[256,128],[512] lists in brackets
    filters=int:32..128:32@model=cnn  only where model is cnn (@model=cnn,transformer: either)

Nothing here imports Keras Tuner, which takes seconds: a wrong word is answered at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tfapp.errors import Expected, Refused, Usage, nearest

if TYPE_CHECKING:
    from keras_tuner import HyperParameters

    from tfapp.plan import Plan

Value = int | float | str
KINDS = ("int", "float", "log", "choice")
# What belongs to the process that runs the trials one after another, and not to a trial.
OF_PROCESS = ("strategy", "replicas", "tpu", "communication", "deterministic", "threads", "parallel_operations")
_KIND = re.compile(r"([A-Za-z_]+):(.*)", re.DOTALL)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::(.+))?")


@dataclass(frozen=True)
class Param:
    """One setting to search.

    Attributes:
      key: of the plan, as on the command line (learning_rate, fit.batch_size).
      kind: int, float or choice.
      low, high: both included. step: distance of neighbours, None for any value. log: evenly over the logarithm.
      choices: of a choice, at least one, all of one type.
      where: (key of a choice before it, its values) for which this one counts; None: always.
    """

    key: str
    kind: Literal["int", "float", "choice"]
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    choices: tuple[Value, ...] = ()
    where: tuple[str, tuple[Value, ...]] | None = None

    @property
    def ends(self) -> tuple[Value, ...]:
        """The values that are tried on the plan before anything is trained: both ends, or every choice."""
        if self.kind == "choice":
            return self.choices
        ends = (self.low, self._last)
        return tuple(int(end) for end in ends) if self.kind == "int" else ends

    @property
    def _last(self) -> float:
        if self.step is None:
            return self.high
        return self.low + math.floor((self.high - self.low) / self.step + 1e-9) * self.step

    @property
    def word(self) -> str:
        """The word that gives this again."""
        if self.kind == "choice":
            what = "choice:" + ",".join(str(value) for value in self.choices)
        else:
            show = str if self.kind == "float" else (lambda number: str(int(number)))
            how = ":log" if self.log else "" if self.step is None else f":{show(self.step)}"
            what = f"{self.kind}:{show(self.low)}..{show(self.high)}{how}"
        where = "" if self.where is None else f"@{self.where[0]}={','.join(map(str, self.where[1]))}"
        return f"{self.key}={what}{where}"


def parse(words: Iterable[str]) -> tuple[tuple[Param, ...], list[str]]:
    """(the settings to search, the ordinary words) of a command line, each in their order.

    Raises:
      Usage: a range that is empty, contradictory or cannot be read; a setting twice; a condition on no choice.
    """
    params: list[Param] = []
    rest: list[str] = []
    for word in words:
        param = _param(word, params)
        if param is None:
            rest.append(word)
        elif any(_same(param.key, other.key) for other in params):
            raise Usage(f"{param.key} is searched twice\ngive it one range, as {param.word}")
        else:
            params.append(param)
    for word, param in ((word, param) for word in rest for param in params):
        if _same(word.partition("=")[0].strip(), param.key):
            raise Usage(f"{param.key} has a range and a value: {param.word} {word}\nleave one of the two out")
    return tuple(params), rest


def _same(key: str, other: str) -> bool:
    """Whether two keys name one setting."""
    return key.removeprefix("config.") == other.removeprefix("config.")


def check(params: Sequence[Param], resolve: Callable[[Mapping[str, Value]], Plan]) -> None:
    """Build the plan at both ends of every range and with every choice, so that nothing is found out after hours.

    Args:
      resolve: the plan with these settings; raises as `asking.ask` does.

    Raises:
      Usage: a key that the plan lacks, with the nearest; a value that the setting does not take. Refused: settings that
      do not go together, or one that belongs to the whole process.
    """
    for param in params:
        section, _, name = param.key.rpartition(".")
        if section == "runtime" and name in OF_PROCESS:
            raise Refused(
                f"{param.key} belongs to the process, and trials share one\n"
                f"give it one value: {param.key}={param.ends[0]}"
            )
        given = {} if param.where is None else {param.where[0]: param.where[1][0]}
        for value in param.ends:
            try:
                resolve({**given, param.key: value})
            except Expected as error:
                raise type(error)(f"{error}\nin {param.word}") from None


def to_keras_tuner(params: Sequence[Param]) -> HyperParameters:
    """The same space as Keras Tuner's algorithms take it; a setting starts at its lowest value."""
    import keras_tuner

    space = keras_tuner.HyperParameters()
    for param in params:
        parent, values = param.where if param.where is not None else (None, None)
        scope = {"parent_name": parent, "parent_values": list(values) if values is not None else None}
        if param.kind == "choice":
            space.Choice(param.key, list(param.choices), **scope)
        elif param.kind == "int":
            step = None if param.step is None else int(param.step)
            space.Int(param.key, int(param.low), int(param.high), step, _sampling(param), **scope)
        else:
            space.Float(param.key, param.low, param.high, param.step, _sampling(param), **scope)
    return space


def as_words(values: Mapping[str, Value]) -> list[str]:
    """Values as the words that set them; of floats every digit."""
    return [f"{key}={value!r}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()]


def _sampling(param: Param) -> str:
    return "log" if param.log else "linear"


def _param(word: str, before: Sequence[Param]) -> Param | None:
    """The setting that a word lets vary; None where it is an ordinary word."""
    key, _, text = word.partition("=")
    key, kind = key.strip(), _KIND.fullmatch(text.strip())
    if kind is None or not key:
        return None
    name, rest = kind[1], kind[2]
    if name not in KINDS:
        # A path such as C:\data is no range; x:1..2 is meant as one.
        if _RANGE.match(rest):
            raise Usage(f"{word}: there is no kind {name!r} of range\n{nearest(name, KINDS)}")
        return None
    rest, where = _where(word, rest, before)
    if name == "choice":
        choices = _choices(word, rest)
        if len(choices) == 1 and where is None:
            raise Usage(f"{word} holds one value only\ngive it as an ordinary word: {key}={rest.strip()}")
        return Param(key, "choice", choices=choices, where=where)
    return _range(word, key, name, rest, where)


def _range(word: str, key: str, kind: str, text: str, where: Any) -> Param:
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        example = "log:1e-4..1e-2" if kind == "log" else f"{kind}:0..10 or {kind}:0..10:2"
        raise Usage(f"cannot read the range of {word!r}\na range is LOW..HIGH, as {key}={example}")
    log = kind == "log" or found[3] == "log"
    step = None if log or found[3] is None else _number(word, found[3])
    if kind == "log" and found[3] is not None:
        raise Usage(f"{word}: a range over the logarithm has no step\nleave :{found[3]} out")
    low, high = float(found[1]), float(found[2])
    if not (math.isfinite(low) and math.isfinite(high)):
        raise Usage(f"{word}: its ends are too large for a number")
    numbers = {"LOW": low, "HIGH": high, **({} if step is None else {"STEP": step})}
    if kind == "int":
        for part, number in numbers.items():
            if number != int(number):
                raise Usage(f"{word}: {part} of an int range is {number:g}\nuse {key}=float:{found[1]}..{found[2]}")
        step = step if log or step is not None else 1.0
    if low > high:
        raise Usage(f"{word} is empty: {found[1]} is more than {found[2]}\nturn it round: {found[2]}..{found[1]}")
    if low == high:
        raise Usage(f"{word} holds one value only\ngive it as an ordinary word: {key}={found[1]}")
    if log and low <= 0:
        raise Usage(f"{word}: a range over the logarithm begins above 0\nas {key}={kind}:1e-4..{found[2]}")
    if step is not None and not 0 < step <= high - low:
        raise Usage(f"{word}: the step {step:g} is not between 0 and {high - low:g}, what the range spans")
    return Param(key, "int" if kind == "int" else "float", low, high, step, log, where=where)


def _number(word: str, text: str) -> float:
    if re.fullmatch(_NUMBER, text.strip()) is None:
        raise Usage(f"{word}: {text!r} is no step\na step is a number, or log")
    return float(text)


def _choices(word: str, text: str) -> tuple[Value, ...]:
    items = _split(text)
    if not items:
        raise Usage(f"{word} is empty\ngive it values, as choice:32,64")
    values = _of_one_type(items)
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise Usage(f"{word} names {twice} twice\nname each value once")
    return values


def _of_one_type(items: Sequence[str]) -> tuple[Value, ...]:
    """The items as whole numbers, numbers or words, whichever all of them are."""
    if all(re.fullmatch(r"[-+]?\d+", item) for item in items):
        return tuple(int(item) for item in items)
    if all(re.fullmatch(_NUMBER, item) for item in items) and all(math.isfinite(float(item)) for item in items):
        return tuple(float(item) for item in items)
    return tuple(items)


def _split(text: str) -> list[str]:
    """The parts between commas, but not between those inside brackets."""
    parts = re.findall(r"(?:\[[^\]]*\]|[^,\[])+", text)
    return [part.strip() for part in parts if part.strip()]


def _where(word: str, text: str, before: Sequence[Param]) -> tuple[str, tuple[str, tuple[Value, ...]] | None]:
    """What is left of the text without its condition, and the condition."""
    found = re.fullmatch(r"(.*)@([\w.]+)=(.+)", text, re.DOTALL)
    if found is None:
        return text, None
    parent = next((param for param in before if param.key == found[2]), None)
    if parent is None or parent.kind != "choice":
        raise Usage(
            f"{word} holds only for some values of {found[2]}, which is no choice before it\n"
            f"put it first, as {found[2]}=choice:{found[3]},…"
        )
    names = {str(choice): choice for choice in parent.choices}
    wanted = [str(value) for value in _of_one_type(_split(found[3]))]
    if all(isinstance(choice, float) for choice in parent.choices):
        wanted = [str(float(value)) if re.fullmatch(_NUMBER, value) else value for value in wanted]
    for value in wanted:
        if value not in names:
            raise Usage(f"{word}: {found[2]} is never {value}\n{nearest(value, names)}")
    return found[1], (found[2], tuple(names[value] for value in wanted))
