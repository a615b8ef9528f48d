"""Run a function of the package eager and compiled, on whatever backend Keras uses."""

# PyTorch before Keras: imported after TensorFlow, torchvision's native libraries crash Python.
import torch  # isort: skip
import torchvision  # noqa: F401  # isort: skip

import keras
import numpy as np
import pytest
from keras import ops, tree

torch.set_num_threads(1)  # what is computed here is too small to share


def _compile(function):
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        def traced(*tensors):
            # Keras traces its steps with an unknown batch size too.
            shapes = tree.map_structure(
                lambda x: tf.TensorSpec((None, *x.shape[1:]), x.dtype), tensors
            )
            return tf.function(function, shapes, autograph=False)(*tensors)

        return traced
    # Traced as for torch.compile, but run by PyTorch itself: no C++ compiler is needed.
    torch.compiler.reset()
    return torch.compile(function, backend="eager")


def _run(function, *arrays):
    tensors = tree.map_structure(ops.convert_to_tensor, arrays)
    return tree.map_structure(ops.convert_to_numpy, function(*tensors))


@pytest.fixture
def run_eager():
    """Call a function of tensors with arrays, and return arrays."""
    return _run


@pytest.fixture
def run_compiled():
    """As ``run_eager``, through jax.jit, tf.function or torch.compile."""
    return lambda function, *arrays: _run(_compile(function), *arrays)


@pytest.fixture(params=["eager", "compiled"])
def run(request):
    """``run_eager``, then ``run_compiled``."""
    return request.getfixturevalue(f"run_{request.param}")


@pytest.fixture
def random_boxes():
    """Make float32 ``[..., 4]`` boxes of all sizes, some of them partly outside 0..size."""

    def make(shape, seed, size=200.0):
        rng = np.random.default_rng(seed)
        centres = rng.uniform(0, size, (*shape, 2))
        sides = size * 2 ** rng.uniform(-6, 0, (*shape, 2))
        return np.concatenate([centres - sides / 2, centres + sides / 2], -1).astype(np.float32)

    return make
