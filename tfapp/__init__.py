"""Train Keras models from recipes, on one device or many, measured and exported."""

import os

# TF-MOT, tensorflow-privacy and MultiWorkerMirroredStrategy work only with the Keras 2 API, and
# TensorFlow reads this once, at import: so it is set before anything can import TensorFlow.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
# Arrow's own pool keeps what it has freed, tens of megabytes after a small table; it is read at import too.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

__version__ = "0.1.0"
