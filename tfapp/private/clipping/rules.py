"""For each kind of layer: its variables' gradients of each example, from its input and the gradient of its output.

«Output» is what the layer gives before its activation (see calls.py). Everything is put into float32 here.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfapp.private.clipping import standing
from tfapp.private.clipping.calls import Call
from tfapp.private.clipping.terms import Each, Lookup, Outer, Term

Terms = Iterator[tuple[tf.Variable, Term]]
Rule = Callable[[Call, tf.Tensor], Terms]

# Patches are gathered by runs of pixels, and short runs cost as much as long ones. A convolution whose kernel is an identity
# makes long ones of those with fewer channels than SHORT, up to LONG numbers; patches of up to SMALL numbers it cuts whole.
SHORT, LONG, SMALL = 16, 96, 32


def rule_of(layer: keras.layers.Layer) -> Rule | None:
    """The rule for the layer's class; None for a class without one, or that computes in a way of its own."""
    for kind, rule in RULES.items():
        own = ("call", "convolution_op", "_apply_normalization")
        if isinstance(layer, kind) and all(getattr(type(layer), n, None) is getattr(kind, n, None) for n in own):
            return rule if _plain(layer) else None
    return None


def _plain(layer: keras.layers.Layer) -> bool:
    """Whether the layer's settings are among those that its rule knows."""
    if isinstance(layer, keras.layers.EinsumDense):
        return layer.built and _parsed(layer) is not None
    if isinstance(layer, keras.layers.Embedding):
        return not layer.sparse
    if isinstance(layer, keras.layers.LayerNormalization):
        return list(layer.axis) == sorted(layer.axis)
    return True


def dense(call: Call, g: tf.Tensor) -> Terms:
    x, g, layer = _float(call.input), _float(g), call.layer
    yield layer.kernel, Outer(_places(x, 1), _places(g, 1), tuple(layer.kernel.shape))
    yield from _bias(layer, g)


def embedding(call: Call, g: tf.Tensor) -> Terms:
    x, table = call.input, call.layer.embeddings
    rows = x if x.dtype in (tf.int32, tf.int64) else tf.cast(x, tf.int32)
    examples = tf.shape(x)[0]
    places = int(np.prod(x.shape[1:])) if x.shape[1:].is_fully_defined() else -1
    yield table, Lookup(tf.reshape(rows, [examples, places]), _places(_float(g), 1), tuple(table.shape))


def convolution(call: Call, g: tf.Tensor) -> Terms:
    layer = call.layer
    x, g = _channels_last(layer, _float(call.input)), _channels_last(layer, _float(g))
    summed = partial(_summed, layer, _sizes(g)[-layer.rank - 1 :])
    g = _places(g, 1)
    height, width, channels, filters = _kernel_size(layer) + tuple(layer.kernel.shape[-2:])
    if layer.groups == 1:
        yield layer.kernel, Outer(x, g, tuple(layer.kernel.shape), cut=partial(_patches, layer), summed=summed)
    else:
        a = _split(_patches(layer, x), height * width, layer.groups, channels)
        found = tf.einsum("bpkgi,bpgo->bkigo", a, _split(g, layer.groups, filters // layer.groups))
        yield layer.kernel, Each(tf.reshape(found, [-1, *layer.kernel.shape]))
    yield from _bias(layer, g)


def depthwise(call: Call, g: tf.Tensor) -> Terms:
    layer = call.layer
    kernel = layer.depthwise_kernel
    x, g = _channels_last(layer, _float(call.input)), _channels_last(layer, _float(g))
    channels, multiplier = kernel.shape[-2:]
    a, g = _split(_patches(layer, x), int(np.prod(_kernel_size(layer))), channels), _places(g, 1)
    found = tf.einsum("bpkc,bpcm->bkcm", a, _split(g, channels, multiplier))
    yield kernel, Each(tf.reshape(found, [-1, *kernel.shape]))
    yield from _bias(layer, g)


def normalization(call: Call, g: tf.Tensor) -> Terms:
    layer, g = call.layer, _float(g)
    axes = [axis % g.shape.rank for axis in np.atleast_1d(layer.axis)]
    others = [axis for axis in range(1, g.shape.rank) if axis not in axes]
    if layer.scale:
        # The layer itself, without scale and offset, says what it scaled.
        with standing.in_for(layer, scale=False, center=False, gamma=None, beta=None):
            normal = call.again(*call.args, **call.kwargs)
        yield layer.gamma, Each(tf.reduce_sum(g * _float(normal), others))
    if layer.center:
        yield layer.beta, Each(tf.reduce_sum(g, others))


def einsum_dense(call: Call, g: tf.Tensor) -> Terms:
    layer = call.layer
    inputs, kernel, outputs = _parsed(layer, call.input.shape.rank)  # type: ignore[misc]
    x, g, batch = _float(call.input), _float(g), inputs[0]
    shared = [name for name in inputs[1:] if name in outputs and name not in kernel]
    summed = [name for name in kernel if name in inputs and name not in outputs]
    made = [name for name in kernel if name in outputs and name not in inputs]
    if len(summed) + len(made) < len(kernel):
        yield layer.kernel, Each(tf.einsum(f"{inputs},{outputs}->{batch}{kernel}", x, g))
    else:
        a = _grouped(x, inputs, [batch], shared, summed)
        order = tuple(kernel.index(name) for name in summed + made)
        yield layer.kernel, Outer(a, _grouped(g, outputs, [batch], shared, made), tuple(layer.kernel.shape), order)
    yield from _bias(layer, g)


RULES: dict[type, Rule] = {
    keras.layers.Dense: dense,
    keras.layers.Embedding: embedding,
    keras.layers.DepthwiseConv1D: depthwise,
    keras.layers.DepthwiseConv2D: depthwise,
    keras.layers.Conv1D: convolution,
    keras.layers.Conv2D: convolution,
    keras.layers.LayerNormalization: normalization,
    keras.layers.GroupNormalization: normalization,
    keras.layers.EinsumDense: einsum_dense,
}


def _float(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(values, tf.float32)


def _places(values: tf.Tensor, last: int) -> tf.Tensor:
    """[b, …, n] as [b, t, n], with as much known of its shape as can be; `last` axes make n."""
    middle, end = values.shape[1 : values.shape.rank - last], values.shape[values.shape.rank - last :]
    known = int(np.prod(middle)) if middle.is_fully_defined() else -1
    first = values.shape[0]
    if known == -1 and first is None:
        first = tf.shape(values)[0]
    return tf.reshape(values, [-1 if first is None else first, known, int(np.prod(end))])


def _split(values: tf.Tensor, *sizes: int) -> tf.Tensor:
    """[b, t, n] as [b, t, *sizes]."""
    return tf.reshape(values, [*tf.unstack(tf.shape(values)[:2]), *sizes])


def _bias(layer: keras.layers.Layer, g: tf.Tensor) -> Terms:
    """The gradient of what was added to the output [b, …], along its last axes."""
    bias = getattr(layer, "bias", None)
    if bias is not None:
        spread = [1] * (g.shape.rank - 1 - len(bias.shape)) + list(bias.shape)
        summed = [axis for axis, size in enumerate(spread, 1) if size == 1 and g.shape[axis] != 1]
        total = tf.reduce_sum(g, summed) if summed else g
        yield bias, Each(total if total.shape.rank == 1 + len(bias.shape) else tf.reshape(total, [-1, *bias.shape]))


def _channels_last(layer: keras.layers.Layer, x: tf.Tensor) -> tf.Tensor:
    if layer.data_format == "channels_last":
        return x
    rank = x.shape.rank
    first = rank - 1 - layer.rank
    return tf.transpose(x, [*range(first), *range(first + 1, rank), first])


def _kernel_size(layer: keras.layers.Layer) -> tuple[int, int]:
    return _pair(layer.kernel_size)


def _pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    """Of one axis or two, as of two: a row is an image of height 1."""
    return (1, *sizes) if len(sizes) == 1 else tuple(sizes)  # type: ignore[return-value]


def _patches(layer: keras.layers.Layer, x: tf.Tensor) -> tf.Tensor:
    """What a convolution multiplies at each place: [b, places, height · width · channels]."""
    images = tf.reshape(x, [-1, *_sizes(x)[-layer.rank - 1 :]])
    kernel, strides, rates = _kernel_size(layer), tuple(layer.strides), _pair(layer.dilation_rate)
    if layer.rank == 1:
        images, strides = images[:, None], strides * 2
    sizes, channels = _sizes(images)[1:3], images.shape[-1]
    axes = [
        _reached(have, rate * (length - 1) + 1, stride, layer.padding)
        for have, length, stride, rate in zip(sizes, kernel, strides, rates, strict=True)
    ]
    places, zeros = [number for number, _ in axes], [around for _, around in axes]
    lines = kernel[0] if kernel[0] * kernel[1] * channels <= SMALL else strides[0]
    run = lines * kernel[1] * channels
    known = all(isinstance(size, int) for size in sizes)
    # Of several axes at once, the kernels want one stride.
    if known and channels < SHORT and run <= LONG and kernel[0] % lines == 0 and strides[0] == strides[1]:
        identity = tf.reshape(tf.eye(run), [lines, kernel[1], channels, run])
        runs = tf.nn.conv2d(images, identity, strides, [[0, 0], *zeros, [0, 0]], dilations=rates)
        cut = _runs_of_lines(runs, places, kernel[0] // lines, rates[0]) if lines < kernel[0] else runs
    else:
        cut = _runs_of_pixels(images, sizes, places, [before for before, _ in zeros], kernel, strides, rates)
    around = x.shape[1 : -layer.rank - 1]
    number = math.prod(around) * places[0] * places[1] if known and around.is_fully_defined() else -1
    return tf.reshape(cut, [tf.shape(x)[0], number, math.prod(kernel) * channels])


def _runs_of_lines(runs: tf.Tensor, places: list[int], number: int, rate: int) -> tf.Tensor:
    """Patches of which each is so many runs, one below the other."""
    height, width, size = runs.shape[1:]
    rows = tf.range(places[0])[:, None] + tf.range(number) * rate
    index = rows[:, None] * width + tf.range(width)[:, None]
    return tf.gather(tf.reshape(runs, [-1, height * width, size]), tf.reshape(index, [-1]), axis=1)


def _runs_of_pixels(
    images: tf.Tensor,
    sizes: list[Any],
    places: list[Any],
    before: list[Any],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    rates: tuple[int, int],
) -> tf.Tensor:
    """Patches of which each pixel is a run; one of zeros stands for all those around the image."""
    pixels = tf.reshape(images, [-1, sizes[0] * sizes[1], images.shape[-1]])
    rows, columns = (
        tf.range(number)[:, None] * stride + tf.range(length) * rate - zeros
        for number, length, stride, rate, zeros in zip(places, kernel, strides, rates, before, strict=True)
    )
    inside = ((rows >= 0) & (rows < sizes[0]))[:, None, :, None] & ((columns >= 0) & (columns < sizes[1]))[:, None]
    index = tf.where(inside, rows[:, None, :, None] * sizes[1] + columns[:, None], sizes[0] * sizes[1])
    pixels = tf.concat([pixels, tf.zeros_like(pixels[:, :1])], 1)
    return tf.gather(pixels, tf.reshape(index, [-1]), axis=1)


def _reached(have: Any, reach: int, stride: int, padding: str) -> tuple[Any, list[Any]]:
    """(places along an axis of `have` pixels, zeros before and behind it) of a kernel that spans `reach` of them."""
    if padding == "same":
        places = -(-have // stride)
        missing = (places - 1) * stride + reach - have
        missing = max(missing, 0) if isinstance(missing, int) else tf.maximum(missing, 0)
        return places, [missing // 2, missing - missing // 2]
    before = reach - 1 if padding == "causal" else 0
    return (have + before - reach) // stride + 1, [before, 0]


def _summed(layer: keras.layers.Layer, sizes: list[Any], x: tf.Tensor, g: tf.Tensor) -> tf.Tensor:
    """The kernel's gradient, of all examples together, by the operation that plain training has for it."""
    images = tf.reshape(x, [-1, *_sizes(x)[-layer.rank - 1 :]])
    padding = layer.padding.upper()
    if padding == "CAUSAL":
        before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
        images, padding = tf.pad(images, [[0, 0], [before, 0], [0, 0]]), "VALID"
    kernel = tf.zeros(layer.kernel.shape)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        made = tf.nn.convolution(images, kernel, layer.strides, padding, dilations=layer.dilation_rate)
    return tape.gradient(made, kernel, tf.reshape(g, [-1, *sizes]))


def _sizes(x: tf.Tensor) -> list[Any]:
    """The shape, known sizes as numbers."""
    dynamic = tf.shape(x)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(x.shape)]


def _parsed(layer: keras.layers.EinsumDense, rank: int | None = None) -> tuple[str, str, str] | None:
    """The names of the axes of input, kernel and output; None for an equation that no rule is for."""
    equation = layer.equation.replace(" ", "")
    if "..." in equation:
        free = [name for name in string.ascii_letters if name not in equation]
        named = len(equation.split(",")[0].replace("...", ""))
        equation = equation.replace("...", "".join(free[: (rank or named + 1) - named]))
    inputs, _, rest = equation.partition(",")
    kernel, _, outputs = rest.partition("->")
    known = all(len(set(names)) == len(names) for names in (inputs, kernel, outputs))
    examples = inputs[:1] == outputs[:1] and inputs[:1] not in kernel
    summed_outside = set(inputs) - set(kernel) - set(outputs) or set(kernel) - set(inputs) - set(outputs)
    few = layer.bias is None or len(layer.bias.shape) < len(outputs)
    return (inputs, kernel, outputs) if known and examples and not summed_outside and few else None


def _grouped(values: tf.Tensor, names: str, *groups: list[str]) -> tf.Tensor:
    """The axes of one group as one axis, the groups in order; the first is the examples."""
    order = [names.index(name) for group in groups for name in group]
    sizes = _sizes(values)

    def size(group: list[str]) -> Any:
        each = [sizes[names.index(name)] for name in group]
        return int(np.prod(each)) if all(isinstance(one, int) for one in each) else tf.reduce_prod(tf.stack(each))

    moved = values if order == sorted(order) else tf.transpose(values, order)
    return tf.reshape(moved, [size(group) for group in groups])
