"""Runs before any test imports Keras."""

import os
import shutil

# The backend that the command line would choose; set KERAS_BACKEND to test another.
os.environ.setdefault("KERAS_BACKEND", "torch")
# Without a GPU its kernels are interpreted. Triton asks as PyTorch imports it.
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")
# Processes of tests, one a core, would wait for each other's threads.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Imported after TensorFlow, torchvision ends the process.
import torchvision  # noqa: E402, F401
