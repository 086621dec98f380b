"""What most people write: model.fit on NumPy arrays, validated after each epoch."""

import sys

import numpy as np
import tensorflow as tf
import tf_keras as keras
from stopwatch import Stopwatch

folder, epochs, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
held = np.load(f"{folder}/arrays.npz")


def features(part):
    names = [name.split("/")[1] for name in held if name.startswith(f"{part}/") and name != f"{part}/"]
    return {name: held[f"{part}/{name}"] for name in names} if names else held[f"{part}/"]


train, validation = features("train"), features("validation")
model = keras.models.load_model(f"{folder}/model.keras", compile=False)
watch = Stopwatch()


class Clock(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        watch.step()

    def on_epoch_end(self, epoch, logs=None):
        watch.epoch()


if "loop" in sys.argv:
    # By hand: one tf.function a step over a tf.data pipeline.
    optimizer = keras.optimizers.Adam(1e-3)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    loss, accuracy = keras.metrics.Mean(), keras.metrics.SparseCategoricalAccuracy()

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            value = loss_of(y, logits)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=False))
        loss.update_state(value)
        accuracy.update_state(y, logits)

    @tf.function
    def judge(x, y):
        logits = model(x, training=False)
        loss.update_state(loss_of(y, logits))
        accuracy.update_state(y, logits)

    def pipeline(part, x, shuffle):
        data = tf.data.Dataset.from_tensor_slices((x, held[f"{part}_labels"]))
        data = data.shuffle(len(held[f"{part}_labels"])) if shuffle else data
        return data.batch(batch).prefetch(tf.data.AUTOTUNE)

    learn, check = pipeline("train", train, True), pipeline("validation", validation, False)
    for epoch in range(epochs):
        for data, work in ((learn, step), (check, judge)):
            loss.reset_state()
            accuracy.reset_state()
            for x, y in data:
                work(x, y)
                watch.step()
            print(epoch, float(loss.result()), float(accuracy.result()), file=sys.stderr)
        watch.epoch()
else:
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )
    model.fit(
        train,
        held["train_labels"],
        batch_size=batch,
        epochs=epochs,
        validation_data=(validation, held["validation_labels"]),
        callbacks=[Clock()],
    )
watch.tell(len(held["train_labels"]))
