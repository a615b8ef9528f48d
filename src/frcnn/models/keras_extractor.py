"""Any functional Keras model as a feature extractor: the maps that chosen layers of it give.

    backbone = keras.applications.ConvNeXtTiny(include_top=False)
    extractor = tapped(backbone, taps_for(backbone), frozen=2)
    extractor.outputs, strides_of(extractor)

Layers are called by name. What ``a + b`` adds to a model is an operation with a name too, and
the end of a residual block is often one, so operations can be tapped as layers can.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from frcnn.models.layers import Conv2D, DepthwiseConv2D
from frcnn.models.normalization import FrozenBatchNorm

# Maps are measured on pictures of this size and of twice it. Between the two a map grows by as
# many cells as strides fit in, whatever convolutions trim from or add to its border.
_PROBE = 512

_COPY_FREE = {keras.layers.Conv2D: Conv2D, keras.layers.DepthwiseConv2D: DepthwiseConv2D}


def tapped(model: keras.Model, taps: Sequence[str], frozen: int = 0) -> keras.Model:
    """A copy of a model that gives the maps of these layers, for pictures of any size.

    In the copy, which has the model's weights, convolutions copy no maps on the PyTorch backend
    and batch normalisation is frozen: its statistics and its affine map stay as they are in
    training too. What no tap needs is left out. The model itself is not changed.

    Args:
        model: functional, from one batch of pictures (B, H, W, channels), built for any size or
            for one.
        taps: names of layers that give a map (B, h, w, C).
        frozen: 0 trains all other weights; n > 0 keeps those of the layers down to the last map
            of stride ``2 ** n`` that all later ones are made from.

    Returns:
        A model from (B, H, W, channels) to the list of maps, fine to coarse.

    Raises:
        ValueError: the model is not functional, a tap is no layer of it or gives no map, or
            ``frozen`` is out of range.
    """
    _check_functional(model)
    calls = {operation.name: nodes for operation, nodes in _calls(model).items()}
    maps = []
    for tap in taps:
        if tap not in calls:
            raise ValueError(_unknown_tap(model, tap, calls))
        maps.append(_map(calls[tap]))
        if maps[-1] is None:
            raise ValueError(_no_map(model, tap, calls[tap]))
    copy = _copy(keras.Model(model.inputs[0], maps, name=model.name))
    strides = strides_of(copy)
    order = sorted(range(len(strides)), key=strides.__getitem__)
    extractor = keras.Model(copy.inputs[0], [copy.outputs[at] for at in order], name=model.name)
    _freeze(extractor, frozen)
    return extractor


def taps_for(model: keras.Model, strides: Sequence[int] = (8, 16, 32)) -> tuple[str, ...]:
    """The deepest map of each of these strides.

    Only maps that all later ones are made from count: a branch of a block has seen less than the
    block's output, which its successors start from.

    Args:
        model: as for ``tapped``.
        strides: pixels of the picture a cell covers.

    Returns:
        The name of one layer for each stride, for ``tapped``.

    Raises:
        ValueError: the model is not functional or has no map of one of the strides.
    """
    _check_functional(model)
    deepest = _deepest_maps(model)
    missing = [stride for stride in strides if stride not in deepest]
    if missing:
        raise ValueError(
            f"{model.name} has no map of stride {', '.join(map(str, missing))}. "
            f"Its maps: {_listing(deepest)}."
        )
    return tuple(deepest[stride] for stride in strides)


def strides_of(extractor: keras.Model) -> tuple[int, ...]:
    """Pixels of the picture that a cell of each output map covers, in the order of the outputs.

    Args:
        extractor: functional, from pictures (B, H, W, channels) of any size to maps.

    Raises:
        ValueError: an output whose size does not grow with the picture's.
    """
    measured = _measure(extractor.inputs[0], extractor.outputs)
    strides = tuple(stride for stride in measured if stride is not None)
    if len(strides) < len(measured):
        raise ValueError(
            f"Expected maps that grow with the picture. Received: {extractor.name}, with outputs "
            f"of shape {[tensor.shape for tensor in extractor.outputs]}."
        )
    return strides


def _measure(pictures: Any, maps: Iterable[Any]) -> list[int | None]:
    """The stride of each symbolic map, None for one of fixed size."""
    graph = keras.Function(pictures, list(maps))

    def heights(size):
        probe = keras.KerasTensor((1, size, size, pictures.shape[-1]), pictures.dtype)
        return [spec.shape[1] for spec in graph.compute_output_spec(probe)]

    small, large = heights(_PROBE), heights(2 * _PROBE)
    grown = [after - before for before, after in zip(small, large, strict=True)]
    return [round(_PROBE / cells) if cells > 0 else None for cells in grown]


def _deepest_maps(model: keras.Model) -> dict[int, str]:
    """Stride -> the last operation with a map of it that all later ones are made from."""
    calls = _calls(model)
    if model.inputs[0].shape[1:3] != (None, None):
        maps = [tensor for tensor in map(_map, calls.values()) if tensor is not None]
        model = _copy(keras.Model(model.inputs[0], maps, name=model.name))
        calls = _calls(model)
    narrow = _narrow(calls)
    strides = _measure(model.inputs[0], narrow.values())
    found = zip(narrow, strides, strict=True)
    return {stride: name for name, stride in found if stride is not None}


def _calls(model: Any) -> dict[Any, list[Any]]:
    """Operation -> its calls in this model; a model that shares it may call it elsewhere."""
    found: dict[Any, list[Any]] = {}
    ahead = list(model.outputs)
    while ahead:
        operation, index, _ = ahead.pop()._keras_history
        node = operation._inbound_nodes[index]
        if node not in found.setdefault(operation, []):
            found[operation].append(node)
            ahead.extend(node.input_tensors)
    # Those of the model are sorted: each comes after all that it is made from.
    return {operation: found[operation] for operation in model.operations if operation in found}


def _map(calls: list[Any]) -> Any:
    """The symbolic map (B, H, W, C) of an operation called once; None of any other operation."""
    tensors = [tensor for node in calls for tensor in node.outputs]
    return tensors[0] if len(tensors) == 1 and len(tensors[0].shape) == 4 else None


def _narrow(calls: dict[Any, list[Any]]) -> dict[str, Any]:
    """Name -> map of the operations through which everything passes, in order of the graph.

    Padding is left out: the cells it adds are no part of the picture.
    """
    makers = {
        id(tensor): position
        for position, nodes in enumerate(calls.values())
        for node in nodes
        for tensor in node.outputs
    }
    last_use = list(range(len(calls)))
    for position, nodes in enumerate(calls.values()):
        for maker in (makers[id(tensor)] for node in nodes for tensor in node.input_tensors):
            last_use[maker] = max(last_use[maker], position)
    narrow, furthest = {}, 0  # furthest: the last use of all that was made before
    for position, (operation, nodes) in enumerate(calls.items()):
        padding = isinstance(operation, keras.layers.ZeroPadding2D)
        if furthest <= position and _map(nodes) is not None and not padding:
            narrow[operation.name] = _map(nodes)
        furthest = max(furthest, last_use[position])
    return narrow


def _copy(model: Any) -> keras.Model:
    """The model for pictures of any size, of our layers, with the same names and weights."""
    copies = []

    def copied(operation):
        if isinstance(operation, keras.Sequential):
            return keras.Sequential(map(copied, operation.layers), name=operation.name)
        if isinstance(operation, keras.Function):
            return _copy(operation)
        copies.append((operation, _unbuilt_copy(operation)))
        return copies[-1][1]

    inputs = keras.tree.map_structure(_input_of_any_size, model.input)
    copy = keras.models.clone_model(
        model, input_tensors=inputs, clone_function=copied, call_function=_call
    )
    for original, twin in copies:
        _copy_weights(original, twin)
    return copy


def _call(operation, *args, mask=None, **kwargs):
    """Call without the mask that Keras notes down with a call; no map has one."""
    return operation(*args, **kwargs)


def _input_of_any_size(tensor):
    shape = tensor.shape[1:]
    shape = (None, None, shape[-1]) if len(shape) == 3 else shape
    return keras.Input(shape, dtype=tensor.dtype, name=tensor.name)


def _unbuilt_copy(operation: Any) -> Any:
    if not isinstance(operation, keras.layers.BatchNormalization):
        kind = _COPY_FREE.get(type(operation), type(operation))
        return kind.from_config(operation.get_config())
    if operation.axis not in (-1, operation.input_spec.ndim - 1):
        raise ValueError(
            "Expected a model with channels last. Received: batch normalisation "
            f"{operation.name!r} over axis {operation.axis}."
        )
    return FrozenBatchNorm(operation.epsilon, name=operation.name, dtype=operation.dtype_policy)


def _copy_weights(original: Any, twin: Any) -> None:
    if isinstance(twin, FrozenBatchNorm):
        for variable in twin.weights:  # one that the original goes without starts as having none
            value = getattr(original, variable.name)
            if value is not None:
                variable.assign(ops.convert_to_numpy(value))
    elif isinstance(twin, keras.layers.Layer) and twin.weights:
        twin.set_weights(original.get_weights())
    if isinstance(twin, keras.layers.Normalization):
        twin.finalize_state()  # it computes with constants that it makes of its weights


def _freeze(extractor: keras.Model, stages: int) -> None:
    """Freeze all layers down to the last map of stride ``2 ** stages``."""
    if stages == 0:
        return
    deepest = _deepest_maps(extractor)
    most = max(deepest).bit_length() - 1
    if not 0 < stages <= most:
        raise ValueError(
            f"Invalid value for argument `frozen`. Expected 0..{most} for {extractor.name}. "
            f"Received: {stages}"
        )
    end = deepest[max(stride for stride in deepest if stride <= 2**stages)]
    for operation in extractor.operations:
        if isinstance(operation, keras.layers.Layer):
            operation.trainable = False
        if operation.name == end:
            return


def _check_functional(model: Any) -> None:
    functional = isinstance(model, keras.Model) and isinstance(model, keras.Function)
    if functional and [len(tensor.shape) for tensor in model.inputs] == [4]:
        return
    raise ValueError(
        "Expected a functional keras.Model from one batch of pictures (B, H, W, channels). "
        f"Received: {type(model).__name__} {getattr(model, 'name', model)!r}. A Sequential model "
        "that is built becomes one by keras.Model(model.inputs, model.outputs)."
    )


def _unknown_tap(model: keras.Model, tap: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(tap, names)
    question = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return (
        f"{model.name} has no layer {tap!r}.{question} "
        f"Its deepest maps: {_listing(_deepest_maps(model))}."
    )


def _no_map(model: keras.Model, tap: str, calls: list[Any]) -> str:
    shapes = ", ".join(str(tuple(tensor.shape)) for node in calls for tensor in node.outputs)
    return (
        f"Layer {tap!r} of {model.name} gives no map (B, H, W, C) but {shapes}. "
        f"Deepest maps: {_listing(_deepest_maps(model))}."
    )


def _listing(deepest: dict[int, str]) -> str:
    return ", ".join(f"{name!r} of stride {stride}" for stride, name in sorted(deepest.items()))
