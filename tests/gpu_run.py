"""Records a training step and a detection for a GPU that is not there.

Tensors without memory stand for the GPU's (``FakeTensorMode``). Prints what in a replay would wait
for the host, or move data from it: a CUDA graph could not be captured. Nothing follows a backward
pass without a GPU, so that gradients are made up.
"""

import os

os.environ.update(KERAS_BACKEND="torch", KERAS_TORCH_DEVICE="cuda")

import keras
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental import proxy_tensor

from frcnn.models import torch_graph
from frcnn.ops import torch_operators
from frcnn.training.config import Config
from frcnn.training.optimizer import build_optimizer
from tiny import tiny_batch, tiny_detector, tiny_network

torch_operators._compiles = lambda device: True
# Of tensors with one element the recorder would compute the values, for which there is no memory.
proxy_tensor.CONSTANT_NUMEL_LIMIT = -1


def give_gradients(loss):
    for variable in network.trainable_variables:
        variable.value.grad = torch.zeros_like(variable.value) + loss.detach()


def replay(recorded, changing=()):
    """The part of a graph that runs at each call."""
    recorded.graph.eliminate_dead_code()
    return torch_graph._split(recorded, {id(each) for each in changing})[2]


def hindrances(graph):
    for node in graph.nodes:
        tensors = [each.meta.get("val") for each in (node, *node.all_input_nodes)]
        devices = {each.device.type for each in tensors if isinstance(each, torch.Tensor)}
        waits = any(name in str(node.target) for name in ("_local_scalar_dense", "nonzero"))
        if waits or "cpu" in devices:
            yield str(node.target)


torch.Tensor.backward = give_gradients
with FakeTensorMode(allow_non_fake_inputs=True), torch.autograd.set_multithreading_enabled(False):
    network = tiny_network(dropout=0.5)
    config = Config("-", ema=0.9, backbone_lr=0.1)
    network.compile(build_optimizer(config, 0.02, 20, network))
    x, y = tiny_batch()
    batch = keras.tree.map_structure(keras.ops.convert_to_tensor, (x, y))
    assert network.variables[0].value.device.type == batch[0]["images"].device.type == "cuda"
    keras.Model.train_step(network, batch)  # which makes the optimizer's variables

    def step(*inputs):
        with torch.enable_grad():
            return keras.Model.train_step(network, keras.tree.pack_sequence_as(batch, inputs))

    changing = [each.value for each in network.trainable_variables]
    with torch.no_grad():
        recorded = proxy_tensor.make_fx(step)(*keras.tree.flatten(batch))
    graph = replay(recorded, changing).graph
    print("step", len(graph.nodes) > 500, *hindrances(graph))

    detector = tiny_detector(network)
    with torch.no_grad():
        recorded = proxy_tensor.make_fx(
            lambda images, sizes: detector({"images": images, "sizes": sizes})
        )(batch[0]["images"], batch[0]["sizes"])
    graph = replay(recorded).graph
    print("detection", len(graph.nodes) > 300, *hindrances(graph))
