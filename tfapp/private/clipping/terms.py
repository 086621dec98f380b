"""A variable's gradient of each example, in the form in which its norm and its weighted sum cost least.

All tensors are float32; b is the examples of the call. A term knows `squared()`, float32 [b]: the squared norm of each
example's gradient; `weighted(factors)`: Σ_i factors[i] · gradient_i in the variable's shape; and `each()`: all the
gradients, [b, *shape].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, reduce

import tensorflow as tf

# In so many parts are the examples taken where what is cut out of them is large.
PARTS = 8


@dataclass(frozen=True, eq=False)
class Each:
    """The gradients themselves: values [b, *shape of the variable]."""

    values: tf.Tensor

    def each(self) -> tf.Tensor:
        return self.values

    def squared(self) -> tf.Tensor:
        return _sum_of_squares(self.values)

    def weighted(self, factors: tf.Tensor) -> tf.Tensor:
        return tf.reshape(_weighted(self.values, factors), self.values.shape[1:])


@dataclass(frozen=True, eq=False)
class Outer:
    """Σ_t inputs[i, t] ⊗ outputs[i, t]: of a kernel that is multiplied at t places of each example.

    Attributes:
      inputs: [b, t, k], or what `cut` makes this of.
      outputs: the gradient of what was multiplied, [b, t, c].
      shape: of the variable.
      order: its axes such that those of k come first and then those of c; None for as they are.
      cut: from inputs of some of the examples to theirs of […, t, k], which are so much larger that they are not kept.
      summed: from inputs and outputs of all to the sum of the gradients, in the variable's shape, with nothing cut.
    """

    inputs: tf.Tensor
    outputs: tf.Tensor
    shape: tuple[int, ...]
    order: tuple[int, ...] | None = None
    cut: Callable[[tf.Tensor], tf.Tensor] | None = None
    summed: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None

    def each(self) -> tf.Tensor:
        return self._placed(self._products, 1)

    def squared(self) -> tf.Tensor:
        if self._places == 1:
            return _sum_of_squares(self.rows) * _sum_of_squares(self.outputs)
        if self._by_places:
            return self._part_by_part(_squared_by_places)
        return _sum_of_squares(self._products)

    def weighted(self, factors: tf.Tensor) -> tf.Tensor:
        if self._by_places:
            outputs = self.outputs * factors[:, None, None]
            if self.summed:
                return self.summed(self.inputs, outputs)
            few, many = (outputs, self.rows) if self._outputs_first else (self.rows, outputs)
            total = tf.matmul(_rows(few), _rows(many), transpose_a=True)
        else:
            total = _weighted(self._products, factors)
        return self._placed(total, 0)

    @cached_property
    def rows(self) -> tf.Tensor:
        """[b, t, k]."""
        return self.cut(self.inputs) if self.cut else self.inputs

    @property
    def _places(self) -> int | None:
        return self.outputs.shape[1]

    @property
    def _columns(self) -> int:
        return math.prod(self.shape) // self.outputs.shape[2]

    @property
    def _by_places(self) -> bool:
        """Whether two [t, t] matrices an example are less than its gradient [k, c] (Bu et al. 2022, section 3.2)."""
        return self._places is not None and (self._places == 1 or 2 * self._places**2 < math.prod(self.shape))

    @property
    def _outputs_first(self) -> bool:
        """Whether products are [c, k]: few rows and many columns are faster, by more than it takes to turn them round.

        At one place an example, there are too few rows to sum over for that.
        """
        return self._places != 1 and self.outputs.shape[2] < self._columns

    @cached_property
    def _products(self) -> tf.Tensor:
        """[b, k, c], or [b, c, k] with the outputs first."""
        return self._part_by_part(self._multiplied)

    def _part_by_part(self, found_of: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """What is found of the examples' rows [b, t, k] and outputs; where rows are to be cut, of a part after the other."""
        if self.cut is None:
            return found_of(self.inputs, self.outputs)
        examples = self.inputs.shape[0] or tf.shape(self.inputs)[0]
        found: list[tf.Tensor] = []
        for part in range(PARTS):
            some = slice(examples * part // PARTS, examples * (part + 1) // PARTS)
            # One after another, or all would be held at once.
            with tf.control_dependencies(found[-1:]):
                found.append(found_of(self.cut(self.inputs[some]), self.outputs[some]))
        return tf.concat(found, 0)

    def _multiplied(self, inputs: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        few, many = (outputs, inputs) if self._outputs_first else (inputs, outputs)
        return tf.matmul(few, many, transpose_a=True)

    def _placed(self, products: tf.Tensor, leading: int) -> tf.Tensor:
        """Products in the shape of the variable, behind `leading` axes."""
        order = list(self.order or range(len(self.shape)))
        if self._outputs_first:
            outputs = _last_of(order, self.shape, self.outputs.shape[2])
            order = order[-outputs:] + order[:-outputs] if outputs else order
        first = tf.unstack(tf.shape(products)[:leading])
        placed = tf.reshape(products, [*first, *(self.shape[axis] for axis in order)])
        if order != sorted(order):
            placed = tf.transpose(
                placed, [*range(leading), *(leading + order.index(axis) for axis in range(len(order)))]
            )
        return placed


@dataclass(frozen=True, eq=False)
class Lookup:
    """Rows of a table that were looked up, each as often as it was.

    Attributes:
      rows: which, int [b, t].
      outputs: the gradient of what was found, [b, t, d].
      table: (rows, d) of the variable.
    """

    rows: tf.Tensor
    outputs: tf.Tensor
    table: tuple[int, int] = field()

    def each(self) -> tf.Tensor:
        examples = tf.shape(self.rows)[0]
        rows = tf.cast(self.rows, tf.int64) + tf.range(tf.cast(examples, tf.int64))[:, None] * self.table[0]
        found = tf.math.unsorted_segment_sum(_rows(self.outputs), tf.reshape(rows, [-1]), examples * self.table[0])
        return tf.reshape(found, [examples, *self.table])

    def squared(self) -> tf.Tensor:
        places = self.rows.shape[1]
        if places == 1:
            return _sum_of_squares(self.outputs)
        if places is not None and 2 * places < self.table[1]:
            same = tf.cast(self.rows[:, :, None] == self.rows[:, None, :], tf.float32)
            return tf.reduce_sum(same * tf.matmul(self.outputs, self.outputs, transpose_b=True), [1, 2])
        # Equal rows side by side, then summed: no [t, t] of long texts.
        order = tf.argsort(self.rows, axis=1)
        rows = tf.gather(self.rows, order, batch_dims=1)
        outputs = tf.gather(self.outputs, order, batch_dims=1)
        begins = tf.cast(rows[:, 1:] != rows[:, :-1], tf.int32)
        run = tf.pad(tf.cumsum(begins, axis=1), [[0, 0], [1, 0]])
        shape = tf.shape(rows)
        run += tf.range(shape[0])[:, None] * shape[1]
        sums = tf.math.unsorted_segment_sum(_rows(outputs), tf.reshape(run, [-1]), shape[0] * shape[1])
        return _sum_of_squares(tf.reshape(sums, tf.shape(outputs)))

    def weighted(self, factors: tf.Tensor) -> tf.Tensor:
        outputs = self.outputs * factors[:, None, None]
        return tf.math.unsorted_segment_sum(_rows(outputs), tf.reshape(self.rows, [-1]), self.table[0])


Term = Each | Outer | Lookup


def joined(terms: list[Term]) -> Term:
    """One term for a variable that was used several times; the products between the uses count in its norm."""
    if len(terms) == 1:
        return terms[0]
    first = terms[0]
    if isinstance(first, Outer) and all(isinstance(one, Outer) and one.order == first.order for one in terms):
        inputs = tf.concat([one.rows for one in terms], 1)  # type: ignore[union-attr]
        outputs = tf.concat([one.outputs for one in terms], 1)  # type: ignore[union-attr]
        return Outer(inputs, outputs, first.shape, first.order)
    if isinstance(first, Lookup) and all(isinstance(one, Lookup) for one in terms):
        rows = tf.concat([tf.cast(one.rows, tf.int64) for one in terms], 1)  # type: ignore[union-attr]
        return Lookup(rows, tf.concat([one.outputs for one in terms], 1), first.table)  # type: ignore[union-attr]
    return Each(reduce(tf.add, [one.each() for one in terms]))


def _squared_by_places(rows: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """float32 [b]: the squared norms of Σ_t rows[i, t] ⊗ outputs[i, t]."""
    alike = tf.matmul(rows, rows, transpose_b=True)
    return tf.reduce_sum(alike * tf.matmul(outputs, outputs, transpose_b=True), [1, 2])


def _weighted(values: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Σ_i factors[i] · values[i] of [b, …], flat."""
    return tf.linalg.matvec(tf.reshape(values, [-1, math.prod(values.shape[1:])]), factors, transpose_a=True)


def _rows(values: tf.Tensor) -> tf.Tensor:
    """[b, t, n] as [b · t, n]."""
    return tf.reshape(values, [-1, values.shape[-1]])


def _last_of(order: list[int], axes: tuple[int, ...], size: int) -> int:
    """How many of the last axes in the order make up `size`."""
    number, product = 0, 1
    while product < size:
        number += 1
        product *= axes[order[-number]]
    return number


def _sum_of_squares(values: tf.Tensor) -> tf.Tensor:
    """float32 [b] of [b, …]."""
    return tf.reduce_sum(tf.square(values), list(range(1, values.shape.rank)))
