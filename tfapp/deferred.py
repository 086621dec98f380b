"""Heavy imports, put off until something of theirs is used: those of a recipe, and those that Keras makes just in case.

A recipe writes `import tf_keras as keras` at its top like any Keras code, and yet `tfapp recipes` or a
mistyped key answers at once, without the seconds that TensorFlow takes to load.
"""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

HEAVY = {"numpy", "pandas", "scipy", "sklearn", "tensorflow", "tf_keras"}
OURS = {"tfapp.data", "tfapp.evaluate", "tfapp.recompute"}
LIGHT = {"tfapp.data", "tfapp.data.examples", "tfapp.evaluate"}


class Deferred(ModuleType):
    """Stands for a module, and imports it at the first use of an attribute."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and not (name == "__path__" and "__ready__" in vars(self)):
            raise AttributeError(name)  # The import system asks for these; a recipe does not.
        # A heavy module's own imports must be real ones.
        _withdraw()
        return getattr(importlib.import_module(self.__name__), name)


class _Finder:
    """Gives a Deferred for the heavy modules that are not loaded yet."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        ours = name in OURS or name.rpartition(".")[0] in OURS
        if name in HEAVY or (ours and name not in LIGHT):
            return importlib.machinery.ModuleSpec(name, _Finder)  # type: ignore[arg-type]
        return None

    @staticmethod
    def create_module(spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return Deferred(spec.name)

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        # From here on `__path__` is asked for only by `import sklearn.datasets`, which needs the real package.
        vars(module)["__ready__"] = True


@contextmanager
def deferred() -> Iterator[None]:
    """While this holds, `import tensorflow` and the like bind a Deferred."""
    sys.meta_path.insert(0, _Finder)  # type: ignore[arg-type]
    try:
        yield
    finally:
        _withdraw()


def _withdraw() -> None:
    if _Finder in sys.meta_path:
        sys.meta_path.remove(_Finder)  # type: ignore[arg-type]
    for name in [name for name, module in sys.modules.items() if isinstance(module, Deferred)]:
        del sys.modules[name]
        parent, _, child = name.rpartition(".")
        # The import system has set it on its package, where the real one belongs.
        if parent and isinstance(vars(sys.modules[parent]).get(child), Deferred):
            delattr(sys.modules[parent], child)


@contextmanager
def uncollected() -> Iterator[None]:
    """A block of imports, which make hundreds of thousands of objects that stay: garbage is not looked for among them.

    Otherwise it would be, again and again while they come, for a quarter of the time that TensorFlow takes to load, and
    whenever garbage is looked for later.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if before:
            gc.enable()


class _Types:
    """Stands for pandas in Keras, which wants its types only to ask what it is given: nothing is, where nobody has imported it."""

    def __getattr__(self, name: str) -> Any:
        # An empty tuple of types, for isinstance.
        return getattr(sys.modules.get("pandas"), name, ())


@contextmanager
def hidden(*names: str) -> Iterator[None]:
    """A block in which importing these fails, as if they were not installed; those that are loaded already stay."""
    names = tuple(name for name in names if name not in sys.modules)
    for name in names:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own way to say that there is no such module.
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


@contextmanager
def sparingly() -> Iterator[None]:
    """A block in which TensorFlow and Keras are imported, without what they have for few: 0.45 s and 116 MB of it.

    Keras would have pandas and SciPy for data frames, sparse matrices and warped images, and has them once somebody else has
    imported them; h5py for files of weights, and requests to send remarks to a server, are imported where that is done.
    """
    there = set(sys.modules)
    sys.modules.update({name: Deferred(name) for name in ("h5py", "requests") if name not in there})
    try:
        with hidden("pandas", "scipy"):
            yield
    finally:
        _withdraw()
    from tf_keras.src.engine import data_adapter
    from tf_keras.src.preprocessing import image

    if "pandas" not in there:
        data_adapter.pd = _Types()
    if "scipy" not in there:
        sparse = data_adapter._is_scipy_sparse
        data_adapter._is_scipy_sparse = lambda x: "scipy.sparse" in sys.modules and sparse(x)
        image.scipy, image.ndimage = Deferred("scipy"), Deferred("scipy.ndimage")
