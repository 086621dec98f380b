"""A training as `tfapp train` runs it, alone or as one worker of TF_CONFIG, without export and report; told in a line.

sized.py FOLDER WORD …   From the end of the first return from TensorFlow (which is mostly tracing) to the last step.
"""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from tfapp import environment
from tfapp.cli import asking

folder, words = Path(sys.argv[1]), sys.argv[2:]
_, recipe, plan, _ = asking.ask(words, [], None, None)
with plan.runtime.enter() as machine:
    import tf_keras as keras

    from tfapp import features, run, train
    from tfapp import job as jobs

    marks = []

    class Clock(keras.callbacks.Callback):
        _supports_tf_logs = True

        def on_epoch_begin(self, epoch, logs=None):
            self.before = epoch * self.params["steps"]

        def on_train_batch_end(self, batch, logs=None):
            marks.append((self.before + batch + 1, time.perf_counter(), time.process_time(), time.time()))

    data = features.data(plan, recipe)
    environment.give_back_memory()
    with machine.strategy.scope():
        job = features.apply(plan, jobs.of(plan, recipe, data, machine))
    job = replace(job, callbacks=(*job.callbacks, Clock()))
    train.fit(job, run.begin(folder, plan, ""), asking.say)
    machine.wait_for_all()
(first, wall, cpu, when), (last, last_wall, last_cpu, _) = marks[0], marks[-1]
examples = (last - first) * plan.fit.batch_size
told = {"first": when - float(os.environ["BENCH_BEGAN"]), "peak": environment.peak_memory() / 2**20}
told |= {"wall": (last_wall - wall) / examples, "cpu": (last_cpu - cpu) / examples}
print("\n" + json.dumps(told))
