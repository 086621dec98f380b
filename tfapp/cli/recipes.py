"""tfapp recipes: what can be trained."""

from __future__ import annotations

import json

import click

from tfapp import recipe as recipes


@click.group(invoke_without_command=True, short_help="List the recipes; show one.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the recipes; `show` one, its settings and their schema.

    \b
      tfapp recipes
      tfapp recipes show digits
    """
    if context.invoked_subcommand is None:
        _list(as_json)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(as_json: bool) -> None:
    """List the recipes.

    \b
      tfapp recipes list --json
    """
    _list(as_json)


@command.command()
@click.argument("name")
@click.option("--schema", is_flag=True, help="The JSON schema of the whole plan, for editors.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(name: str, schema: bool, as_json: bool) -> None:
    """Show a recipe: what it says of itself, and every setting with its default.

    \b
      tfapp recipes show digits
      tfapp recipes show tabular --schema > tabular.schema.json
    """
    from tfapp import plan

    found = recipes.find(name)
    module = recipes.load(found)
    if schema:
        click.echo(json.dumps(plan.schema(module.Config).model_json_schema(), indent=1))
        return
    resolved = plan.resolve(found.word, module.Config, [("the recipe's defaults", recipes.defaults(module))])
    if as_json:
        about = {"name": found.word, "path": str(found.path), "about": found.about}
        click.echo(json.dumps({**about, "plan": resolved.model_dump(mode="json")}, indent=1))
        return
    click.echo(f"{found.about}\n\nFile:   {found.path}\n")
    for line in plan.explained(resolved):
        click.echo(line)


def _list(as_json: bool) -> None:
    found = recipes.listed()
    if as_json:
        rows = [{"name": one.word, "title": one.title, "path": str(one.path)} for one in found]
        click.echo(json.dumps(rows, indent=1))
        return
    formatter = click.HelpFormatter(width=110)
    formatter.write_dl([(one.word, one.title) for one in found])
    click.echo(formatter.getvalue(), nl=False)
