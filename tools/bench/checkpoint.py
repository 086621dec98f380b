"""How long the step after which a checkpoint is taken holds up the next one, in three ways side by side.

«while it goes on» is the engine's: a snapshot, written in another thread. «waited for» is the same, and training waits until
it is whole. «by TensorFlow» is tf.train.Checkpoint.write, in the training's thread, which does not have the disk flushed.
The three take turns. Told are the time between the end of a step and the next one's begin, and how much longer than usual the
steps take while it is being written: a variable that a snapshot shares is copied when it changes, and cores are shared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tfapp import environment, plan
from tfapp.runtime import Machine, import_tensorflow

import_tensorflow()

import tensorflow as tf  # noqa: E402
import tf_keras as keras  # noqa: E402

from tfapp.callbacks.checkpoint import Checkpoint  # noqa: E402

WAYS = ("while it goes on", "waited for", "by TensorFlow")
APART = 12


class Clock(keras.callbacks.Callback):
    """Takes a checkpoint each APART steps, in one way after another, and notes what it costs."""

    def __init__(self, checkpoint: Checkpoint, folder: Path):
        super().__init__()
        self.checkpoint, self.folder = checkpoint, folder
        self.held: dict[str, list[float]] = {way: [] for way in WAYS}
        self.steps: dict[str, list[float]] = {way: [] for way in (*WAYS, "none")}
        self.began, self.way = 0.0, "none"

    def on_train_batch_begin(self, batch, logs=None):
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if batch < APART:
            return
        taken = time.perf_counter() - self.began
        turn, place = divmod(batch, APART)
        if place:
            # The first step after it, and those that nothing disturbs any more.
            if place == 1 or place > APART // 2:
                self.steps[self.way if place == 1 else "none"].append(taken)
            return
        self.checkpoint.wait()
        self.way = WAYS[turn % len(WAYS)]
        self.checkpoint.step = batch
        begin = time.perf_counter()
        if self.way == "by TensorFlow":
            self.checkpoint._objects.write(str(self.folder / "by-tensorflow"))
        else:
            self.checkpoint.save()
            if self.way == "waited for":
                self.checkpoint.wait()
        self.held[self.way].append(time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parameters", type=float, default=25, help="millions")
    parser.add_argument("--checkpoints", type=int, default=9, help="of each way")
    asked = parser.parse_args()
    width = int((asked.parameters * 1e6 / 4) ** 0.5)
    layers = [keras.layers.Dense(width, "relu", input_shape=(width,)), *(keras.layers.Dense(width) for _ in range(3))]
    model = keras.Sequential(layers)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    steps = (len(WAYS) * asked.checkpoints + 1) * APART + APART
    rows = tf.data.Dataset.from_tensors((tf.zeros([64, width]), tf.ones([64, width]))).repeat()
    with tempfile.TemporaryDirectory(prefix="tfapp-bench-") as folder:
        machine = Machine(tf.distribute.get_strategy(), 1)
        checkpoint = Checkpoint(Path(folder), machine, plan.Checkpoint(), steps, [])
        checkpoint.attach(model)
        clock = Clock(checkpoint, Path(folder))
        model.fit(rows, steps_per_epoch=steps, callbacks=[clock], verbose=0)
        checkpoint.wait()
        size = sum(path.stat().st_size for path in Path(folder).glob("by-tensorflow*"))
    usual = statistics.median(clock.steps["none"])
    host = environment.machine()
    print(f"on {host['cpu']}, {host['usable_cores']:g} cores")
    print(
        f"{model.count_params() / 1e6:.1f} M parameters with Adam, a checkpoint of {size / 1e6:.0f} MB, "
        f"a step of {usual * 1e3:.0f} ms; medians of {asked.checkpoints} (lowest–highest)"
    )
    for way in WAYS:
        held, longer = ([1e3 * value for value in values] for values in (clock.held[way], clock.steps[way]))
        longer = [value - 1e3 * usual for value in longer]
        print(
            f"{way:17} the next step is held up {statistics.median(held):6.1f} ms ({min(held):.1f}–{max(held):.1f}) "
            f"and takes {statistics.median(longer):+6.1f} ms ({min(longer):+.1f} … {max(longer):+.1f})"
        )


if __name__ == "__main__":
    main()
