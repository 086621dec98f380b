from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time

import click
import pytest

from tfapp import __version__
from tfapp.cli import main as module
from tfapp.cli.main import VERBS, main
from tfapp.errors import Expected, Interrupted, Missing, Refused, Usage


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch):
    """A verb «probe» that does what the test says."""

    def make(action) -> None:
        @click.command(name="probe")
        @click.argument("words", nargs=-1)
        def command(words: tuple[str, ...]) -> None:
            action(*words)

        monkeypatch.setitem(module.VERBS, "probe", "")
        monkeypatch.setitem(sys.modules, "tfapp.cli.probe", type(sys)("tfapp.cli.probe"))
        sys.modules["tfapp.cli.probe"].command = command  # type: ignore[attr-defined]

    return make


def raising(error: BaseException):
    def action(*words: str) -> None:
        raise error

    return action


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tfapp", *words], check=False, capture_output=True, text=True)


def test_help_lists_every_verb_with_its_line(capsys) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    listed = [line.split()[0] for line in out.partition("Verbs:")[2].splitlines() if line.strip()]
    assert listed == list(VERBS)
    assert all(line in out for line in VERBS.values())


def test_version_is_the_package_s(capsys) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tfapp {__version__}\n"


def test_no_verb_at_all_shows_the_help_and_fails_as_usage(capsys) -> None:
    assert main([]) == 2
    assert "Verbs:" in capsys.readouterr().err


def test_a_mistyped_verb_gets_the_nearest(capsys) -> None:
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "error: there is no verb 'trian': did you mean 'train'?\nsee: tfapp --help\n"


def test_a_mistyped_option_gets_the_nearest_and_where_to_read(capsys, verb) -> None:
    verb(print)
    assert main(["probe", "--hepl"]) == 2
    err = capsys.readouterr().err
    assert "--help" in err.splitlines()[0]
    assert err.splitlines()[1] == "see: tfapp probe --help"


@pytest.mark.parametrize("error", [Usage("u"), Refused("r"), Missing("m"), Interrupted("i"), Expected("e")])
def test_an_expected_error_is_its_line_and_its_exit_code(error, capsys, verb) -> None:
    verb(raising(error))
    assert main(["probe"]) == error.exit_code
    assert capsys.readouterr().err == f"error: {error}\n"


@pytest.mark.parametrize("words", [["--debug", "probe"], ["probe", "--debug"], ["probe", "a", "--debug", "b"]])
def test_debug_shows_the_traceback_wherever_it_stands(words, capsys, verb) -> None:
    verb(raising(Missing("no data")))
    assert main(words) == 5
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("error: no data\n")


def test_debug_can_be_asked_for_by_the_environment(capsys, verb, monkeypatch) -> None:
    verb(raising(Missing("no data")))
    monkeypatch.setenv("TFAPP_DEBUG", "1")
    main(["probe"])
    assert "Traceback" in capsys.readouterr().err


def test_debug_after_a_double_dash_is_a_word_like_any_other(verb) -> None:
    seen: list[str] = []
    verb(lambda *words: seen.extend(words))
    assert main(["probe", "a", "--", "--debug"]) == 0
    assert seen == ["a", "--debug"]


def test_a_defect_is_raised_as_it_is(verb) -> None:
    verb(raising(ZeroDivisionError("ours")))
    with pytest.raises(ZeroDivisionError):
        main(["probe"])


def test_a_file_that_ends_too_early_is_not_taken_for_an_interruption(verb) -> None:
    verb(raising(EOFError("half a file")))
    with pytest.raises(click.Abort) as caught:
        main(["probe"])
    assert isinstance(caught.value.__cause__, EOFError)


def test_ctrl_c_ends_in_130(capsys, verb) -> None:
    verb(raising(KeyboardInterrupt()))
    assert main(["probe"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.e2e
def test_sigterm_ends_any_verb_in_143_and_gives_the_signal_back(capsys, verb) -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def action() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except Exception as error:  # No handler of errors may take it for one of its own.
            seen.append(error)

    verb(action)
    assert main(["probe"]) == 143
    assert "SIGTERM" in capsys.readouterr().err and seen == []
    assert signal.getsignal(signal.SIGTERM) is before


class OpError(Exception):
    """As TensorFlow's: no OSError, but the system's words in it."""


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/runs/1/metrics.csv"),
            1,
            "disk is full: /runs/1/metrics.csv",
        ),
        (OpError("/runs/1/model; No space left on device"), 1, "disk is full: /runs/1/model"),
        (OSError(errno.EROFS, "Read-only file system", "/runs/1"), 5, "read-only: /runs/1"),
        (PermissionError(errno.EACCES, "Permission denied", "/runs/1"), 5, "does not allow it: /runs/1"),
        (OpError("/runs/1/model; Permission denied"), 5, "does not allow it: /runs/1/model"),
    ],
)
def test_trouble_with_the_disk_is_told_with_the_path(error, code, said, capsys, verb) -> None:
    verb(raising(error))
    assert main(["probe"]) == code
    assert said in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_complaint() -> None:
    # print() leaves its line in the buffer until the verb has returned.
    script = (
        "import sys, types, click; from tfapp.cli import main as m; m.VERBS['probe'] = '';"
        "sys.modules['tfapp.cli.probe'] = types.SimpleNamespace(command=click.command()(lambda: print('line')));"
        "sys.exit(m.main(['probe']))"
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", script], check=False, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.stderr == ""


def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    script = (
        "import sys; from tfapp.cli.main import main; main(['--help']);"
        "print(sorted({'tensorflow', 'numpy', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).splitlines()[-1] == "[]"
    start = time.perf_counter()
    assert run("--help").returncode == 0
    assert time.perf_counter() - start < 1


def test_a_list_of_choices_is_told_in_the_line(capsys) -> None:
    assert main(["export", "some"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == "error: Missing option '--format'. Choose from: savedmodel, keras, tflite"
    assert second == "see: tfapp export --help"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_s_help_has_an_example_and_a_form_for_programs(verb, capsys) -> None:
    assert main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"\n    tfapp {verb}" in out
    # new writes a file, and that is all there is to know; launch passes train's own on; those of cloud and data have
    # their own help.
    assert "--json" in out or verb in ("new", "launch", "cloud", "data")


@pytest.mark.moderate
@pytest.mark.parametrize("words", [["--help"], ["recipes"], ["train", "digits", "fit.epoch=3"], ["trian"], ["runs"]])
def test_what_needs_no_training_answers_at_once(words) -> None:
    spent = min(cpu_of(words) for _ in range(3))
    assert spent < 0.4


def cpu_of(words: list[str]) -> float:
    """Seconds of the processor that a command takes: a busy machine takes longer, but not more of it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(*words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_ctrl_c_while_the_command_is_loaded_is_quiet_too() -> None:
    script = (
        "import sys, types; sys.modules['tfapp.cli.main'] = loading = types.ModuleType('loading')\n"
        "def late(name): raise KeyboardInterrupt\n"
        "loading.__getattr__ = late\n"
        "from tfapp.__main__ import run; sys.exit(run())"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


def test_importing_tfapp_imports_no_tensorflow_and_asks_for_keras_2() -> None:
    script = "import os, sys, tfapp; print('tensorflow' in sys.modules, os.environ['TF_USE_LEGACY_KERAS'])"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).split() == ["False", "1"]


def test_the_process_exits_with_the_code() -> None:
    done = run("trian")
    assert (done.returncode, done.stdout) == (2, "")
