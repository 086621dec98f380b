"""A line that a person can follow on a terminal, and a plain line now and then elsewhere."""

from __future__ import annotations

import os
import pty
import re
from pathlib import Path

import pytest

from tfapp.callbacks import progress
from tfapp.callbacks.progress import Progress


def trained(folder: Path, epochs: int = 3, steps: int = 4, show: bool = True) -> list[str]:
    """A training of so many steps, told; the lines of its log."""
    callback = Progress(epochs, epochs * steps, folder / "worker.log", show)
    callback.set_params({"steps": steps})
    callback.on_train_begin()
    for epoch in range(epochs):
        callback.on_epoch_begin(epoch)
        for step in range(steps):
            callback.on_train_batch_end(step, {"loss": 0.5})
        callback.on_epoch_end(epoch, {"loss": 0.5, "val_loss": 1234.5678})
    callback.on_train_end()
    callback.close()
    return (folder / "worker.log").read_text().splitlines()


def test_the_log_has_a_line_an_epoch_without_any_colour(tmp_path: Path) -> None:
    lines = trained(tmp_path)
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert re.fullmatch(r"epoch 3/3  [\d,]+ steps/s  0:00 left  loss 0\.5  val_loss 1235", lines[-1])


def test_where_no_person_looks_the_first_and_the_last_line_are_told_and_none_between(tmp_path: Path, capsys) -> None:
    lines = trained(tmp_path, epochs=5)
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines() == [lines[0], lines[-1]] and "\x1b" not in err


def test_a_slow_training_tells_every_epoch(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    assert capsys.readouterr().err.splitlines() == [] and trained(tmp_path) == capsys.readouterr().err.splitlines()


def test_a_worker_that_is_not_to_speak_says_nothing_but_to_its_log(tmp_path: Path, capsys) -> None:
    assert len(trained(tmp_path, show=False)) == 3
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_one_line_lives_and_the_last_stays(tmp_path: Path, monkeypatch) -> None:
    ours, theirs = pty.openpty()
    for name in ("NO_COLOR", "CI", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    with open(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr("sys.stderr", terminal)
        lines = trained(tmp_path)
    told = b""
    while b"\x1b[?25h" not in told:
        told += os.read(ours, 65536)
    os.close(ours)
    text = told.decode()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # The cursor is back.
    assert text.rpartition("\x1b[?25h")[0].rstrip().endswith(lines[-1])


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (61, "1:01"), (3599.6, "1:00:00"), (90_061, "25:01:01")],
)
def test_the_time_left_is_read_like_a_clock(seconds: float, told: str) -> None:
    assert progress._clock(seconds) == told
