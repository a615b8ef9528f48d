"""What is fuzzed: each reader of files from outside, as a function of bytes.

A target is made in a folder of its own, in which it may write. It gives seeds, from the project's
own writers where there are such, and a function that reads any bytes: it returns, whether they are
sound or refused with the one kind of error that the reader promises, or raises what is a fault.
"""

from __future__ import annotations

import hashlib
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np

from frcnn.data.dataset import Dataset, open_dataset
from frcnn.data.faults import ImageError
from frcnn.data.images import image_size, read_image, read_reduced
from frcnn.data.writing import write_dataset
from frcnn.errors import UserError, printable
from frcnn.inference.artefact import Artefact
from frcnn.structures import Sample
from frcnn.training.config import Config
from frcnn.training.state import Notes, read_state, write_state

Target = tuple[list[bytes], Callable[[bytes], object]]

CLASSES = ("cat", "dog")
SIDES = (48, 64)


def _written(folder: Path, format: str) -> Path:
    """A data set of two small pictures in this format."""
    samples = []
    for name in "ab":
        path = folder / f"{name}.png"
        cv2.imwrite(str(path), np.zeros((*SIDES, 3), np.uint8))
        boxes = np.array([[1, 2, 30, 40], [5, 6, 20.5, 21]])
        samples.append(Sample(path, boxes, np.array([0, 1]), np.array([False, True])))
    dataset = Dataset(tuple(samples), CLASSES, folder)
    return write_dataset(dataset, folder / format, format).folder  # type: ignore[arg-type]


def _read_dataset(root: Path, split: str | None) -> None:
    """Open a data set, and hold what comes out of it against what every data set promises."""
    try:
        dataset = open_dataset(root, split)
    except UserError as error:
        _check_message(error)
        return
    for line in dataset.summary().splitlines():
        assert line == printable(line)
    height, width = SIDES
    for sample in dataset:
        boxes = sample.boxes
        assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all()
        assert (boxes <= [width, height, width, height]).all()
        assert ((sample.labels >= 0) & (sample.labels < len(dataset.classes))).all()


def _check_message(error: Exception) -> None:
    text = str(error)
    assert text and text == printable(text) and len(text) < 21_000


def _label_file(
    folder: Path, format: str, place: str, *extra: bytes, split: str | None = None
) -> Target:
    root = _written(folder, format)
    file = root / place

    def read(data: bytes) -> None:
        file.write_bytes(data)
        _read_dataset(root, split)

    return [file.read_bytes(), *extra], read


def voc(folder: Path) -> Target:
    """A picture's annotation in XML."""
    return _label_file(folder, "voc", "Annotations/b.xml")


def voc_list(folder: Path) -> Target:
    """The list of a split."""
    return _label_file(folder, "voc", "ImageSets/Main/train.txt", b"a -1\nb 1\n", split="train")


def coco(folder: Path) -> Target:
    """A split in JSON."""
    return _label_file(folder, "coco", "annotations/instances_train.json")


def yolo(folder: Path) -> Target:
    """A picture's labels."""
    polygon = b"0 .1 .1 .5 .1 .5 .5\n1 .1 .1 .5 .1 .5 .5 .2 .2"
    return _label_file(folder, "yolo", "labels/train/b.txt", polygon)


def yaml(folder: Path) -> Target:
    """The settings of a YOLO data set."""
    more = b"path: .\ntrain: [images/train]\nval: images/train\nnc: 2\nnames: [cat, dog]\n"
    return _label_file(folder, "yolo", "data.yaml", more)


def csv(folder: Path) -> Target:
    """A split as CSV."""
    header = b"filename,xmin,ymin,xmax,ymax,label\nimages/a.png,1,2,3,4,cat\n"
    return _label_file(folder, "csv", "train.csv", header)


def images(folder: Path) -> Target:
    """A picture of any format."""
    folder.mkdir(exist_ok=True)
    path = folder / "a.img"
    pixels = np.random.default_rng(0).integers(0, 255, (*SIDES, 3), np.uint8)
    options = {".jpg": ([], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]), ".webp": ([], [64, 101])}
    seeds = [
        cv2.imencode(suffix, pixels[..., :channels], chosen)[1].tobytes()
        for suffix in (".jpg", ".png", ".bmp", ".tif", ".webp")
        for chosen in options.get(suffix, ([],))
        for channels in (1, 3)
        if (suffix, channels) != (".webp", 1)
    ]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            size = image_size(path)
            assert read_image(path).shape == (*size, 3)
            reduced, by = read_reduced(path, 16, 24)
            assert reduced.shape == (size[0] // by, size[1] // by, 3)
        except ImageError as error:
            _check_message(error)

    return seeds, read


def config(folder: Path) -> Target:
    """The settings of a training."""
    path = folder / "config.toml"
    return _promising(path, lambda: Config.from_toml(path), Config("data", lr=0.1).to_toml())


def artefact(folder: Path) -> Target:
    """What an exported detector says of itself."""
    sound = Artefact(CLASSES, (64, 96), None, "uint8", 64, 96, "smooth", {"score": 0.05})

    def read(data: bytes) -> None:
        try:
            Artefact.from_json(data.decode("utf-8", "replace"), "a.onnx")
        except UserError as error:
            _check_message(error)

    return [sound.to_json().encode()], read


def onnx(folder: Path) -> Target:
    """An exported detector for ONNX Runtime."""
    return _exported(folder, "onnx")


def openvino(folder: Path) -> Target:
    """An exported detector for OpenVINO, beside sound weights."""
    return _exported(folder, "openvino")


def _exported(folder: Path, kind: str) -> Target:
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    import exported
    from frcnn.inference.runtime import open_artefact

    if kind == "onnx":
        path = exported.write_onnx(folder / "a.onnx", batch=1)
    else:
        path = exported.write_openvino(folder / "a.xml", batch=1)
    picture = np.zeros((*SIDES, 3), np.uint8)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            open_artefact(path).detect(picture)
        except UserError as error:
            _check_message(error)

    return [path.read_bytes()], read


def keras(folder: Path) -> Target:
    """The configuration of a trained detector, beside its weights."""
    import zipfile

    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from frcnn.models.detector import DetectionModel, read_model
    from tiny import tiny_detector

    path = folder / "a.keras"
    folder.mkdir(exist_ok=True)
    tiny_detector().save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def read(data: bytes) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, data if name == "config.json" else content)
        try:
            assert isinstance(read_model(path), DetectionModel)
        except UserError as error:
            _check_message(error)

    return [members["config.json"]], read


def video(folder: Path) -> Target:
    """A film, of which at most ten frames are decoded."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    import films
    from frcnn.inference.video import open_video

    folder.mkdir(exist_ok=True)
    path = folder / "a.mp4"  # the content counts
    frames = [films.level(value, SIDES) for value in (0, 200)]
    kinds = {"mp4": "libx264", "mkv": "libx264", "avi": "mpeg4", "mpg": "mpeg1video"}
    seeds = [
        films.write_film(folder / f"seed.{suffix}", frames, rate=25, codec=codec).read_bytes()
        for suffix, codec in kinds.items()
    ]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            with open_video(path) as opened:
                for frame, _ in zip(opened.frames(), range(10), strict=False):
                    assert frame.image.dtype == np.uint8 and frame.image.shape[2] == 3
        except UserError as error:
            _check_message(error)

    return seeds, read


def state(folder: Path) -> Target:
    """The state of a training, under a checksum that is always right."""
    path = folder / "training.state"
    arrays = {"network 0": np.ones((2, 3), np.float32), "optimizer 0": np.int64(3)}
    write_state(
        path, arrays.items(), Notes(1, 2, 1, 0.5, [{"epoch": 1, "loss": 0.1}], {"images": 3})
    )
    first, _, rest = path.read_bytes()[:-32].partition(b"\n")

    def read(data: bytes) -> None:
        body = first + b"\n" + data
        path.write_bytes(body + hashlib.sha256(body).digest())
        try:
            read_state(path)
        except UserError as error:
            _check_message(error)

    return [rest], read


def keras_h5(folder: Path) -> Target:
    """Weights of Keras, in the layouts of Keras 1 and 3."""
    from frcnn.zoo.keras_h5 import read_keras_h5

    old, new = io.BytesIO(), io.BytesIO()
    with h5py.File(old, "w") as file:
        file["conv/conv/kernel:0"] = np.ones((1, 1, 2, 2), np.float32)
        file.create_dataset("conv/conv/bias:0", data=np.ones(2), chunks=(2,), compression=4)
    with h5py.File(new, "w") as file:
        file["layers/conv2d/vars/0"] = np.ones((1, 1, 2, 2), np.float32)
        file["layers/conv2d"].attrs["name"] = "conv"
        file["layers/conv2d/vars"].attrs["name"] = "conv"
    path = folder / "a.h5"
    return _weights(path, lambda: read_keras_h5(path), old.getvalue(), new.getvalue())


def fork_trials() -> None:
    """Try files of HDF5 in a fork of this process, which is fifty times as fast as a new one."""
    from frcnn.files import DAMAGE
    from frcnn.zoo import keras_h5

    def try_first(module: str, path: Path) -> None:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # the fuzzer's would take it for its own
            signal.signal(signal.SIGABRT, signal.SIG_DFL)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)
            status = 2
            try:
                keras_h5.read_layers(path)
                status = 0
            except DAMAGE:
                status = 1
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 2:
            keras_h5.read_layers(path)  # raises what it does not promise, here
        if status:
            raise ValueError("it cannot be read")

    keras_h5.try_first = try_first


def torch_pickle(folder: Path) -> Target:
    """Weights of PyTorch, in either container."""
    import torch

    from frcnn.zoo.torch_pickle import read_torch_pickle

    tensors = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2, dtype=torch.bfloat16)}
    seeds = []
    for zipped in (False, True):
        buffer = io.BytesIO()
        torch.save({"model": tensors, "epoch": 3}, buffer, _use_new_zipfile_serialization=zipped)
        seeds.append(buffer.getvalue())
    path = folder / "a.pth"
    return _weights(path, lambda: read_torch_pickle(path), *seeds)


def pickle(folder: Path) -> Target:
    """The pickle inside an archive of PyTorch, which otherwise its checksum would keep whole."""
    import zipfile

    import torch

    from frcnn.zoo.torch_pickle import read_torch_pickle

    path = folder / "a.pth"
    torch.save({"a": torch.ones(2, 3), "options": {"x": [1, (2.5, None)], "y": "z"}}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in members if name.endswith("data.pkl"))

    def read() -> object:
        body = path.read_bytes()
        with zipfile.ZipFile(path, "w") as archive:
            for each, content in members.items():
                archive.writestr(each, body if each == name else content)
        return read_torch_pickle(path)

    return _weights(path, read, members[name])


def safetensors(folder: Path) -> Target:
    """Weights in the format of that name."""
    from safetensors.numpy import save

    from frcnn.zoo.safetensors_file import read_safetensors

    path = folder / "a.safetensors"
    sound = save({"a": np.ones((2, 3), np.float32), "b": np.zeros(2, np.int64)})
    return _weights(path, lambda: read_safetensors(path), sound)


def _weights(path: Path, read_path: Callable[[], dict], *seeds: bytes) -> Target:
    """A reader that promises arrays of numbers, or a ValueError that begins with the file."""

    def read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            found = read_path()
        except ValueError as error:
            if type(error) is not ValueError or str(path) not in str(error):
                raise
            return
        for value in found.values():
            for array in value.values() if isinstance(value, dict) else [value]:
                assert isinstance(array, np.ndarray) and array.dtype.kind in "fiub"
                assert array.nbytes < 64 << 20

    return list(seeds), read


def _promising(path: Path, read_path: Callable[[], object], *seeds: str) -> Target:
    """A reader that promises a UserError that names the file."""

    def read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read_path()
        except UserError as error:
            _check_message(error)

    return [seed.encode() for seed in seeds], read


TARGETS: dict[str, Callable[[Path], Target]] = {
    each.__name__: each
    for each in (
        *(voc, voc_list, coco, yolo, yaml, csv, images, config, artefact, onnx, openvino, state),
        *(keras, keras_h5, torch_pickle, pickle, safetensors, video),
    )
}
