"""What a recipe is, and how one is found, listed, loaded and copied.

A recipe is one Python module that defines

    Config                         a `Settings`: typed, all defaulted, every field described
    data(config)                   -> Data: the examples in three parts
    model(config, inputs, data)    -> keras.Model from `inputs` (preprocessed features) to logits or values
    training(config, data)         -> Training: optimizer, loss, metrics

and, where it likes,

    preprocess(config, data)       -> keras.Model from raw features to `inputs`, adapted on data.train alone
    augment(config)                -> function (features of one example, seed int32[2]) -> features, or None
    defaults                       = {"fit": {"epochs": 20}}: the plan's own settings that suit this recipe
    space(hp, config)              -> Config: for tuning
    layout(config, model)          -> {layer's name: "columns", "rows", "heads"}: what runtime.mesh.model shares out
    narrowed(config, width)        -> Config of the same model with about width × its units and filters, 0 < width ≤ 1:
                                      a smaller student of the same kind

Its docstring says how to run it, what it costs, what score to expect and where the data comes from.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tfapp.deferred import deferred
from tfapp.errors import Expected, Failed, Missing, Usage, nearest, of_system

if TYPE_CHECKING:
    from tfapp.data.examples import Data
    from tfapp.settings import Settings, Split

__all__ = [
    "Recipe",
    "Settings",
    "Split",
    "Training",
    "find",
    "listed",
    "load",
    "narrowed",
    "scaled",
    "write_copy",
]

REQUIRED = ("Config", "data", "model", "training")


def __getattr__(name: str) -> Any:
    # Recipes import these from here; listing recipes should not pay for pydantic.
    if name in {"Settings", "Split"}:
        import tfapp.settings

        return getattr(tfapp.settings, name)
    raise AttributeError(name)


@dataclass(frozen=True)
class Training:
    """How a recipe's model learns.

    Attributes:
      optimizer: a tf_keras optimizer with a plain learning rate; the plan may lay a schedule over it.
      loss: a tf_keras loss *object* on logits (from_logits=True) or values.
      metrics: tf_keras metrics shown while training; they get example weights.
    """

    optimizer: Any
    loss: Any
    metrics: Sequence[Any] = ()


@dataclass(frozen=True)
class Recipe:
    """A recipe's file, found but not run.

    Attributes:
      word: what names it in a plan: its name, or the path of its file.
      path: its source file.
      about: its docstring.
    """

    word: str
    path: Path
    about: str

    @property
    def title(self) -> str:
        """The first line of the docstring."""
        return self.about.strip().partition("\n")[0]

    @property
    def digest(self) -> str:
        """SHA-256 of the source."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def find(word: str) -> Recipe:
    """A recipe by its name or the path of its file.

    Raises:
      Usage: no such recipe, with the nearest name, or not a Python file. Missing: no such file.
    """
    if word.endswith(".py") or "/" in word:
        path = Path(word).expanduser()
        if not path.is_file():
            raise Missing(f"no recipe file at {word}\nwrite one: tfapp new {path.stem} --like digits")
        if path.suffix != ".py":
            raise Usage(f"{word} is no recipe: a recipe is a Python file, named as mine.py\nlist them: tfapp recipes")
        return Recipe(str(path.resolve()), path.resolve(), _about(path))
    found = dict(_named())
    if word not in found:
        raise Usage(f"no recipe {word!r}\n{nearest(word, found)}\nlist them: tfapp recipes")
    return Recipe(word, found[word], _about(found[word]))


def listed() -> list[Recipe]:
    """Every recipe that can be named, in alphabetical order; nothing of theirs is run."""
    return [Recipe(name, path, _about(path)) for name, path in sorted(dict(_named()).items())]


def load(recipe: Recipe) -> ModuleType:
    """Run the recipe's file and check that it is one. TensorFlow is not imported for that.

    Raises:
      Failed: it raises, with its own words. Usage: it lacks a part of the contract, or its Config is none.
    """
    name = "tfapp_recipe_" + re.sub(r"\W", "_", recipe.path.stem)
    spec = importlib.util.spec_from_file_location(name, recipe.path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic looks a class's annotations up there.
    try:
        with deferred():
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        line = next((f":{frame.lineno}" for frame in _frames(error) if frame.filename == str(recipe.path)), "")
        if isinstance(error, SyntaxError):
            line = f":{error.lineno}"
        raise Failed(f"the recipe {recipe.path}{line} cannot be loaded: {type(error).__name__}: {error}") from error
    lacking = [part for part in REQUIRED if not hasattr(module, part)]
    if lacking:
        raise Usage(
            f"the recipe {recipe.path} does not define {', '.join(lacking)}\n"
            "a recipe defines Config, data(config), model(config, inputs, data) and training(config, data)"
        )
    if wrong := _wrong(module.Config):
        raise Usage(
            f"the recipe {recipe.path}: {wrong}\n"
            'a Config is a Settings, as: class Config(Settings): units: int = Field(64, ge=1, description="…")'
        )
    if not isinstance(defaults(module), Mapping):
        raise Usage(
            f'the recipe {recipe.path}: its defaults are no sections, as defaults = {{"fit": {{"epochs": 20}}}}'
        )
    return module


def data(module: ModuleType, config: Settings) -> Data:
    """The data of a loaded recipe.

    Raises:
      Failed: data() gave something else. Whatever data() raises.
    """
    from tfapp.data.examples import Data

    made = module.data(config)
    if not isinstance(made, Data):
        raise Failed(
            f"the recipe's data() gave {type(made).__name__}, not a Data\n"
            "end it in: return arrays.split(features, labels, config.split), or another source of tfapp.data"
        )
    return made


def narrowed(module: ModuleType, config: Settings, width: float) -> Settings:
    """The config of a loaded recipe for the same model, narrower.

    Args:
      width: share of its units and filters, in (0, 1]; the depth stays.

    Raises:
      Usage: the recipe has no narrowed(), or the width is none. Failed: narrowed() gave something else.
    """
    if not 0 < width <= 1:
        raise Usage(f"a width of {width:g} is none\ngive a share of the model's own width: more than 0, at most 1")
    if not hasattr(module, "narrowed"):
        raise Usage(
            f"the recipe {module.__file__} does not say how its model is made narrower\n"
            "define narrowed(config, width), which returns a Config with about width × its units and filters"
        )
    made = module.narrowed(config, width)
    if not isinstance(made, type(config)):
        raise Failed(
            f"the recipe's narrowed() gave {type(made).__name__}, not its Config\n"
            "end it in: return config.model_copy(update={…})"
        )
    return made


def scaled(size: int, width: float, multiple: int = 1) -> int:
    """About width × a number of units or filters: the nearest multiple (of a number of heads, say), at least one."""
    return max(1, round(size * width / multiple)) * multiple


def _wrong(config: Any) -> str | None:
    """What keeps a recipe's Config from being one."""
    from tfapp.settings import Settings

    if not isinstance(config, type) or not issubclass(config, Settings):
        return "its Config is no Settings"
    return next((f"{name} has no default" for name, field in config.model_fields.items() if field.is_required()), None)


@contextmanager
def at_work(module: ModuleType) -> Iterator[None]:
    """While a recipe's code is run: an error in it is told as the recipe's, with its line.

    Raises:
      Failed: what it raised; the traceback is for --debug.
    """
    try:
        yield
    except Exception as error:
        line = None if isinstance(error, Expected) or of_system(error) else _line(error, str(module.__file__))
        if line is None:
            raise
        raise Failed(
            f"the recipe {module.__file__}:{line} failed: {type(error).__name__}: {gist(error)}\n"
            "see the way there: the same command with --debug"
        ) from error


def gist(error: Exception) -> str:
    """The few words that say what is wrong, of an error that may go on for a page."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = lines[-1:] if lines and lines[0] == "in user code:" else lines[:2]
    return " ".join(told)[:400]


def _line(error: BaseException, file: str) -> int | None:
    """Where in a recipe's file an error arose; None if it arose elsewhere, in tfapp for instance."""
    ours = str(Path(__file__).parent) + os.sep
    places = [(frame.filename, frame.lineno) for frame in reversed(_frames(error))]
    # What TensorFlow compiles is run from copies; its messages name the lines that they are of.
    places += [(name, int(line)) for name, line in re.findall(r'File "([^"]+)", line (\d+)', str(error))]
    of_either = [(name, line) for name, line in places if name == file or name.startswith(ours)]
    return of_either[-1][1] if of_either and of_either[-1][0] == file else None


def defaults(module: ModuleType) -> Mapping[str, Any]:
    """The plan settings that the recipe brings along."""
    return getattr(module, "defaults", {})


def write_copy(recipe: Recipe, path: Path) -> Path:
    """A working copy of a recipe under a new name, its docstring's command changed to it.

    Raises:
      Usage: there is a file already. Missing: no such folder.
    """
    text = recipe.path.read_text(encoding="utf-8")
    text = re.sub(rf"tfapp train (?:\./)?{re.escape(recipe.path.stem)}(?:\.py)?\b", f"tfapp train ./{path.name}", text)
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Usage(f"{path} exists already, and is left as it is\ngive another name") from None
    except (FileNotFoundError, NotADirectoryError):
        raise Missing(f"no folder {path.parent} to write {path.name} into\nmake it: mkdir -p '{path.parent}'") from None
    return path


def _named() -> Iterator[tuple[str, Path]]:
    """Names and files; of two with one name the later wins: installed packages < TFAPP_RECIPES < tfapp's own."""
    for point in importlib.metadata.entry_points(group="tfapp.recipes"):
        path = _source(point.module)
        if path is not None:
            yield point.name, path
    # The image sets it to /recipes, where a recipe of one's own is mounted.
    named = os.environ.get("TFAPP_RECIPES")
    for folder in (*([Path(named)] if named else ()), _folder()):
        for path in sorted(folder.glob("[!_]*.py")):
            yield path.stem, path


def _source(module: str) -> Path | None:
    """The file of an installed module, without running its package, as finding its spec would."""
    top, *inside = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if not inside:
        return Path(spec.origin) if spec.origin else None
    for base in spec.submodule_search_locations or ():
        for path in (Path(base, *inside[:-1], f"{inside[-1]}.py"), Path(base, *inside, "__init__.py")):
            if path.is_file():
                return path
    return None


def _folder() -> Path:
    """recipes/ beside the package in a checkout, the package tfapp_recipes where installed."""
    beside = Path(__file__).parent.parent / "recipes"
    if (beside / "digits.py").exists():
        return beside
    return Path(__file__).parent.parent / "tfapp_recipes"


def _about(path: Path) -> str:
    try:
        return ast.get_docstring(ast.parse(path.read_bytes())) or ""
    except (SyntaxError, ValueError):
        return "(cannot be read as Python)"


def _frames(error: BaseException) -> list[Any]:
    import traceback

    return list(reversed(traceback.extract_tb(error.__traceback__)))
