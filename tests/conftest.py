"""Runs before any test imports Keras."""

import os

# The backend that the command line would choose; set KERAS_BACKEND to test another.
os.environ.setdefault("KERAS_BACKEND", "torch")

# Imported after TensorFlow, torchvision ends the process.
import torchvision  # noqa: E402, F401
