"""Runs before any test imports Keras."""

import atexit
import os
import shutil
import tempfile

# The backend that the command line would choose; set KERAS_BACKEND to test another.
os.environ.setdefault("KERAS_BACKEND", "torch")
# Without a GPU its kernels are interpreted. Triton asks as PyTorch imports it.
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")
# Processes of tests, one a core, would wait for each other's threads.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# The tests compile the same few networks over and over, in many processes: JAX keeps them.
if os.environ["KERAS_BACKEND"] == "jax" and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.mkdtemp(prefix="frcnn-tests-")
    atexit.register(shutil.rmtree, _compiled, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

# Imported after TensorFlow, torchvision ends the process.
import torchvision  # noqa: E402, F401  # isort: skip

import keras  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from keras import ops  # noqa: E402

# On a GPU float32 is to be float32, not the nineteen bits that convolutions take by default.
torch.backends.cudnn.allow_tf32 = False


@pytest.fixture
def gradient():
    """Gradient of ``sum(function(array) * upstream)`` with respect to ``array``."""

    def compute(function, array, upstream):
        value = ops.convert_to_tensor(array)
        upstream = ops.convert_to_tensor(upstream)
        backend = keras.config.backend()
        if backend == "jax":
            import jax

            result = jax.grad(lambda value: ops.sum(function(value) * upstream))(value)
        elif backend == "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                tape.watch(value)
                total = ops.sum(function(value) * upstream)
            result = tape.gradient(total, value)
        else:
            value = value.clone().requires_grad_()
            result = torch.autograd.grad(ops.sum(function(value) * upstream), value)[0]
        return ops.convert_to_numpy(result)

    return compute
