"""What a network does on PyTorch, recorded once and replayed as the bare list of its operations.

Keras looks at every layer's and operation's inputs anew each time, which takes a small network on
a CPU as long as a third of its arithmetic, and a large one on a GPU several times as long as the
GPU needs. A replay does without; on a GPU it is a single launch of a CUDA graph. Only for the
PyTorch backend: the others compile.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx
from torch.fx.experimental import proxy_tensor
from torch.utils._python_dispatch import TorchDispatchMode

from frcnn.models.torch_fusion import finish_convolutions
from frcnn.models.torch_packing import pack_layers, packs

LOGGER = logging.getLogger(__name__)

# Devices on which a pass over a map less pays; on others PyTorch adds a bias in its convolution.
FINISHED = ("cuda",)

# One at a time: what is changed of the recorder is changed for all threads.
_RECORDING = threading.Lock()

# Graphs that are in use. Their memory goes with the last of them.
_CAPTURED: weakref.WeakSet[torch.cuda.CUDAGraph] = weakref.WeakSet()


class _ValuesUnread(TorchDispatchMode):
    """Refuses to read what is in a tensor: a replay would go on with what was in it then."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default or _leaves_gpu(func, args, kwargs):
            raise RuntimeError(f"the value of a tensor is read ({func})")
        return func(*args, **kwargs)


def _leaves_gpu(func, args, kwargs) -> bool:
    copied = func is torch.ops.aten._to_copy.default and kwargs.get("device") is not None
    return copied and args[0].is_cuda and torch.device(kwargs["device"]).type == "cpu"


@contextmanager
def _lean_recorder() -> Iterator[None]:
    """Have the recorder compute no values beside, and note of a tensor its shape and type alone.

    Of tensors with one element it would do once more what is done with these, and if that changes
    a weight change it twice. What it notes of others takes most of a recording's time.
    """
    note = proxy_tensor.extract_val

    def note_shape(value: Any, *given: Any, **options: Any) -> Any:
        if type(value) in (torch.Tensor, torch.nn.Parameter):
            return value.new_empty(value.shape, device="meta")
        return note(value, *given, **options)

    limit = proxy_tensor.CONSTANT_NUMEL_LIMIT
    proxy_tensor.CONSTANT_NUMEL_LIMIT, proxy_tensor.extract_val = -1, note_shape
    try:
        yield
    finally:
        proxy_tensor.CONSTANT_NUMEL_LIMIT, proxy_tensor.extract_val = limit, note


class RecordedGraph:
    """What ``function`` does with inputs of these shapes and types, without gradients.

    What depends on unchanging tensors alone, as the folding of normalisations into kernels does,
    is computed at the first call and again after one of them has changed after all. They must be
    changed in place, as Keras and PyTorch do.

    ``function`` is called once, for good: whatever it changes is changed. If it needs gradients
    it enables them itself.

    Args:
        function: tensors -> tensors, nested as may be; what it does may depend on its inputs'
            shapes and types, but not on their values.
        inputs: any of the right shapes and types; on the device that is to be used.
        changing: tensors that will be other ones at most calls, such as weights in training.

    Attributes:
        first: what ``function`` gave for ``inputs``.
        captured: whether a replay is the launch of a CUDA graph; from the second call on.

    Raises:
        RuntimeError: what it does depends on the values of its inputs.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        inputs: Sequence[torch.Tensor],
        changing: Iterable[torch.Tensor] = (),
    ):
        def run(*inputs):
            nonlocal first
            with _ValuesUnread():
                first = function(*inputs)
            return first

        first: Any = None
        # In this thread alone: an operation that another one runs would not be recorded.
        single = torch.autograd.set_multithreading_enabled(False)
        with _RECORDING, torch.no_grad(), single, _lean_recorder():
            recorded = proxy_tensor.make_fx(run)(*inputs)
        self.first = first
        recorded.graph.eliminate_dead_code()
        changed = {id(each) for each in changing}
        if inputs[0].device.type in FINISHED:
            finish_convolutions(recorded)
        elif inputs[0].device.type == "cpu" and not changed and packs():
            pack_layers(recorded)
        parts = _split(recorded, changed)
        self._weights, self._fold, self._run, self._written = parts
        self._versions: list[int] | None = None
        self._folded: tuple[torch.Tensor, ...] = ()
        self._device = inputs[0].device
        self._calls = 0
        self.captured = False
        self._launch: Callable[[Sequence[torch.Tensor]], Any] = self._replay

    @torch.no_grad()
    def __call__(self, *arrays: Any) -> Any:
        """Replay on other inputs of the same shapes and types: tensors of any device, or arrays.

        On a GPU this returns before the results are there, their memory is that of the next call's
        results too, and inputs in memory that the GPU reads by itself must stay as they are.
        """
        inputs = [torch.as_tensor(each) for each in arrays]
        versions = [weight._version for weight in self._weights]
        if versions != self._versions:
            self._refold()
            self._versions = versions
        self._calls += 1
        # Not at the first: libraries are loaded and kernels chosen then, which no capture may do.
        if self._calls == 2 and self._device.type == "cuda":
            try:
                self._launch = self._capture(inputs)
                self.captured = True
            except RuntimeError as error:
                LOGGER.warning("A network goes on without a CUDA graph: %s", error)
        results = self._launch(inputs)
        # Neither a CUDA graph nor every kernel says that it changed them, and another graph would
        # keep what it has made of them.
        torch.autograd.graph.increment_version(self._written)
        return results

    def _replay(self, inputs: Sequence[torch.Tensor]) -> Any:
        return self._run(*self._folded, *(each.to(self._device) for each in inputs))

    def _capture(self, inputs: Sequence[torch.Tensor]) -> Callable[[Sequence[torch.Tensor]], Any]:
        """A function of such inputs that launches a replay as one CUDA graph."""
        places = [each.to(self._device, copy=True) for each in inputs]
        graph = torch.cuda.CUDAGraph()
        torch.cuda.empty_cache()  # what ran before gives its memory to the graph's own
        # One memory for all graphs there are: no two run at a time.
        other = next(iter(_CAPTURED), None)
        pool = None if other is None else other.pool()
        # Threads that read pictures ahead may do as they please.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            results = self._replay(places)
        _CAPTURED.add(graph)

        def launch(inputs: Sequence[torch.Tensor]) -> Any:
            for place, each in zip(places, inputs, strict=True):
                place.copy_(each, non_blocking=True)
            graph.replay()
            return results

        return launch

    def _refold(self) -> None:
        folded = self._fold()
        if not self.captured:
            self._folded = folded
            return
        for old, new in zip(self._folded, folded, strict=True):  # the CUDA graph knows the old ones
            if old is not new:
                old.copy_(new)


def _split(recorded: fx.GraphModule, changing: set[int]):
    """Part a graph into what depends on constants alone and what needs the inputs.

    Args:
        recorded: the whole graph.
        changing: identities of tensors that count as no constants.

    Returns:
        The constant tensors, a function of nothing that gives the first part's results, one of
        these and the inputs that gives the output, and the tensors that the output's writes to.
    """
    written = _written(recorded)
    tensors = {node: _attribute(recorded, node) for node in written if node.op == "get_attr"}
    changing = changing | {id(tensor) for tensor in tensors.values()}
    constant = _constants(recorded, changing, written)
    wanted = [
        node
        for node in recorded.graph.nodes
        if node in constant and any(user not in constant for user in node.users)
    ]
    before, after = fx.Graph(recorded), fx.Graph(recorded)
    copies: dict[fx.Node, fx.Node] = {}
    for node in recorded.graph.nodes:
        if node in constant:
            copies[node] = before.node_copy(node, copies.__getitem__)
    before.output(tuple(copies[node] for node in wanted))
    copies = {node: after.placeholder(f"folded_{place}") for place, node in enumerate(wanted)}
    for node in recorded.graph.nodes:
        if node not in constant:
            copies[node] = after.node_copy(node, copies.__getitem__)
    weights = [_attribute(recorded, node) for node in constant if node.op == "get_attr"]
    fold, run = (fx.GraphModule(recorded, graph) for graph in (before, after))
    return weights, fold, run, list(tensors.values())


def _attribute(recorded: fx.GraphModule, node: fx.Node) -> torch.Tensor:
    return getattr(recorded, str(node.target))


def _written(recorded: fx.GraphModule) -> set[fx.Node]:
    """The nodes whose values the graph changes in place, and those that they are views of."""
    found: set[fx.Node] = set()
    left = [each for node in recorded.graph.nodes for each in _inputs_that(node, _is_written)]
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left += _inputs_that(node, _is_shared)
    return found


def _constants(recorded: fx.GraphModule, changing: set[int], written: set[fx.Node]) -> set[fx.Node]:
    """The nodes that depend on unchanging tensors alone and keep their value in a replay."""
    constant: set[fx.Node] = set()
    for node in recorded.graph.nodes:
        if node.op == "get_attr":
            keeps = id(_attribute(recorded, node)) not in changing
        else:
            keeps = node.op == "call_function" and not _inputs_that(node, _is_written)
        if keeps and node not in written and constant.issuperset(node.all_input_nodes):
            constant.add(node)
    return constant


def _is_written(argument: torch.Argument) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def _is_shared(argument: torch.Argument) -> bool:
    """Whether results of the operation may be views of the argument."""
    return argument.alias_info is not None


def _inputs_that(node: fx.Node, rule: Callable[[torch.Argument], bool]) -> list[fx.Node]:
    """The inputs of an operation that stand in arguments of some kind."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:  # picks one of several results
        return node.all_input_nodes if rule is _is_shared else []
    found: list[fx.Node] = []
    for place, argument in enumerate(schema.arguments):
        if rule(argument):
            given = node.args[place] if place < len(node.args) else node.kwargs.get(argument.name)
            fx.map_arg(given, found.append)
    return found
