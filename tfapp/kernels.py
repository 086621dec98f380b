"""A model's kernels: the weights that compression is about, found in every kind of layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import tf_keras as keras

from tfapp.errors import Refused, nearest

# The smallest kernels, up to this share of all their weights, are not worth what it costs to press them.
FEW = 0.01


@dataclass(frozen=True, eq=False)
class Kernel:
    """One weight of two or more axes that multiplies what comes into its layer (or is looked up, in an Embedding).

    Attributes:
      path: the layer's name, after those of the models and layers around it: «encoder/attention/query».
      layer, weight: whose it is; the variable.
    """

    path: str
    layer: keras.layers.Layer
    weight: Any

    @property
    def inward(self) -> tuple[int, ...]:
        """The axes that are summed over when the layer is called; of an Embedding, which sums over none, its rows."""
        rank = self.weight.shape.rank
        if isinstance(self.layer, keras.layers.EinsumDense):
            equation = self.layer.equation.replace("...", "")
            (_, kernel), out = equation.split("->")[0].split(","), equation.split("->")[1]
            return tuple(axis for axis, letter in enumerate(kernel) if letter not in out)
        return (rank - 2,)


def of(model: keras.Model) -> list[Kernel]:
    """The trainable kernels of a model, each once, however deep it lies and however often its layer is called.

    A depthwise kernel is none (it has too few weights, which are worth too much), nor is a bias or what normalises.
    """
    found: dict[int, Kernel] = {}
    for path, layer, weights in _layers(model, ""):
        if isinstance(layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D) or not layer.trainable:
            continue
        for weight in weights:
            name = weight.name.split("/")[-1]
            if weight.shape.rank >= 2 and "bias" not in name and "depthwise" not in name:
                found.setdefault(id(weight), Kernel(path, layer, weight))
    return list(found.values())


def chosen(model: keras.Model, layers: Sequence[str], skip: Sequence[str], section: str) -> list[Kernel]:
    """The kernels whose layer fits one of the patterns `layers` and none of `skip`; `section` is for the message.

    Where every layer is meant (`*`), the smallest kernels that together hold at most a hundredth of the weights stay out,
    as a first convolution on grey pixels: nothing is gained by them, and each of their weights counts.

    Raises:
      Refused: the model has no kernel at all, or a pattern fits none.
    """
    every = of(model)
    if not every:
        raise Refused(f"{section} is about kernels, and this recipe's model has none\nleave it out: {section}=none")
    for setting, patterns in (("layers", layers), ("skip", skip)):
        for pattern in patterns:
            if not any(fits(kernel.path, [pattern]) for kernel in every):
                paths = sorted({kernel.path for kernel in every})
                raise Refused(f"{section}.{setting}={pattern} fits none of the layers\n{nearest(pattern, paths)}")
    small = _few(every) if tuple(layers) == ("*",) else []
    kept = [
        kernel for kernel in every if fits(kernel.path, layers) and not fits(kernel.path, skip) and kernel not in small
    ]
    if not kept:
        raise Refused(f"{section}.skip leaves no layer of those in {section}.layers\nskip fewer")
    return kept


def _few(kernels: Sequence[Kernel]) -> list[Kernel]:
    sizes = sorted((kernel.weight.shape.num_elements(), number) for number, kernel in enumerate(kernels))
    left, found = FEW * sum(size for size, _ in sizes), []
    for size, number in sizes:
        left -= size
        if left < 0:
            break
        found.append(kernels[number])
    return found


def share(kernels: Sequence[Kernel], model: keras.Model) -> float:
    """How much of the model's parameters the kernels are, 0 to 1."""
    return sum(kernel.weight.shape.num_elements() for kernel in kernels) / model.count_params()


def fits(path: str, patterns: Sequence[str]) -> bool:
    """Whether a layer's path, or the last name in it, fits one of the patterns (*, ? and [..] as in file names)."""
    return any(fnmatchcase(name, pattern) for name in (path, path.rsplit("/", 1)[-1]) for pattern in patterns)


def _layers(layer: keras.layers.Layer, path: str) -> Iterator[tuple[str, keras.layers.Layer, list[Any]]]:
    for inner in layer._flatten_layers(recursive=False, include_self=False):
        # TF-MOT's wrapper takes the weights of its layer, which then has rounded tensors in their place.
        wrapped = isinstance(inner, keras.layers.Wrapper) and hasattr(inner, "quantize_config")
        own = inner.layer if wrapped else inner
        name = f"{path}/{own.name}" if path else own.name
        yield name, own, inner._trainable_weights
        if not wrapped:
            yield from _layers(inner, name)
