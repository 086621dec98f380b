"""A recipe's heavy imports wait until something of theirs is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from tfapp import recipe as recipes
from tfapp.deferred import Deferred, deferred

modules = [recipes.load(recipe) for recipe in recipes.listed()]
heavy = {"tensorflow", "tf_keras", "pandas", "sklearn", "scipy"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert not [name for name in sys.modules if name.startswith("tfapp.data.") and name != "tfapp.data.examples"]
assert not any(isinstance(module, Deferred) for module in sys.modules.values())

with deferred():
    import numpy
    import json
assert isinstance(numpy, Deferred) and not isinstance(json, Deferred) and "numpy" not in sys.modules
with deferred():
    import scipy.stats as stats  # A package inside a package needs the real one around it.
assert stats.norm.cdf(0) == 0.5
assert numpy.arange(3).sum() == 3
assert type(sys.modules["numpy"]) is type(sys) and type(sys.modules["scipy"].stats) is type(sys)
try:
    numpy.no_such_thing
except AttributeError as error:
    assert "no_such_thing" in str(error)
with deferred():
    import numpy as again
assert again is sys.modules["numpy"]
print("fine")
"""


@pytest.mark.e2e
def test_recipes_load_without_anything_heavy_and_a_deferred_module_becomes_the_real_one() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.stdout == "fine\n", done.stderr[-3000:]
