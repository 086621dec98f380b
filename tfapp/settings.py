"""The one kind of value that settings are made of: typed, frozen, and strict about its keys."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Settings(BaseModel):
    """A group of settings. Unknown keys are refused, every field has a default and a description.

    Recipes subclass it as their `Config`; the plan's sections and the features subclass it too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    # The field that a bare value sets: `fit.schedule=cosine` is `fit.schedule.kind=cosine`.
    shorthand: ClassVar[str | None] = None


class Split(Settings):
    """How examples are shared out among training, validation and test.

    Each class keeps its share in every part, examples with equal content stay together, and the same
    seed gives the same split whatever seed the training uses.
    """

    validation: float = Field(0.1, ge=0, lt=1, description="share of the examples used for validation")
    test: float = Field(0.1, ge=0, lt=1, description="share of the examples used for the test, once")
    seed: int = Field(0, ge=0, description="seed of the split; independent of runtime.seed")
    stratify: Literal["auto", "on", "off"] = Field(
        "auto", description="keep each class's share in every part (auto: where every class has enough examples)"
    )
    folds: int | None = Field(
        None, ge=2, description="cross-validation: part all but the test part in so many; validation plays no role then"
    )
    fold: int = Field(0, ge=0, description="which of the folds is the validation part, from 0")

    @model_validator(mode="after")
    def _name_a_fold_that_there_is(self) -> Split:
        if self.fold >= (self.folds or 1):
            raise ValueError(f"fold ({self.fold}) must be below folds ({self.folds})")
        return self

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> Split:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation ({self.validation}) + test ({self.test}) leave nothing to train on")
        return self
