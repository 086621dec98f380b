"""What every test stands on: a home of its own, quiet TensorFlow, and real data where it is there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import hypothesis
import pytest

CHECKOUT = Path(__file__).resolve().parent.parent

hypothesis.settings.register_profile("tfapp", deadline=None, max_examples=25)
hypothesis.settings.load_profile("tfapp")


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module can import TensorFlow: nothing of the user's is read or written."""
    away = tempfile.TemporaryDirectory(prefix="tfapp-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(away.cleanup)
    # The font list that matplotlib keeps there takes seconds to make and is nobody's secret.
    os.environ.setdefault("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib"))
    os.environ.update(
        HOME=away.name,
        KERAS_HOME=f"{away.name}/.keras",
        TFAPP_RUNS=f"{away.name}/runs",
        TF_CPP_MIN_LOG_LEVEL="3",
        # Processes that tests start must run this checkout, whatever is installed.
        PYTHONPATH=os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")])),
    )
    for name in ("TF_CONFIG", "TFAPP_DEBUG"):
        os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def runs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test's own folder of runs; not made before something is written there."""
    root = tmp_path / "runs"
    monkeypatch.setenv("TFAPP_RUNS", str(root))
    return root


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets; the test is skipped where there is none."""
    named = os.environ.get("TFAPP_SHARED")
    for folder in [Path(named)] if named else [CHECKOUT.parent / "shared" / "data"]:
        if folder.is_dir():
            return folder
    pytest.skip("no real data: set TFAPP_SHARED to its folder")
