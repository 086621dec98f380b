"""What a model predicts: one module a task, where everything that tells this task from the others is.

Each defines

    shape(data)                                  -> what the model gives for one example, without the batch
    ANSWER                                       what that is, in words; LAST: the layer that gives it
    finish(outputs)                              -> what the exported model gives: probabilities, or the values
    measure(call, data, part)                    -> (sections of the report, arrays to keep in predictions.npz)
    score(call, examples, classes)               -> the report's section `evaluation`
    rows(call, features, names, facts, …)        -> a row an example for `predict`
    paired(names, a, b)                          -> whether run b is better than run a, from the arrays that they kept

and, to compare what ships with the model that it was made from,

    MAIN                                         the name of the score that counts; LOST: what `lost` counts, in words
    answers(call, examples)                      -> what is compared, one row an example
    judged(labels, answers, classes)             -> the report's section `evaluation`, of these answers
    change(labels, parent, answers)              -> the difference in the main score, paired, with its interval
    lost(labels, parent, answers)                -> how much worse it is: percentage points, or percent of an error
    agreement(parent, answers)                   -> {share, mean_difference}

and, to see what it gives away of the rows that it was trained on (tfapp audit),

    signals(labels, answers)                     -> by name, what each answer tells: the higher, the likelier a member
    evidence(labels, answers)                    -> all of it, float64 [n, k]; the first is about normal over trainings
    falsified(examples, rows, outputs, random)   -> the examples with these rows made false, as canaries are

where call is the exported model as a function of a batch of raw features.
"""

from __future__ import annotations

import importlib
from types import ModuleType


def of(task: str) -> ModuleType:
    """The module of a task, by the name that `Data.task` gives it."""
    return importlib.import_module(f"tfapp.tasks.{task}")


def column(target: str) -> str:
    """What a prediction's column is called; «name» is what an example is called."""
    return "predicted name" if target == "name" else target
