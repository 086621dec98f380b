"""tfapp data: what is done to data before any training."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tfapp.cli import asking


@click.group(short_help="Shard an image folder.")
def command() -> None:
    """Make data ready to be read fast.

    \b
      tfapp data shard images shards --size 96
    """


@command.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--size", type=click.IntRange(1), default=96, show_default=True, help="Height and width in pixels.")
@click.option(
    "--resize", type=click.Choice(["pad", "crop", "stretch"]), default="pad", show_default=True, help="As the recipe's."
)
@click.option("--channels", type=click.Choice(["3", "1"]), default="3", show_default=True, help="RGB or grey.")
@click.option(
    "--encoding",
    type=click.Choice(["raw", "jpeg"]),
    default="raw",
    show_default=True,
    help="Pixels, or smaller JPEGs of them.",
)
@click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True, help="Of the JPEGs.")
@click.option(
    "--compression",
    type=click.Choice(["none", "gzip"]),
    default="none",
    show_default=True,
    help="Of the files; compressed ones are read only into memory.",
)
@click.option("--shards", type=click.IntRange(1, 99_999), help="How many files (default: of about 128 MB each).")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def shard(source, folder, size, resize, channels, encoding, quality, compression, shards, as_json) -> None:
    """Decode and resize a folder of images once, into TFRecord files that recipes read in its place.

    SOURCE is a folder with one sub-folder a class, train/ and test/ folders of those, or a CSV of path,label. Classes, parts
    and names are kept, copies of a file stay together, and what cannot be read is listed. The same command goes on where it
    was stopped. Give the recipe FOLDER as its folder and the same size.

    \b
      tfapp data shard photos shards --size 96
      tfapp train image_folder folder=shards size=96
      tfapp data shard photos.csv small --size 224 --encoding jpeg --quality 90
    """
    from tfapp.runtime import import_tensorflow

    import_tensorflow()
    from tfapp.data import shard as shards_of

    asked = shards_of.Asked(size, resize, int(channels), encoding, quality, compression, shards)
    head = shards_of.write(source, folder, asked, asking.say)
    if as_json:
        click.echo(json.dumps({name: head[name] for name in ("images", "shards", "dropped")}, indent=1))
        return
    if head["dropped"]:
        name, reason = head["dropped"][0]
        asking.say(f"{len(head['dropped']):,} files were left out; the first is {name}: {reason}")
    total = sum(one["bytes"] for one in head["shards"])
    click.echo(
        f"{head['images']:,} images in {len(head['shards'])} shards, {total / 1e6:,.1f} MB, in {folder}\n"
        f"train on them: tfapp train image_folder folder={folder} size={size}"
        + (f" resize={resize}" if resize != "pad" else "")
    )
