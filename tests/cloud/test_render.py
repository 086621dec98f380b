"""The manifests: held to the schedulers' own schemas, and run as far as they can be without one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tfapp.cli.main import main
from tfapp.cloud import render
from tfapp.cloud.render import Manifest

NASTY = 'data=it\'s $(touch /tmp/tfapp-was-here) $HOME `id` "x"'
RECIPE = Path(__file__).parents[2] / "recipes" / "digits.py"
MANIFESTS = [
    Manifest("digits", ("digits", "fit.epochs=2"), 1, "runs", image="registry.example/tfapp:cpu"),
    Manifest(
        "two", ("digits", NASTY), 2, "runs", gpus=1, image="r.example/t:gpu", data="data", secret="keys", minutes=9
    ),
    Manifest("mine", ("/recipes/digits.py",), 3, "runs", image="r.example/t:cpu", recipe=RECIPE),
]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest.name)
def test_kubernetes_takes_every_part_by_its_own_schema(manifest) -> None:
    import kubernetes_validate

    for part in yaml.safe_load_all(render.kubernetes(manifest)):
        kubernetes_validate.validate(part, "1.30", strict=True)


def job(manifest: Manifest) -> dict:
    return next(part for part in yaml.safe_load_all(render.kubernetes(manifest)) if part["kind"] == "Job")


def test_a_pod_of_kubernetes_learns_its_place_from_its_index() -> None:
    spec = job(MANIFESTS[1])["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    env = spec["template"]["spec"]["containers"][0]["env"]
    names = [variable["name"] for variable in env]
    # Kubernetes expands only what was named before.
    assert names.index("JOB_COMPLETION_INDEX") < names.index("TF_CONFIG")
    text = env[names.index("TF_CONFIG")]["value"].replace("$(JOB_COMPLETION_INDEX)", "1")
    config = json.loads(text)
    assert config["task"] == {"type": "worker", "index": 1}
    assert config["cluster"]["worker"] == ["two-0.two:2222", "two-1.two:2222"]
    assert spec["template"]["spec"]["subdomain"] == "two"


def test_kubernetes_expands_nothing_in_the_user_s_words() -> None:
    args = job(MANIFESTS[1])["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[2] == NASTY.replace("$(", "$$(")
    assert args[:2] == ["train", "digits"] and args[-2:] == ["--run", "/runs/two"]


def test_one_worker_alone_gets_no_cluster() -> None:
    assert job(MANIFESTS[0])["spec"]["template"]["spec"]["containers"][0]["env"] == []


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest.name)
@pytest.mark.parametrize("image", ["", "docker://registry.example/tfapp:gpu"])
def test_the_slurm_script_is_what_bash_and_shellcheck_take(manifest, image, tmp_path) -> None:
    from dataclasses import replace

    script = tmp_path / "job.sbatch"
    script.write_text(render.slurm(replace(manifest, image=image)))
    subprocess.run(["bash", "-n", script], check=True)
    done = subprocess.run(
        [Path(sys.executable).parent / "shellcheck", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    directives = [line for line in script.read_text().splitlines() if line.startswith("#SBATCH ")]
    assert all(re.fullmatch(r"#SBATCH --[a-z-]+(=\S+)?", line) for line in directives)
    # sbatch stops looking for them at the first command.
    assert script.read_text().index("set -u") > script.read_text().rindex("#SBATCH ")


# Slurm's programs, as far as the script uses them: two nodes whose names sort wrongly, tasks as processes.
SLURM = {
    "scontrol": 'echo "scontrol $*" >>"$CALLS"; [ "$1" = show ] && printf "n2\\nn10\\n"; true',
    "srun": 'shift; status=0; for i in 0 1; do SLURM_PROCID=$i SLURM_NTASKS=2 "$@" || status=$?; done; exit $status',
    "tfapp": 'printf "%s\\n" "$TF_CONFIG" >>"$CALLS"; for w; do printf "%s\\n" "<$w>" >>"$CALLS"; done; '
    'n=$(cat "$CODES"); echo "${n#* }" >"$CODES"; exit "${n%% *}"',
}


def run_script(folder: Path, text: str, codes: str) -> tuple[int, list[str]]:
    programs = folder / "bin"
    programs.mkdir()
    for name, body in SLURM.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    (folder / "codes").write_text(codes)
    env = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[2,10]"}
    env |= {"CALLS": str(folder / "calls"), "CODES": str(folder / "codes"), "HOME": str(folder)}
    done = subprocess.run(["bash"], input=text, text=True, env=env, cwd=folder, check=False)
    return done.returncode, (folder / "calls").read_text().splitlines()


@pytest.mark.e2e
def test_each_task_of_slurm_gets_its_place_in_the_nodes_own_order(tmp_path) -> None:
    text = render.slurm(Manifest("two", ("digits", NASTY), 2, "the runs"))
    code, called = run_script(tmp_path, text, "0 0")
    assert code == 0
    configs = [json.loads(line) for line in called if line.startswith("{")]
    assert configs[0]["cluster"] == {"worker": ["n2:20007", "n10:20007"]}
    assert [config["task"]["index"] for config in configs] == [0, 1]
    assert called[2:7] == ["<train>", "<digits>", f"<{NASTY}>", "<--run>", "<the runs/two>"]
    assert not Path("/tmp/tfapp-was-here").exists()


@pytest.mark.e2e
def test_the_slurm_script_carries_a_recipe_of_one_s_own(tmp_path) -> None:
    text = render.slurm(Manifest("mine", ("/recipes/digits.py", "fit.epochs=2"), 2, "runs", recipe=RECIPE))
    code, called = run_script(tmp_path, text, "0 0")
    assert code == 0
    assert called[2:5] == ["<train>", "<runs/.recipes/mine/digits.py>", "<fit.epochs=2>"]
    assert (tmp_path / "runs" / ".recipes" / "mine" / "digits.py").read_text() == RECIPE.read_text()


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("codes", "code", "tries", "requeued"), [("1 1 0 0", 0, 2, False), ("3 3", 3, 1, False), ("143 143", 143, 1, True)]
)
def test_slurm_tries_again_what_another_try_can_mend_and_requeues_what_ran_out_of_time(
    tmp_path, codes, code, tries, requeued
) -> None:
    ended, called = run_script(tmp_path, render.slurm(Manifest("two", ("digits",), 2, "runs")), codes)
    assert ended == code
    assert called.count("<train>") == 2 * tries
    assert ("scontrol requeue 7" in called) == requeued


def test_the_verb_writes_both_and_refuses_what_makes_no_sense(capsys) -> None:
    assert main(["cloud", "render", "slurm", "digits", "--workers", "2"]) == 0
    assert "#SBATCH --nodes=2" in capsys.readouterr().out
    assert main(["cloud", "render", "k8s", str(RECIPE), "--image", "r.example/t:cpu", "--name", "own"]) == 0
    kinds = [part["kind"] for part in yaml.safe_load_all(capsys.readouterr().out)]
    assert kinds == ["ConfigMap", "Service", "Job"]
    assert main(["cloud", "render", "slurm", "digits", "--data", "x"]) == 2
    assert main(["cloud", "render", "k8s", "digits", "fit.epoch=1", "--image", "r.example/t:cpu"]) == 2
