"""What a SavedModel and a TFLite file call a model's inputs."""

from __future__ import annotations

import keyword


def argument(name: str) -> str:
    """What a signature calls an input: a column «class» cannot be the keyword argument that TensorFlow makes of it.

    A «class_» beside it becomes «class__», so no two inputs get one name.
    """
    return f"{name}_" if keyword.iskeyword(name.rstrip("_")) else name


def feature(argument: str) -> str:
    """The input that a signature calls so."""
    return argument[:-1] if keyword.iskeyword(argument.rstrip("_")) else argument
