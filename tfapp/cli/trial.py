"""tfapp trial: one worker of a trial that several train together; `tfapp tune --workers` starts it, a person never."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tfapp.errors import Expected, Interrupted, PeersLost, Preempted
from tfapp.launch import cluster


@click.command(hidden=True)
@click.argument("question", type=click.Path(path_type=Path))
@click.argument("answer", type=click.Path(path_type=Path))
def command(question: Path, answer: Path) -> None:
    """Do with the other workers what a file asks (see tfapp/tune/worker.py); the chief writes the answer to another."""
    from tfapp.run import write_text
    from tfapp.runtime import import_tensorflow
    from tfapp.tune import worker

    ((what, about),) = json.loads(question.read_text(encoding="utf-8")).items()
    here = cluster.current()
    chief = here is None or here.worker == 0
    import_tensorflow()
    try:
        told = worker.answer(what, about, worker.until(about.get("until")))
    except (Interrupted, Preempted, PeersLost):
        raise  # Nothing is answered yet: the job is stopped, or starts again.
    except Expected as error:
        if chief:
            write_text(answer, json.dumps(worker.failed(error)))
        raise
    if chief:
        write_text(answer, json.dumps(told))
