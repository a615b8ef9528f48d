"""What a training run is asked to do: one frozen dataclass, kept as TOML in the run folder."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Literal, get_args, get_type_hints

from tyro.conf import Positional, arg

from frcnn.errors import UserError
from frcnn.files import read_file

_MOST_BYTES = 1 << 20  # of a file


@dataclass(frozen=True)
class Config:
    """Train a detector: from labelled images to a run folder.

    A training that ended early goes on with `frcnn train --resume RUN`, to what it would have
    become: on the same machine and backend the same weights, bit for bit, if that computes
    reproducibly.

    Args:
        data: a VOC root (itself, or with VOC2007/ and VOC2012/ below it); COCO: a .json file, or
            a folder with annotations/instances_*.json or SPLIT/_annotations.coco.json; YOLO: a
            data.yaml, or a folder with images/ and labels/; or a CSV file with rows
            path,x1,y1,x2,y2,class or a header that names such columns.
        preset: the architecture; `frcnn presets` lists them.
        weights: where training starts: imagenet (features only), none, or a file: a .keras model
            trained here, or the weights the preset's features come in (Keras .h5, .pth).
        train_split: the images to train on: a split of the data by its name (VOC: a file of
            ImageSets/Main). Left out: train if there is one, else everything.
        val_split: the images to validate on, or none. Left out: val beside train if they share no
            image, else a tenth of the training images is held out.
        epochs: passes over the training images.
        batch: images a step.
        parts: take each step's images in this many equal parts, one after the other, and average
            their gradients: the same step in less memory. Left out: as few as memory allows.
        size: pixels of the short side; the long side is at most 1000/600 of it. Left out: the
            preset's.
        lr: peak learning rate. Left out: the preset's, in proportion to the batch.
        schedule: how the learning rate falls after the warm-up: cosine to zero, or by ten after
            2/3 and 8/9 of the steps.
        warmup: steps over which the learning rate rises to its peak; at most a tenth of all.
        momentum: of SGD.
        weight_decay: L2 penalty on convolutions and dense kernels; biases and norms have none.
        clip: the gradient is scaled down to this norm.
        frozen: stages of the feature extractor that keep their weights. Left out: the preset's.
        rois: RoIs an image that the second stage trains on. Left out: the preset's.
        horizontal_flip: mirror half of the images.
        vertical_flip: turn half of the images upside down.
        rotate: turn images by a random multiple of 90 degrees.
        scale_jitter: resize by a random factor between 1/(1+x) and 1+x.
        crop: train on random crops that keep at least this share of each side; 1 is no cropping.
        photometric: strength of random brightness, contrast, saturation and hue; 0 leaves colours
            alone, 1 is strong.
        epoch_images: count an epoch as this many images. Left out: one pass over the data.
        workers: threads that decode and augment.
        save_every: minutes between states of the training that --resume can go on from; one is
            also saved after each epoch and when the training is stopped.
        samples_every: epochs between pictures of validation detections; 0 is never.
        on_nan: what to do when a loss is not finite: stop, naming the step and its images, or skip
            the step and count it. Either way the weights are left alone.
        seed: of initial weights, data order, augmentation and sampling.
        strict: stop at the first broken sample. Otherwise it is left out, counted and named.
        out: the run folder. Left out: a new folder below runs/.
        overwrite: replace the run that is in the folder.
    """

    data: Annotated[Positional[str], arg(metavar="DATA")]
    preset: str = "efficientnet_lite0_fpn"
    weights: str = "imagenet"
    train_split: Annotated[str | None, arg(metavar="NAME")] = None
    val_split: Annotated[str | None, arg(metavar="NAME")] = None
    epochs: int = 10
    batch: int = 4
    parts: Annotated[int | None, arg(metavar="COUNT")] = None
    size: Annotated[int | None, arg(metavar="PIXELS")] = None
    lr: Annotated[float | None, arg(metavar="RATE")] = None
    schedule: Literal["cosine", "step"] = "cosine"
    warmup: int = 100
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip: float = 10.0
    frozen: Annotated[int | None, arg(metavar="STAGES")] = None
    rois: Annotated[int | None, arg(metavar="COUNT")] = None
    horizontal_flip: bool = True
    vertical_flip: bool = False
    rotate: bool = False
    scale_jitter: float = 0.25
    crop: float = 1.0
    photometric: float = 0.5
    epoch_images: Annotated[int | None, arg(metavar="COUNT")] = None
    workers: int = 2
    save_every: Annotated[float, arg(metavar="MINUTES")] = 10.0
    samples_every: int = 5
    on_nan: Literal["stop", "skip"] = "stop"
    seed: int = 0
    strict: bool = False
    out: Annotated[str | None, arg(metavar="FOLDER")] = None
    overwrite: bool = False

    def __post_init__(self):
        for name, low in _LOWEST.items():
            value = getattr(self, name)
            if value is not None and not value >= low:
                raise UserError(f"{_flag(name)} must be at least {low}. Received: {value}.")
        for name, high in _HIGHEST.items():
            value = getattr(self, name)
            if value is not None and not value <= high:
                raise UserError(f"{_flag(name)} must be at most {high:,}. Received: {value}.")
        for name in ("lr", "clip", "crop"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UserError(f"{_flag(name)} must be above 0 and finite. Received: {value}.")
        if not 0 <= self.momentum < 1:
            raise UserError(f"--momentum must be in 0..1, 1 excluded. Received: {self.momentum}.")
        if self.parts is not None and (self.parts < 1 or self.batch % self.parts):
            raise UserError(
                f"--parts must divide --batch ({self.batch}) without a rest. "
                f"Received: {self.parts}."
            )
        if self.crop > 1:
            raise UserError(f"--crop is a share of the image, 1 at most. Received: {self.crop}.")
        if self.on_nan not in ("stop", "skip"):
            raise UserError(f"--on-nan is stop or skip. Received: {self.on_nan}.")
        if self.schedule not in ("cosine", "step"):
            raise UserError(f"--schedule is cosine or step. Received: {self.schedule}.")

    @property
    def run_name(self) -> str:
        """What a run folder is called where none is given."""
        return f"{Path(self.data).stem or 'data'}-{self.preset}"

    def to_toml(self) -> str:
        """One line a field; fields that are None are left out."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        # A JSON string, number or boolean is also a TOML one, save for the character DEL.
        lines = (f"{name} = {json.dumps(v, ensure_ascii=False)}" for name, v in values.items())
        return "\n".join(lines).replace("\x7f", "\\u007f") + "\n"

    @classmethod
    def from_toml(cls, path: str | Path) -> Config:
        """Read what ``to_toml`` wrote.

        Raises:
            UserError: not TOML, an unknown field or a value of the wrong type, with the file.
        """
        path = Path(path)
        try:
            values = tomllib.loads(read_file(path, _MOST_BYTES).decode("utf-8"))
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
        except RecursionError:
            raise UserError(
                f"{path} is not a TOML configuration: it is nested too deeply."
            ) from None
        except ValueError as error:  # not UTF-8, not TOML, or a number of thousands of digits
            raise UserError(f"{path} is not a TOML configuration: {error}.") from error
        hints = get_type_hints(cls)
        known = {field.name for field in fields(cls)}
        for name, value in values.items():
            if name not in known:
                raise UserError(f"{path}: unknown setting {name!r:.100}. Remove the line.")
            if not _fits(value, hints[name]):
                shown = f"{value!r:.100}"
                raise UserError(f"{path}: {name} has a value of the wrong type: {shown}.")
        if "data" not in values:
            raise UserError(f"{path}: the setting 'data' is missing.")
        return cls(**values)


_LOWEST = {
    "epochs": 1,
    "batch": 1,
    "size": 32,
    "warmup": 0,
    "weight_decay": 0,
    "frozen": 0,
    "rois": 1,
    "scale_jitter": 0,
    "photometric": 0,
    "epoch_images": 1,
    "workers": 0,
    "save_every": 0,
    "samples_every": 0,
    "seed": 0,
}
# What is far beyond use would end in the middle of a training, for want of memory or of digits.
_HIGHEST = {
    "epochs": 10**9,
    "batch": 10_000,
    "size": 10_000,
    "warmup": 10**12,
    "weight_decay": 1e6,
    "frozen": 1000,
    "rois": 100_000,
    "scale_jitter": 100,
    "photometric": 100,
    "epoch_images": 10**12,
    "workers": 1000,
    "save_every": 1e9,
    "samples_every": 10**9,
    "seed": 2**32 - 1,
}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _fits(value, hint) -> bool:
    """Whether a TOML value is of a field's type; whole numbers serve as floats."""
    types = get_args(hint) or (hint,)
    if float in types and isinstance(value, int) and not isinstance(value, bool):
        return True
    return type(value) in types or value in types
