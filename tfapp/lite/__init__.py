"""TFLite files: made from a SavedModel, read, and run with the LiteRT interpreter.

    converter     SavedModel -> TFLite, in float or quantised after training; the layers that int8 hurts stay in float
    flatbuffer    what stands in a file: its weights, and the facts that `predict` needs
    interpreter   a file as a function of raw features
    asked         what an exported file is to be like
    exporting     a finished run as a TFLite file, on its own data

TensorFlow is needed to convert. To run a file only where preprocessing of strings stands beside it.
"""

from tfapp.lite.converter import convert
from tfapp.lite.interpreter import load

__all__ = ["convert", "load"]
