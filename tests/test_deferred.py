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


KERAS = """
import sys
import tempfile
from tfapp.runtime import import_tensorflow

tf = import_tensorflow()
import numpy as np
import tf_keras as keras
assert not {"pandas", "scipy", "sklearn", "pyarrow", "h5py", "requests"} & set(sys.modules)

model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(tf.data.Dataset.from_tensors((np.ones([4, 2]), np.ones([4, 1]))), verbose=0)
assert not {"pandas", "scipy"} & set(sys.modules)
with tempfile.TemporaryDirectory() as folder:
    for name in ("model.keras", "model.h5"):
        model.save(f"{folder}/{name}")
        again = keras.models.load_model(f"{folder}/{name}")
        assert all(map(np.array_equal, again.get_weights(), model.get_weights()))
keras.callbacks.RemoteMonitor()

import pandas as pd
import scipy.sparse
frame = pd.DataFrame(np.ones([4, 2], np.float32))
wanted = model.predict(np.ones([4, 2], np.float32), verbose=0)
for data in (frame, scipy.sparse.csr_matrix(frame.to_numpy())):
    assert np.allclose(model.predict(data, verbose=0), wanted)
model.fit(frame, frame[0], verbose=0)
turned = keras.preprocessing.image.apply_affine_transform(np.arange(27.0).reshape(3, 3, 3), 180, channel_axis=2, row_axis=0, col_axis=1)
assert np.allclose(turned, np.arange(27.0).reshape(3, 3, 3)[::-1, ::-1], atol=1e-3)
print("fine")
"""


@pytest.mark.e2e
def test_keras_does_all_that_it_does_with_what_it_was_imported_without() -> None:
    done = subprocess.run([sys.executable, "-c", KERAS], capture_output=True, text=True, check=False)
    assert done.stdout == "fine\n", done.stderr[-3000:]
