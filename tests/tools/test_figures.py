"""The drawn pictures of the docs are what their scripts draw."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["strategies"])
def test_a_picture_is_what_its_script_draws(name: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / f"tools/figures/{name}.py", tmp_path / "drawn.svg"], check=True)
    assert (tmp_path / "drawn.svg").read_bytes() == (ROOT / f"docs/{name}.svg").read_bytes(), "draw it again"
