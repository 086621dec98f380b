"""Signals end a training at the next step with a checkpoint; a second Ctrl-C at once."""

from __future__ import annotations

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from tfapp.callbacks.stop import StopOnSignal
from tfapp.errors import Interrupted, Preempted
from tfapp.runtime import Machine


class Saving:
    """Stands where the checkpoint does, and counts."""

    step, inside_epoch, saved = 7, True, 0

    def save(self) -> None:
        self.saved += 1

    def wait(self) -> None:
        """It is whole at once."""


@pytest.fixture
def stop():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    callback = StopOnSignal(Saving(), Machine(None, 1))  # type: ignore[arg-type]
    callback.set_model(SimpleNamespace())
    callback.on_train_begin()
    yield callback
    callback.close()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, Interrupted), (signal.SIGTERM, Preempted)])
def test_a_signal_ends_the_training_at_the_next_step_with_a_checkpoint(stop, number, error) -> None:
    stop.on_train_batch_end(0)
    os.kill(os.getpid(), number)
    assert stop._checkpoint.saved == 0
    with pytest.raises(error, match="state saved at step 7; the same command goes on from there"):
        stop.on_train_batch_end(1)
    assert stop._checkpoint.saved == 1


def test_at_the_end_of_an_epoch_it_waits_for_the_validation(stop) -> None:
    stop._checkpoint.inside_epoch = False
    os.kill(os.getpid(), signal.SIGTERM)
    stop.on_train_batch_end(9)
    with pytest.raises(Preempted):
        stop.on_epoch_end(0)


def test_a_second_ctrl_c_stops_at_once(stop) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_sigterm_changes_nothing(stop) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Preempted):
        stop.on_train_batch_end(0)


def test_in_another_thread_signals_are_left_to_whoever_has_them() -> None:
    before = signal.getsignal(signal.SIGTERM)
    callback = StopOnSignal(Saving(), Machine(None, 1))  # type: ignore[arg-type]
    thread = threading.Thread(target=callback.on_train_begin)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == before
    callback.on_train_end()
