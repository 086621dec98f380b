"""The weights of a saved model, put into one that is built anew."""

from __future__ import annotations

from pathlib import Path

import tf_keras as keras

from tfapp import export
from tfapp.errors import Refused
from tfapp.mesh import weights as parted
from tfapp.preprocess import Preprocess


def take(saved: Path, preprocess: Preprocess, model: keras.Model, task: str) -> None:
    """Give the model the weights that it has inside a SavedModel of `export.saved_model`; preprocessing stays as it is.

    Args:
      saved: the SavedModel's folder, of a model with the same layers in the same order.
      preprocess, model, task: what makes `export.whole` of the model, which need not be trained.

    Raises:
      Refused: the saved model has other layers.
    """
    reader = export.variables(saved)
    variables = export.whole(preprocess, model, task).variables
    shapes = reader.get_variable_to_shape_map()
    held = [shapes.get(key) for key in map(_key, range(len(variables)))]
    if _key(len(variables)) in shapes:
        raise Refused(f"the model in {saved} has more weights than the {len(variables)} of this one\n{_HINT}")
    for variable, shape in zip(variables, held, strict=True):
        if shape is None or parted.shape(variable) != shape:
            raise Refused(
                f"{variable.name.partition(':')[0]} is {parted.shape(variable)} here, "
                f"and {shape or 'missing'} in {saved}\n{_HINT}"
            )
    own = {id(weight) for weight in model.weights}
    for number, variable in enumerate(variables):
        if id(variable) in own:
            parted.give(variable, reader.get_tensor(_key(number)))


_HINT = "start from a run of the same recipe, with the same settings of the model"


def _key(number: int) -> str:
    return f"model/variables/{number}/.ATTRIBUTES/VARIABLE_VALUE"
