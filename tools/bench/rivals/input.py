"""Reading alone: one epoch after another of batches on their way to a model, by the app or by what else there is.

input.py jpeg|csv app|tf|torch|pandas FOLDER_OR_FILE   (torch and pandas in PyTorch's environment)
The first epoch begins when the framework is imported, which takes 2 s, and holds all else: listing, checking, tracing.
"""

import importlib
import json
import resource
import sys
import time

what, how, place = sys.argv[1:4]
SIZE, BATCH, EPOCHS = 96, 64, 3
FRAMEWORKS = {
    "app": ("tfapp.data.images", "tfapp.data.pipeline"),
    "tf": ("tf_keras",),
    "torch": ("torch",),
    "pandas": ("torch", "pandas"),
}


def app_jpeg():
    from tfapp.data import images
    from tfapp.data.pipeline import Batches
    from tfapp.settings import Split

    data = images.from_folder(place, Split(validation=0, test=0), SIZE)
    return dataset_epochs(Batches(data.train, BATCH, shuffle=True))


def dataset_epochs(batches):
    stream = iter(batches.dataset())
    while True:
        for _ in range(len(batches)):
            next(stream)
        yield len(batches.examples)


def tf_jpeg():
    import tf_keras as keras

    data = keras.utils.image_dataset_from_directory(place, image_size=(SIZE, SIZE), batch_size=BATCH)
    while True:
        yield sum(len(y) for _, y in data)


def torch_jpeg():
    import numpy as np
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    torch.set_num_threads(1)
    from pathlib import Path

    files = sorted(path for path in Path(place).glob("*/*") if path.is_file())
    classes = sorted({path.parent.name for path in files})

    class Images(Dataset):
        def __len__(self):
            return len(files)

        def __getitem__(self, i):
            image = Image.open(files[i]).convert("RGB").resize((SIZE, SIZE))
            return torch.from_numpy(np.array(image)), classes.index(files[i].parent.name)

    loader = DataLoader(Images(), BATCH, shuffle=True)
    while True:
        yield sum(len(y) for _, y in loader)


def app_csv():
    from tfapp.data import tables
    from tfapp.data.pipeline import Batches
    from tfapp.settings import Split

    data = tables.read([place], "target", split=Split(validation=0, test=0), task="classification")
    return dataset_epochs(Batches(data.train, 1024, shuffle=True))


def tf_csv():
    import tensorflow as tf

    data = tf.data.experimental.make_csv_dataset(place, 1024, label_name="target", num_epochs=1)
    while True:
        yield sum(len(y) for _, y in data)


def pandas_csv():
    import pandas as pd
    import torch

    torch.set_num_threads(1)
    frame = pd.read_csv(place)
    y = torch.from_numpy(frame.pop("target").to_numpy())
    x = torch.from_numpy(frame.to_numpy("float32"))
    while True:
        yield sum(len(y[part]) for part in torch.randperm(len(y)).split(1024) if x[part] is not None)


def main():
    for name in FRAMEWORKS[how]:
        importlib.import_module(name)
    began, seen, seconds, cpu = time.time(), 0, [], time.process_time()
    for _, seen in zip(range(EPOCHS), globals()[f"{how}_{what}"](), strict=False):  # noqa: B007
        seconds.append((time.time() - began, time.process_time() - cpu))
        began, cpu = time.time(), time.process_time()
    later = sorted(one[1] for one in seconds[1:])[len(seconds[1:]) // 2]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("\n" + json.dumps({"examples": seen, "first": seconds[0][1], "later": later, "peak": peak}))


main()
