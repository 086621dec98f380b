"""Training returns to Python at every boundary and ends after exactly the planned steps."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given
from hypothesis import strategies as st

from tfapp.callbacks import pace
from tfapp.callbacks.pace import Pace


def returns(callback: Pace, steps: int, epochs: int, start: int) -> list[int]:
    """The steps after which a training returns to Python, as Keras's loop does."""
    model = SimpleNamespace(_steps_per_execution=tf.Variable(2), stop_training=False)
    callback.set_model(model)
    callback.set_params({"steps": steps})
    found = []
    first, inside = divmod(start, steps)
    for epoch in range(first, epochs):
        callback.on_epoch_begin(epoch)
        while inside < steps and not model.stop_training:
            callback.on_train_batch_begin(inside)
            inside += int(model._steps_per_execution)
            callback.on_train_batch_end(inside - 1)
            found.append(epoch * steps + inside)
        inside = 0
        if model.stop_training:
            break
    return found


@given(
    st.one_of(st.just("auto"), st.integers(1, 50)),
    st.integers(1, 40),
    st.integers(1, 6),
    st.one_of(st.none(), st.integers(1, 30)),
    st.booleans(),
    st.data(),
)
def test_a_training_ends_after_exactly_its_steps_and_stops_at_every_boundary(
    wanted, steps, epochs, every, measured, data
) -> None:
    total = data.draw(st.integers(1, steps * epochs), "total")
    start = data.draw(st.integers(0, total - 1), "start")
    found = returns(Pace(wanted, total, every, start, measured), steps, epochs, start)
    assert found == sorted(set(found)) and found[-1] == total and found[0] > start
    between = range(start + 1, total + 1)
    boundaries = {step for step in between if step % steps == 0 or (every and step % every == 0)}
    assert boundaries <= set(found)
    if wanted != "auto":
        assert max(np.diff([start, *found])) <= wanted


def test_without_a_boundary_the_steps_run_on_as_wanted() -> None:
    assert returns(Pace(10, 95, None), 100, 1, 0) == [*range(10, 91, 10), 95]
    assert returns(Pace("auto", 24, None, measured=False), 100, 1, 0) == [8, 16, 24]


@pytest.mark.parametrize(("seconds", "most"), [(1.0, 1), (0.05, 5), (1e-7, 4096)])
def test_the_measured_pace_comes_back_about_every_quarter_of_a_second(monkeypatch, seconds: float, most: int) -> None:
    clock = [0.0]
    monkeypatch.setattr(pace.time, "perf_counter", lambda: clock[0])
    callback = Pace("auto", 40_000, None)

    class Model:
        """Each step takes so many seconds."""

        _steps_per_execution = tf.Variable(2)
        stop_training = False

    callback.set_model(Model())
    callback.set_params({"steps": 40_000})
    callback.on_epoch_begin(0)
    done, taken = 0, []
    while not callback.model.stop_training and len(taken) < 30:
        callback.on_train_batch_begin(done)
        taken.append(int(callback.model._steps_per_execution))
        done += taken[-1]
        clock[0] += 30 if len(taken) == 1 else seconds * taken[-1]  # The first execution is tracing.
        callback.on_train_batch_end(done - 1)
    assert max(taken[2:]) <= max(most, 8) and most in taken
    assert all(b <= 4 * a for a, b in zip(taken, taken[1:], strict=False))


@pytest.mark.moderate
def test_keras_itself_runs_exactly_the_planned_steps() -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", steps_per_execution=2)
    batches = tf.data.Dataset.from_tensors((tf.ones([2, 1]), tf.ones([2, 1]))).repeat()
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(int(model.optimizer.iterations))
    )
    model.fit(batches, epochs=4, steps_per_epoch=7, callbacks=[Pace(3, 17, 5), watch], verbose=0)
    assert int(model.optimizer.iterations) == 17
    assert seen == [3, 5, 7, 10, 13, 14, 15, 17]
