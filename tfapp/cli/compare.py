"""tfapp compare: which run is better, and by more than chance?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tfapp.errors import Missing


@click.command()
@click.argument("run", nargs=-1, required=True)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write a page to this file.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(run: tuple[str, ...], html: Path | None, as_json: bool) -> None:
    """Set runs side by side: scores with intervals, sizes, latency, and the changed settings.

    Runs with the same test examples are compared pair by pair, example by example.

    \b
      tfapp compare digits digits-3f2a91
      tfapp compare digits digits-3f2a91 --html compared.html
    """
    from tfapp import run as runs

    found = [runs.find(word) for word in run]
    if len(found) < 2:
        raise Missing("one run is nothing to compare\ngive two or more: tfapp compare RUN RUN")
    from tfapp import compare

    result = compare.compare(found)
    if html is not None:
        from tfapp import report as pages

        runs.write_text(html, pages.render_comparison(compare.reports(found), result["pairs"]))
    if as_json:
        click.echo(json.dumps(result, indent=1))
    else:
        _show(result)
    if html is not None:
        click.echo(f"page: {html}", err=True)


def _show(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in result["runs"]:
        table.add_column(name, justify="right")
    for row, values in result["rows"].items():
        table.add_row(row, *("–" if value is None else f"{value:.4g}" for value in values))
    console = Console()
    console.print(table)
    for pair in result["pairs"]:
        console.print(pair["words"], highlight=False)
    for name in result["unpaired"]:
        console.print(f"{name}: tested on other examples than {result['runs'][0]}", highlight=False)
    for name, changes in result["changes"].items():
        console.print(f"{name}: {'; '.join(changes) or 'the same plan'}", highlight=False)
