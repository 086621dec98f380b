"""The command `tfapp`: finds the verb, runs it, and turns what went wrong into a line and an exit code."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from tfapp import __version__
from tfapp.errors import Expected, Failed, Interrupted, Preempted, Usage, nearest, of_system

# In the order of help. The line stands here, not in the verb's module, so that `tfapp --help` imports none of them.
VERBS = {
    "recipes": "List the recipes; show one, its settings and their schema.",
    "new": "Write a working copy of a recipe, to change.",
    "data": "Shard an image folder, to be read fast.",
    "validate": "Check a plan, its data and its model; train nothing.",
    "plan": "Measure what a plan would cost: memory, time, disk.",
    "train": "Train a recipe to a finished, measured, exported run.",
    "tune": "Search a recipe's settings; go on where it was stopped.",
    "auto": "Make a model of raw data, within a given time.",
    "launch": "Train with many workers, started again when one dies.",
    "verify-resume": "Check that a killed training ends in the same bits.",
    "evaluate": "Measure a run again, on its own test data or on yours.",
    "predict": "Predict new files with a run's exported model.",
    "export": "Write a run's model as SavedModel, Keras or TFLite.",
    "compress": "Make a run's model smaller and faster, to a target.",
    "audit": "Measure what a run gives away of its training rows.",
    "report": "Write a run's report.",
    "runs": "List the runs.",
    "compare": "Set runs side by side.",
    "cloud": "Train on a cloud machine, or on your own by ssh.",
    "doctor": "Check this machine, with a short real fit.",
}
# What tfapp itself starts, in no list of verbs.
INNER = ("trial",)


class Verbs(click.Group):
    """A group whose verb NAME is `command` of the module tfapp.cli.NAME, imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS and name not in INNER:
            return None
        command: click.Command = importlib.import_module(f"tfapp.cli.{name.replace('-', '_')}").command
        return command

    def invoke(self, ctx: click.Context) -> None:
        super().invoke(ctx)
        # Here click still leaves quietly when the reader has gone (`tfapp runs | head`); at exit Python would complain.
        sys.stdout.flush()

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, ...]:
        if args[0] not in (*VERBS, *INNER) and not args[0].startswith("-"):
            ctx.fail(f"there is no verb {args[0]!r}: {nearest(args[0], VERBS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.command(
    cls=Verbs,
    subcommand_metavar="VERB ...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="tfapp", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error; anywhere in the line.")
def cli() -> None:
    """Train Keras models from recipes, on one device or many, measured and exported.

    \b
      tfapp recipes                        what there is
      tfapp train digits                   train one: no download, under a minute
      tfapp train digits fit.epochs=5      the same with a setting changed
      tfapp train --help                   all about one verb
    """


def main(words: Sequence[str] | None = None) -> int:
    """Run `tfapp` with these words (those of the process by default); return its exit code.

    What is not an Expected error, nor trouble of the disk, is a defect of tfapp and is raised as it is.
    """
    words, debug = _take_debug(sys.argv[1:] if words is None else words)
    # TensorFlow reads this when it is imported; its remarks about CPU features would bury our own lines.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if debug else "2")
    try:
        with _ended_by_sigterm():
            return cli.main(args=words, prog_name="tfapp", standalone_mode=False, obj=debug) or 0
    except _Terminated:
        click.echo("error: ended by SIGTERM; the same command goes on from the last checkpoint", err=True)
        return Preempted.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return Usage.exit_code
    except Exception as error:
        told = _expected(error)
        if told is None:
            raise
        if debug:
            traceback.print_exc()
        click.echo(f"error: {told}", err=True)
        return told.exit_code


class _Terminated(SystemExit):
    """SIGTERM came; no Exception, so that nothing that handles errors on the way takes it for one of its own."""


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end any verb at any time, so that files are left whole and what was begun is noted as stopped.

    The first process of a container ignores it otherwise. `train` has its own way while it fits.
    """

    def end(number: int, frame: Any) -> None:
        raise _Terminated(Preempted.exit_code)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _take_debug(words: Sequence[str]) -> tuple[list[str], bool]:
    """`--debug` means the same before and after the verb, up to a «--»."""
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != "--debug"]
    asked = len(kept) < end or os.environ.get("TFAPP_DEBUG", "0") not in ("", "0")
    return [*kept, *words[end:]], asked


def _expected(error: Exception) -> Expected | None:
    """What to tell the user; None if the error is a defect."""
    if isinstance(error, Expected):
        return error
    if isinstance(error, click.Abort):
        # click takes an EOFError for a Ctrl-D, but here it is a file that ends too early.
        return None if isinstance(error.__cause__, EOFError) else Interrupted("interrupted")
    if isinstance(error, click.UsageError):
        return Usage(_usage(error))
    if isinstance(error, click.ClickException):
        return Failed(error.format_message())
    return of_system(error)


def _usage(error: click.UsageError) -> str:
    see = f"\nsee: {error.ctx.command_path} --help" if error.ctx else ""
    return " ".join(error.format_message().split()) + see
