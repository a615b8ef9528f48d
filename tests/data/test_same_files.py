import os

import pytest

from frcnn.data import same_files as module
from frcnn.data.same_files import same_files


@pytest.fixture
def files(tmp_path):
    contents = {"a": b"first", "b": b"other", "copy": b"first", "long": b"longer one"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    os.symlink(tmp_path / "b", tmp_path / "link")
    return {name: tmp_path / name for name in (*contents, "link", "gone")}


def test_the_same_bytes_under_any_name(files):
    asked = [files[name] for name in ("copy", "link", "long", "gone", "b")]
    assert same_files(asked, [files["a"], files["b"]]) == [0, 1, 4]
    assert same_files(asked, [files["gone"]]) == [3]  # by its name alone
    assert same_files([], [files["a"]]) == [] and same_files(asked, []) == []


def test_only_files_of_one_length_are_read(files, monkeypatch):
    read = []
    opened = module.open_file
    monkeypatch.setattr(module, "open_file", lambda f, most: read.append(f.name) or opened(f, most))
    assert same_files([files["copy"]], [files["a"], files["long"]]) == [0]
    assert sorted(read) == ["a", "copy"]


def test_files_that_cannot_be_read_are_the_same_as_no_other(files, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert same_files([tmp_path / "pipe", tmp_path], [files["a"], tmp_path / "pipe2"]) == []
