"""What the launcher does when workers end, one way or another: real processes, without TensorFlow in them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tfapp.launch import places, supervise
from tfapp.launch.screen import Screen
from tfapp.launch.supervise import Job, Launch, run

pytestmark = pytest.mark.e2e
ACTOR = "tests.fixtures.actor"


@pytest.fixture(autouse=True)
def actors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(places, "WORKER", ACTOR)
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))


def launched(*words: str, workers: int = 2, **how) -> int:
    return run(Launch(words, places.here(workers), **how), Screen(workers)).code


def left_over() -> list[str]:
    return [line for p in psutil.Process().children(recursive=True) if ACTOR in (line := " ".join(p.cmdline()))]


def test_a_job_ends_well_when_all_workers_do_and_the_chief_s_result_is_the_job_s(capfd) -> None:
    assert launched("0:result=worth 1", "1:result=worth 2", "0:say=hello", "1:say=there") == 0
    told = capfd.readouterr()
    assert told.out == "worth 1\n"
    assert {"[0] hello", "[1] there", "[1] worth 2"} <= set(told.err.splitlines())


def test_what_all_workers_say_is_shown_once(capfd) -> None:
    assert launched("say=the same", workers=3) == 0
    assert capfd.readouterr().err.count("the same") == 1


def test_the_first_error_is_shown_and_its_code_is_the_job_s(capfd) -> None:
    began = time.monotonic()
    assert launched("1:exit=5", "sleep=60") == 5
    assert "worker 1 failed:\n  error: asked to end with 5" in capfd.readouterr().err
    assert time.monotonic() - began < 10 and not left_over()


def test_the_worker_that_failed_is_named_not_the_one_that_lost_it(capfd) -> None:
    assert launched("0:exit=75", "1:sleep=0.7", "1:raise=a bug") == 1
    told = capfd.readouterr().err
    assert "worker 1 failed:\n  Traceback (most recent call last):" in told and "ValueError: a bug" in told
    assert told.count("Traceback") == 1


def test_a_killed_worker_starts_the_job_again_from_where_it_was(capfd) -> None:
    assert launched("step=3", "1:first=kill", "0:sleep=0.5") == 0
    told = capfd.readouterr().err
    assert "worker 1 was ended by SIGKILL" in told and "at step 3" in told
    assert "starting again from the last checkpoint (1 of at most 3)" in told


def test_a_death_before_the_first_step_is_not_tried_again_unless_asked(capfd, tmp_path: Path) -> None:
    assert launched("0:kill") == 1
    assert "no step was trained; --max-restarts 3 would try" in capfd.readouterr().err
    assert launched("0:first=kill", max_restarts=1) == 0


def test_restarts_come_to_an_end(capfd) -> None:
    assert launched("step=3", "0:kill", max_restarts=2) == 1
    assert "given up after 2 restarts" in capfd.readouterr().err


def test_an_error_that_would_come_again_is_not_tried_again() -> None:
    assert launched("step=3", "1:exit=3", "0:sleep=30", max_restarts=9) == 3
    # A crash after progress may be the machine's fault; without progress it is the program's.
    assert launched("step=3", "1:raise", "0:sleep=30", max_restarts=9) == 1


def test_a_worker_that_answers_nothing_is_killed_and_named(capfd) -> None:
    began = time.monotonic()
    assert launched("0:exit=75", "1:ignore-term", "1:sleep=60", max_restarts=0) == 1
    assert "worker 1 does not answer" in capfd.readouterr().err
    assert time.monotonic() - began < 10 and not left_over()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)])
def test_a_signal_stops_all_workers_and_gives_the_exit_code(number: int, code: int, capfd) -> None:
    threading.Timer(1.0, os.kill, (os.getpid(), number)).start()
    assert launched("sleep=60") == code
    told = capfd.readouterr().err
    assert "stopping at the next step" in told and "stopped by" in told and not left_over()


@contextmanager
def taker(times: int) -> Iterator[Callable[[Job], None]]:
    """Takes worker 1's port as soon as it is known, at each of the first starts."""
    listeners: list[socket.socket] = []

    def take(job: Job) -> None:
        while len(job.workers) < 2:
            time.sleep(0.001)
        if len(listeners) < times:
            worker = psutil.Process(job.workers[1].process.popen.pid)
            # Until its program is started it has the environment that it was forked with.
            while "TF_CONFIG" not in (environment := worker.environ()):
                time.sleep(0.001)
            address = json.loads(environment["TF_CONFIG"])["cluster"]["worker"][1]
            listeners.append(socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))))

    yield take
    for listener in listeners:
        listener.close()


def test_a_port_that_someone_takes_meanwhile_is_no_failure(capfd) -> None:
    with taker(2) as take:
        launch = Launch(("sleep=0.4", "serve", "0:sleep=0.6", "0:result=done"), places.here(2), max_restarts=0)
        assert run(launch, Screen(2), take).code == 0
    told = capfd.readouterr()
    assert told.out == "done\n"
    assert "another process took the port of worker 1: starting again with other ports (1 of at most 5)" in told.err
    assert "(2 of at most 5)" in told.err and "error" not in told.err


def test_ports_that_are_always_taken_end_the_trying_and_one_that_was_asked_for_is_not_changed(
    capfd, monkeypatch
) -> None:
    monkeypatch.setattr(supervise, "PORT_TRIES", 1)
    with taker(9) as take:
        assert run(Launch(("sleep=0.4", "serve", "0:sleep=9"), places.here(2)), Screen(2), take).code == 5
    told = capfd.readouterr().err
    assert "error: another process took the port of worker 1, 2 times in a row" in told and "--port 2222" in told
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1] - 1
        assert run(Launch(("1:serve", "0:sleep=0.6", "0:exit=75"), places.here(2), port=port), Screen(2)).code == 5
    told = capfd.readouterr().err
    assert "worker 1 failed:\n  error: the port is in use" in told and "other ports" not in told


def test_workers_that_do_not_stop_in_time_are_killed(capfd) -> None:
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert launched("ignore-term", "sleep=60", grace=1.0) == 143
    assert "before a checkpoint was written" in capfd.readouterr().err and not left_over()


def test_a_second_ctrl_c_does_not_wait() -> None:
    began = time.monotonic()
    for when in (1.0, 1.3):
        threading.Timer(when, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert launched("0:ignore-term", "step=1", "child=x", "sleep=60") == 130
    assert time.monotonic() - began < 10


def test_no_worker_nor_its_children_outlive_the_job() -> None:
    assert launched("child=left-behind-by-a-worker", "1:sleep=0.3", "1:exit=4", "sleep=60") == 4
    time.sleep(0.2)
    assert not [p for p in psutil.process_iter(["cmdline"]) if "left-behind-by-a-worker" in (p.info["cmdline"] or [])]


def test_no_worker_outlives_a_launcher_that_is_killed(tmp_path: Path) -> None:
    code = (
        "from tfapp.launch import places; from tfapp.launch.screen import Screen\n"
        "from tfapp.launch.supervise import Launch, run\n"
        f"places.WORKER = {ACTOR!r}\n"
        f"run(Launch(('0:write={tmp_path}/0', '1:write={tmp_path}/1', 'sleep=60'), places.here(2)), Screen(2))"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 20
    while len(list(tmp_path.glob("[01]"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = psutil.Process(launcher.pid).children()
    launcher.kill()
    launcher.wait()
    assert len(workers) == 2
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert not alive


def test_every_worker_s_lines_are_kept_in_the_run(tmp_path: Path, capfd) -> None:
    assert launched("say=before", f"run={tmp_path}", "0:say=from zero", "1:say=from one", "sleep=0.3") == 0
    logs = {path.name: path.read_text() for path in (tmp_path / "logs").iterdir()}
    assert logs == {"worker-0.log": "before\nfrom zero\n", "worker-1.log": "before\nfrom one\n"}


def test_fresh_is_the_chief_s_alone_and_once(tmp_path: Path) -> None:
    class Seen(Screen):
        starts: list[list[str]] = []

    def watch(job) -> None:
        while len(job.workers) < 2:
            time.sleep(0.01)
        Seen.starts.append([" ".join(worker.process.popen.args) for worker in job.workers])

    words = ("--fresh", f"run={tmp_path}", "step=1", "1:first=kill", "0:sleep=1")
    assert run(Launch(words, places.here(2)), Seen(2), watch).code == 0
    assert [["--fresh" in line for line in start] for start in Seen.starts] == [[True, False], [False, False]]


def test_the_launcher_does_not_import_tensorflow() -> None:
    code = "import sys, tfapp.cli.launch, tfapp.cli.train, tfapp.launch.supervise, tfapp.launch.screen\n"
    code += "print([name for name in ('tensorflow', 'tf_keras', 'numpy', 'pandas') if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["launch", "--", "train", "digits"], "--workers 2, --hosts a,b or --hostfile FILE"),
        (["launch", "--workers", "2", "--hosts", "a", "--", "train", "digits"], "in one way"),
        (["launch", "--workers", "2", "--", "evaluate", "x"], "what is launched is a train command"),
        (["launch", "--workers", "2", "--", "train", "digits", "--sed", "3"], "No such option"),
        (["launch", "--hosts", "-oProxyCommand=x", "--", "train", "digits"], "is not a host"),
        (["launch", "--hostfile", "/nowhere", "--", "train", "digits"], "cannot read the hostfile"),
    ],
)
def test_wrong_words_are_refused_before_anything_starts(words: list[str], told: str, capsys) -> None:
    from tfapp.cli.main import main

    assert main(words) in (2, 5)
    assert re.search(re.escape(told), capsys.readouterr().err)


def test_a_worker_is_not_launched_from_a_worker(monkeypatch, capsys) -> None:
    from tfapp.cli.main import main

    config = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'
    monkeypatch.setenv("TF_CONFIG", config)
    assert main(["train", "digits", "--workers", "2"]) == 2
    assert "this is worker 1 of 2 already" in capsys.readouterr().err


def asynchronous(*words: str, **how) -> int:
    """A chief (0), two workers (1, 2) and a server (3), which serve until they are ended."""
    where = places.around_servers(2, 1)
    words = (*words, *(f"{number}:sleep=60" for number in (1, 2, 3)))
    return run(Launch(words, where, servers=1, **how), Screen(4, servers=1)).code


def test_a_worker_beside_servers_is_started_again_alone_and_all_leave_with_the_chief(capfd) -> None:
    began = time.monotonic()
    assert asynchronous("step=3", "1:first=kill", "0:sleep=2", "0:result=worth 1", "3:say=serving") == 0
    told = capfd.readouterr()
    assert told.out == "worth 1\n"
    assert told.err.count("worker 1 was ended by SIGKILL") == 1 and "it alone is started again" in told.err
    assert "from the last checkpoint" not in told.err and "[ps 0] serving" in told.err
    assert time.monotonic() - began < 20 and not left_over()


def test_a_worker_that_dies_again_and_again_ends_the_start(capfd) -> None:
    assert asynchronous("1:kill", "0:sleep=60") == 1
    told = capfd.readouterr().err
    assert told.count("it alone is started again") == supervise.COMEBACKS and "not started again" in told
    assert not left_over()


def test_a_worker_s_error_beside_servers_is_the_job_s(capfd) -> None:
    assert asynchronous("2:exit=5", "0:sleep=60") == 5
    assert "worker 2 failed" in capfd.readouterr().err and not left_over()


@pytest.mark.parametrize(("number", "name"), [(0, "worker 0"), (3, "parameter server 0")])
def test_a_job_without_its_chief_or_a_server_starts_again(number: int, name: str, capfd) -> None:
    assert asynchronous("step=3", f"{number}:first=kill", "0:sleep=0.5") == 0
    told = capfd.readouterr().err
    assert f"{name} was ended by SIGKILL" in told and "starting again from the last checkpoint (1 of at most 3)" in told
    assert not left_over()


def test_a_signal_is_for_the_chief_alone_where_others_serve_it(capfd) -> None:
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert asynchronous("0:sleep=60") == 143
    told = capfd.readouterr().err
    assert told.count("stopped by") == 1 and "before a checkpoint" not in told and not left_over()
