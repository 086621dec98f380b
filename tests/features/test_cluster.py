"""Clustering waits for its epoch, says what it will do, and refuses what it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from tfapp import job as jobs
from tfapp.cli import asking
from tfapp.errors import Usage
from tfapp.runtime import Machine

SMALL = str(Path(__file__).parents[1] / "fixtures" / "small.py")


@pytest.mark.moderate
@pytest.mark.parametrize(("begin", "epochs", "first"), [(0.5, 10, 6), (0.0, 3, 1), (0.5, 1, 1), (0.99, 3, 3)])
def test_it_begins_with_an_epoch_of_the_run(begin: float, epochs: int, first: int) -> None:
    _, module, plan, _ = asking.ask(
        [SMALL, "cluster=8", f"cluster.begin={begin}", f"fit.epochs={epochs}"], [], None, None
    )
    job = jobs.of(plan, module, module.data(plan.config), Machine(tf.distribute.get_strategy(), 1))
    found = plan.cluster.apply(job)
    assert found.notes == (f"cluster: 2 kernels (90.8% of the parameters) to 8 values each, from epoch {first} on",)
    assert found.first_epoch == first - 1 and len(found.callbacks) == 1 and len(found.bind) == len(job.bind) + 1


def test_more_values_than_a_byte_counts_are_refused() -> None:
    with pytest.raises(Usage, match="less than or equal to 255"):
        asking.ask([SMALL, "cluster=256"], [], None, None)
