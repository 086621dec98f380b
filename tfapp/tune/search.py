"""A search as it was asked for: of which plan, in what space, by which algorithm, scored how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tfapp import conflicts
from tfapp import plan as plans
from tfapp import recipe as recipes
from tfapp import run as runs
from tfapp.direction import more_is_better
from tfapp.errors import Failed, Refused, Usage
from tfapp.plan import Plan, difference
from tfapp.recipe import Recipe
from tfapp.run import Run
from tfapp.settings import Settings, Split
from tfapp.tune import objective as objectives
from tfapp.tune import oracles, space, stopper
from tfapp.tune.objective import Objective
from tfapp.tune.space import Param, Value
from tfapp.tune.stopper import Stopper

if TYPE_CHECKING:
    from keras_tuner import HyperParameters

Layer = tuple[str, Mapping[str, Any]]
FILE = "search.json"


@dataclass(frozen=True)
class Search:
    """Everything that decides what a search does; how long it may take and on how many processes is not part of it.

    Attributes:
      recipe, module: whose plan is searched.
      layers: of the plan, each (where it came from, settings), last wins; a trial's values come over them.
      params: the settings to search; empty: those of the recipe's `space`.
      algorithm: of `oracles.ALGORITHMS`. objectives: at least one; the first decides where there can be one best.
      seed: of the algorithm. stopper: ends hopeless trials.
      folds: of cross-validation, 1 for the plan's own validation part. repeat: seeds that each trial is trained with.
    """

    recipe: Recipe
    module: ModuleType
    layers: tuple[Layer, ...]
    params: tuple[Param, ...]
    algorithm: str
    objectives: tuple[Objective, ...]
    seed: int = 0
    stopper: Stopper | None = None
    folds: int = 1
    repeat: int = 1

    def plan(self, values: Mapping[str, Value]) -> Plan:
        """The plan of a trial.

        Raises:
          Usage, Refused: the plan does not take these values. Failed: the recipe's space() does not do what it should.
        """
        if not self.params and values:
            values = self._of_recipe(values)
        asked = [*self.layers, ("the search", plans.from_words(space.as_words(values)))]
        plan = plans.resolve(self.recipe.word, self.module.Config, asked)
        conflicts.check(plan)
        return plan

    def runs(self, values: Mapping[str, Value]) -> list[tuple[str, Plan]]:
        """The runs of a trial: (name, plan) for each fold and seed; a single one has no name of its own."""
        whole = self.plan(values)
        found = []
        for fold in range(self.folds):
            for number in range(self.repeat):
                names = [f"fold-{fold}"] * (self.folds > 1) + [f"seed-{number}"] * (self.repeat > 1)
                own: dict[str, Any] = {"runtime": {**whole.runtime.model_dump(), "seed": whole.runtime.seed + number}}
                if self.folds > 1:
                    config = whole.config.model_dump()
                    own["config"] = {**config, "split": {**config["split"], "folds": self.folds, "fold": fold}}
                found.append(("-".join(names), type(whole).model_validate({**whole.model_dump(), **own})))
        return found

    def hyperparameters(self) -> HyperParameters:
        """The space as Keras Tuner takes it.

        Raises:
          Failed: the recipe's space() raises, or leaves nothing to search.
        """
        return space.to_keras_tuner(self.params) if self.params else self._explored()

    def identity(self) -> dict[str, Any]:
        """What makes two searches the same one, JSON-able."""
        return {
            "recipe": self.recipe.word,
            "recipe_sha256": self.recipe.digest,
            "plan": self.plan({}).model_dump(mode="json"),
            "space": [param.word for param in self.params] or "the recipe's",
            "algorithm": self.algorithm,
            "objective": ",".join(("+" if one.more else "-") + one.name for one in self.objectives),
            "seed": self.seed,
            "stopper": self.stopper.name if self.stopper else "none",
            "folds": self.folds,
            "repeat": self.repeat,
        }

    def _given(self) -> set[str]:
        """Settings of the recipe's own that words, files or the environment set."""
        keys = {key for where, layer in self.layers[1:] for key in _flat_keys(layer)}
        return {key.removeprefix("config.").partition(".")[0] for key in keys}

    def _of_recipe(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """What the recipe's space() makes of values, as settings that differ from the plan's."""
        import keras_tuner

        base = self.plan({}).config
        hp = keras_tuner.HyperParameters()
        hp.values = dict(values)
        made = self._spaced(hp, base)
        before, after = base.model_dump(mode="json"), made.model_dump(mode="json")
        given = self._given()
        # As YAML, lists and words come back as they are.
        return {
            f"config.{key}": value if isinstance(value, int | float) else json.dumps(value)
            for key, value in after.items()
            if value != before[key] and key not in given
        }

    def _spaced(self, hp: Any, config: Settings) -> Settings:
        with recipes.at_work(self.module):
            made = self.module.space(hp, config)
        if not isinstance(made, self.module.Config):
            raise Failed(
                f"the recipe's space() gave {type(made).__name__}, not its Config\n"
                'end it in: return config.model_copy(update={"units": hp.Int("units", 32, 256, step=32)})'
            )
        return made

    def _explored(self) -> HyperParameters:
        """All settings that space() asks for, those under conditions too: as Keras Tuner explores a hypermodel."""
        import keras_tuner

        base, given = self.plan({}).config, self._given()
        found = keras_tuner.HyperParameters()
        tried: list[Any] = []
        open_: list[Any] = [None]
        while open_:
            hp = keras_tuner.HyperParameters()
            for condition in open_.pop() or ():
                hp.values[condition.name] = condition.values[0]
            self._spaced(hp, base)
            found.merge([one for one in hp.space if one.name not in given], overwrite=False)
            for scope in hp.inactive_scopes:
                if scope not in tried:
                    tried.append(scope)
                    open_.append(scope)
        if not found.space:
            raise Failed(f"the space() of {self.recipe.word} leaves nothing to search\nname a setting, as {EXAMPLE}")
        return found


EXAMPLE = "learning_rate=log:1e-4..1e-2"


def ask(
    recipe: Recipe,
    module: ModuleType,
    layers: Sequence[Layer],
    params: Sequence[Param],
    algorithm: str = "tpe",
    objective: str | None = None,
    seed: int = 0,
    stop: str | None = None,
    folds: int = 1,
    repeat: int = 1,
) -> Search:
    """A search, with all that can be checked before anything is trained.

    Args:
      layers: of the plan; the first is the recipe's defaults. objective, stop: as on the command line.

    Raises:
      Usage: nothing to search, unknown keys, values that a setting does not take. Refused: what does not go together.
    """
    if not params and not hasattr(module, "space"):
        raise Usage(
            f"what is to be searched? {recipe.word} has no space() of its own\n"
            f"name settings and their ranges, as tfapp tune {recipe.word} {EXAMPLE} fit.batch_size=choice:32,64"
        )
    own = plans.resolve(recipe.word, module.Config, layers)
    if objective is None:
        name = f"val_{own.fit.monitor.removeprefix('val_')}"
        wanted: tuple[Objective, ...] = (Objective(name, more_is_better(name, own.fit.mode)),)
    else:
        wanted = objectives.parse(objective)
        if not wanted[0].is_cost:
            # The epoch whose weights are kept is then the one that is scored; other layers may say otherwise.
            told = {"fit.monitor": wanted[0].name, "fit.mode": "max" if wanted[0].more else "min"}
            layers = [layers[0], ("--objective", told), *layers[1:]]
    search = Search(
        recipe, module, tuple(layers), tuple(params), algorithm, wanted, seed, stopper.parse(stop), folds, repeat
    )
    oracles.check(algorithm, wanted, search.plan({}).fit.epochs)
    costs = [one.name for one in wanted if one.is_cost]
    if search.stopper is not None and costs:
        raise Refused(
            f"--stopper ends trials by a number of every epoch, before {costs[0]} is measured\nleave one of the two out"
        )
    if search.stopper is not None and algorithm == "hyperband":
        raise Refused("--stopper with --algorithm hyperband, which ends trials by itself\nleave the stopper out")
    if folds > 1:
        _check_folds(search)
    space.check(params, search.plan)
    return search


def _check_folds(search: Search) -> None:
    if search.plan({}).private:
        raise Refused(
            f"--folds {search.folds} on a private training: each example is validation data of one fold, whose score has no "
            "noise\nuse --repeat, which trains with several seeds"
        )
    split = search.module.Config.model_fields.get("split")
    if split is None or split.annotation is not Split:
        raise Refused(
            f"--folds {search.folds}: the recipe {search.recipe.word} has no setting split, by which examples are parted\n"
            "use --repeat, which trains with several seeds"
        )


def place(search: Search) -> Path:
    """Where this search is when the user names no folder: the same search always gets the same one."""
    digest = hashlib.sha256(json.dumps(search.identity(), sort_keys=True).encode()).hexdigest()
    return runs.root() / "tune" / f"{Path(search.recipe.word).stem}-{search.algorithm}-{digest[:6]}"


def begin(folder: Path, search: Search, fresh: bool = False) -> Path:
    """Open the folder for this search: new, or the same search's, to go on with.

    Raises:
      Usage: it holds another search, with the difference, or something else.
    """
    if folder.exists() and not folder.is_dir():
        raise Usage(f"{folder} is a file, and a search is a folder\ngive --folder a new or empty one")
    held = Run(folder)
    if fresh and held.file(FILE).exists():
        with runs.held(held):
            runs.move_aside(folder)
    if held.file(FILE).exists():
        changes = difference(held.read(FILE).get("search", {}), search.identity())
        if changes:
            raise Usage(
                f"{folder} holds another search: {'; '.join(changes[:4])}{' …' if len(changes) > 4 else ''}\n"
                "search elsewhere with --folder FOLDER, or set that one aside with --fresh"
            )
        return folder
    if folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise Usage(f"{folder} is not empty and holds no search\ngive --folder a new or empty one")
    runs.make_folder(folder)
    held.write(FILE, {"search": search.identity(), "started": runs.now()})
    return folder


def _flat_keys(layer: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in layer.items():
        keys += _flat_keys(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [f"{prefix}{key}"]
    return keys
