"""The app as `tfapp train` runs it: callbacks, metrics, checkpoints, TensorBoard and the progress line on.

app.py FOLDER EPOCHS WORD …   It is stopped after so many epochs of what the words plan: what it does for speed depends on that.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

from stopwatch import Stopwatch

from tfapp.cli import asking

folder, epochs, words = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
_, recipe, plan, _ = asking.ask(words, [], None, None)
with plan.runtime.enter() as machine:
    import tf_keras as keras

    from tfapp import features, run, train
    from tfapp import job as jobs

    watch = Stopwatch()

    class Clock(keras.callbacks.Callback):
        _supports_tf_logs = True

        def on_train_batch_end(self, batch, logs=None):
            watch.step()

        def on_epoch_begin(self, epoch, logs=None):
            # Here and not at the end of an epoch, when callbacks after this one have not yet saved what they save.
            if epoch:
                watch.epoch()

        def on_epoch_end(self, epoch, logs=None):
            if epoch + 1 == epochs:
                self.model.stop_training = True

    job = features.apply(plan, jobs.of(plan, recipe, features.data(plan, recipe), machine))
    jobs.announce(job, asking.say)
    job = replace(job, callbacks=(*job.callbacks, Clock()))
    trained = train.fit(job, run.begin(folder / f"run-{time.time_ns()}", plan, ""), asking.say)
    watch.epoch()
watch.tell(len(job.data.train), params=trained.model.count_params())
