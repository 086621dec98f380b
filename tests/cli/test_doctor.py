from __future__ import annotations

import json

import pytest

from tfapp.cli.main import main


def test_its_help_has_an_example(capsys) -> None:
    assert main(["doctor", "--help"]) == 0
    assert "tfapp doctor --json" in capsys.readouterr().out


@pytest.mark.e2e
@pytest.mark.slow
def test_it_fits_for_real_and_says_so(capsys) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "examples/s" in out
    assert "ready to train" in out.splitlines()[-1]


@pytest.mark.e2e
def test_a_broken_cluster_ends_in_5_as_json_too(capsys, monkeypatch) -> None:
    monkeypatch.setenv("TF_CONFIG", "{")
    assert main(["doctor", "--json"]) == 5
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["verdict"] == "broken"
    assert [check["name"] for check in found["checks"] if check["state"] == "broken"] == ["TF_CONFIG"]
    assert found["facts"]["fit"]["accuracy"] > 0.8
    assert err.startswith("error: not ready: TF_CONFIG")
