"""`gcloud`, `docker` and `crontab` for the PATH: real processes that note their words and keep a cloud of one machine in files.

What is run «on the machine» is run by a real sh, with a home of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

PRELUDE = """#!{python} -S
import json, os, sys, time
from pathlib import Path
cloud, words = Path(os.environ["FAKE_CLOUD"]), sys.argv[1:]
with open(cloud / "calls", "a") as file:
    print(json.dumps([Path(sys.argv[0]).name, *words]), file=file)
def fail(text, code=1):
    print(text, file=sys.stderr)
    sys.exit(code)
def told(name):
    path = cloud / name
    return path.read_text() if path.exists() else ""
"""

GCLOUD = """
machine = cloud / "machine"
if "describe" in words:
    print(told("machine")) if machine.exists() else fail("ERROR: (gcloud) The resource 'it' was not found")
elif "create" in words:
    time.sleep(float(told("slow") or 0))
    if told("refuse"):
        fail(told("refuse"))
    machine.write_text("READY" if "tpus" in words else "RUNNING")
elif "start" in words:
    machine.write_text("RUNNING")
elif "delete" in words:
    if told("undeletable"):
        fail("ERROR: (gcloud) Could not fetch resource: no network")
    machine.unlink()
elif "ssh" in words:
    if told("machine") not in ("RUNNING", "READY"):
        fail("ERROR: (gcloud) ssh exited with 255", 255)
    home = cloud / "home"
    home.mkdir(exist_ok=True)
    text = next(word.partition("=")[2] for word in words if word.startswith("--command="))
    if "tar -C" in text and "-cz" in text and told("unfetchable"):
        fail("ERROR: connection lost", 255)
    os.execve("/bin/sh", ["sh", "-c", text], {**os.environ, "HOME": str(home)})
"""

DOCKER = """
if words[:2] == ["image", "inspect"]:
    there = os.environ["HOME"] == str(cloud / "home")
    print("sha256:old" if there else "sha256:new")
elif words[0] == "save":
    print("an image")
elif words[0] == "load":
    sys.stdin.read()
elif words[0] == "run":
    folder = next(word for word in words if word.endswith(":/runs")).rpartition(":")[0]
    run = Path(folder) / words[words.index("--run") + 1].rpartition("/")[2]
    (run / "logs").mkdir(parents=True, exist_ok=True)
    with open(run / "plan.yaml", "a") as file:
        print("recipe: digits", file=file)
elif words[0] == "version" and told("nodocker"):
    fail("sh: docker: not found", 127)
elif words[0] == "stop":
    (cloud / "stopped").touch()
elif words[:2] == ["container", "inspect"]:
    states = cloud / "states"
    first, _, rest = told("states").partition("\\n")
    states.write_text(rest or first)
    if first == "taken away":
        (cloud / "machine").write_text(told("preempted") or "TERMINATED")
        fail("connection closed", 255)
    print(first or "exited 0")
"""

CRONTAB = """
if words == ["-"]:
    (cloud / "crontab").write_text(sys.stdin.read())
"""


def install(folder: Path) -> Path:
    """Write them into `folder`/bin, and return it; `folder` is FAKE_CLOUD."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for name, text in (("gcloud", GCLOUD), ("docker", DOCKER), ("crontab", CRONTAB)):
        path = programs / name
        path.write_text(PRELUDE.format(python=sys.executable) + text)
        path.chmod(0o755)
    return programs


def calls(folder: Path, program: str | None = None) -> list[list[str]]:
    """The words of every call so far, in order."""
    path = folder / "calls"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [words for words in found if program in (None, words[0])]
