import json
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from frcnn.errors import UserError
from frcnn.zoo.safetensors_file import read_safetensors

RNG = np.random.default_rng(0)


def write(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype, shape, start, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]
)
def test_every_type_is_read_as_the_library_wrote_it(tmp_path, dtype):
    tensors = {
        "a.weight": (10 * RNG.normal(size=(2, 3, 4))).astype(dtype),
        "scalar": np.array(1, dtype),
        "empty": np.zeros((0, 4), dtype),
    }
    save_file(tensors, tmp_path / "w.safetensors", metadata={"format": "pt"})
    read = read_safetensors(tmp_path / "w.safetensors")
    assert read.keys() == tensors.keys()
    for name, expected in tensors.items():
        assert read[name].dtype == expected.dtype and read[name].shape == expected.shape
        np.testing.assert_array_equal(read[name], expected)
        read[name][...] = 0  # the caller's own


def test_bfloat16_is_widened_exactly(tmp_path):
    numbers = np.array([[1.5, -0.0, 3.140625], [np.inf, 2.0**-130, -7e37]], np.float32)
    numbers.view("<u4")[...] &= 0xFFFF0000  # what bfloat16 can hold
    bits = (numbers.view("<u4") >> 16).astype("<u2")
    path = write(tmp_path / "b", {"x": entry("BF16", [2, 3], 0, 12)}, bits.tobytes())
    array = read_safetensors(path)["x"]
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array.view("<u4"), numbers.view("<u4"))


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"a": entry("F32", [4], 0, 16)}, bytes(12)),  # truncated
        ({"a": entry("F32", [2**40], 0, 2**42)}, bytes(12)),
        ({"a": entry("F32", [2**40, 2**40], 0, 16)}, bytes(16)),
        ({"a": entry("F32", [4], -16, 0)}, bytes(16)),
        ({"a": entry("F32", [2], 0, 8), "b": entry("F32", [3], 4, 16)}, bytes(16)),  # overlap
        ({"a": entry("F32", [2], 8, 16)}, bytes(16)),  # a hole
        ({"a": entry("F8_E4M3", [4], 0, 4)}, bytes(4)),
        ({"a": entry("object", [4], 0, 4)}, bytes(4)),
        ({"a": {}}, b""),
        ([1], b""),
        (b"{" * 100, b""),
        (b'{"a":' * 5000, b""),
        (b"\xff\xfe", b""),
    ],
)
def test_what_is_malformed_is_one_sentence(tmp_path, header, data):
    path = write(tmp_path / "bad.safetensors", header, data)
    with pytest.raises(ValueError, match="Cannot read .*bad.safetensors as a safetensors") as error:
        read_safetensors(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\xff" * 64, b"<html>not found</html>"])
def test_what_is_another_format_is_one_sentence(tmp_path, content):
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(ValueError, match="Cannot read .*bad as a safetensors file"):
        read_safetensors(tmp_path / "bad")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damage_anywhere_is_an_error_of_one_kind_or_reads(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz") / "w.safetensors"
    save_file({"a": np.ones((3, 5), "f4"), "b": np.arange(4)}, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        arrays = read_safetensors(path)
    except ValueError as error:
        assert str(error).startswith(f"Cannot read {path} as a safetensors file: ")
    else:
        assert sum(array.nbytes for array in arrays.values()) <= len(content)


def test_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="No weight file .*nowhere; check the path"):
        read_safetensors(tmp_path / "nowhere")


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    path = write(tmp_path / "a", {})
    with pytest.raises(UserError, match=r'needs another package: pip install "frcnn\[safetensors'):
        read_safetensors(path)


def test_the_library_is_imported_where_it_is_used():
    code = "import sys, frcnn.zoo.safetensors_file; sys.exit('safetensors' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
