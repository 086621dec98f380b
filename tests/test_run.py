from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Root may write everywhere, so the process gives that right away.
DROP = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]


@pytest.mark.e2e
@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everywhere")
@pytest.mark.parametrize("locked", ["", "checkpoints"])
def test_a_folder_that_may_not_be_written_is_told_before_anything_is_trained(tmp_path: Path, locked) -> None:
    small = str(Path(__file__).parent / "fixtures" / "small.py")
    (tmp_path / "run" / locked).mkdir(parents=True)
    (tmp_path / "run" / locked).chmod(0o555)
    words = [sys.executable, "-m", "tfapp", "train", small, "--run", str(tmp_path / "run")]
    done = subprocess.run(
        [*(DROP if os.geteuid() == 0 else []), *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 5, done.stderr
    told = done.stderr.splitlines()
    assert told[0].startswith(f"error: {tmp_path / 'run' / locked}") and "may not write there" in told[0]
    assert "--run FOLDER" in told[1] and len(told) == 2


@pytest.mark.parametrize("problem", [SystemExit(143), KeyboardInterrupt()])
def test_a_run_that_is_ended_from_outside_is_noted_as_stopped(tmp_path: Path, problem, monkeypatch) -> None:
    from tfapp import environment
    from tfapp.run import Run
    from tfapp.runtime import Machine

    monkeypatch.setattr(environment, "describe", dict)
    with pytest.raises(type(problem)), Run(tmp_path).recorded(Machine(None, 1)):
        raise problem
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "stopped"
