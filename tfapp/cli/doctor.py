"""`tfapp doctor`."""

from __future__ import annotations

import json

import click

from tfapp.errors import Missing

_MARKS = {"ok": "ok", "warning": "WARN", "broken": "BAD"}
_VERDICTS = {"ok": "this machine is ready to train", "warning": "ready to train; see the warnings above"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print checks and facts as JSON, for programs.")
def command(as_json: bool) -> None:
    """Check this machine, with a short real fit.

    Versions, extras, processor, memory, disk, devices, threads, TF_CONFIG, and ten seconds of training a small CNN on
    real digits. Exit code 5 when something that tfapp needs is broken.

    \b
      tfapp doctor
      tfapp doctor --json | jq .facts.fit.examples_per_second
    """
    # Not above: the help needs none of it.
    from dataclasses import asdict

    from tfapp import doctor

    if not as_json:
        click.echo("looking, and training for a few seconds ...", err=True)
    checks, facts = doctor.examine()
    worst = doctor.verdict(checks)
    if as_json:
        click.echo(json.dumps({"verdict": worst, "checks": [asdict(c) for c in checks], "facts": facts}, indent=2))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            click.echo(f"{_MARKS[check.state]:<4}  {check.name:<{width}}  {check.found}")
            if check.advice:
                click.echo(f"{'':<4}  {'':<{width}}  -> {check.advice}")
    if worst == "broken":
        bad = [check for check in checks if check.state == "broken"]
        raise Missing(
            f"not ready: {', '.join(check.name for check in bad)}\n{next((c.advice for c in bad if c.advice), '')}"
        )
    if not as_json:
        click.echo(f"\n{_VERDICTS[worst]}")
