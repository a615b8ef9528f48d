"""What a training run is asked to do: one frozen dataclass, kept as TOML in the run folder."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_type_hints

from tyro.conf import Positional, arg

from frcnn.errors import UserError
from frcnn.files import read_file
from frcnn.training.checks import check
from frcnn.training.recipes import recipe_values

_MOST_BYTES = 1 << 20  # of a file
# A setting that the recipe gives where it is left out: it is None until the object is made, and
# never after.
LEFT_OUT: Any = None
_T = TypeVar("_T")
if TYPE_CHECKING:
    OfRecipe = Annotated[_T, "left out"]
else:
    OfRecipe = _T | None

Wanted = int | Literal["auto"]  # devices of a machine


@dataclass(frozen=True)
class Config:
    """Train a detector: from labelled images to a run folder.

    Args:
        data: a VOC root (itself, or with VOC2007/ and VOC2012/ below it); COCO: a .json file, or
            a folder with annotations/instances_*.json or SPLIT/_annotations.coco.json; YOLO: a
            data.yaml, or a folder with images/ and labels/; or a CSV file with rows
            path,x1,y1,x2,y2,class or a header that names such columns.
        recipe: named settings for all that is left out and says so: quick, standard or long.
            Their docstrings, in frcnn.training.recipes, and docs/recipes.md say what to expect.
        preset: the architecture; `frcnn presets` lists them.
        weights: where training starts: imagenet (features only); none; a detector: a run folder,
            a .keras file, torchvision:NAME or hf://OWNER/NAME; torchvision's file of a detector or
            of ImageNet features (.pth, .pt or .safetensors); or Keras's of ImageNet features (.h5).
        train_split: the images to train on: a split of the data by its name (VOC: a file of
            ImageSets/Main). Left out: train if there is one, else trainval, else everything.
        val_split: the images to validate on, or none. Left out: val beside train if they share no
            image, else a tenth of the training images is held out.
        epochs: passes over the training images. Left out: the recipe's, 10 without one.
        batch: images a step.
        parts: take each step's images in this many equal parts, one after the other, and average
            their gradients: the same step in less memory. Left out: as few as memory allows.
        remat: make the feature extractor's maps again for the gradients in place of keeping them:
            more time, and less memory where much of it trains (`frcnn plan PRESET --remat`).
        size: pixels of the short side; the long side is at most 1000/600 of it. Left out: the
            preset's.
        lr: peak learning rate. Left out: the preset's, in proportion to the batch.
        schedule: how the learning rate falls after the warm-up: cosine to zero, or by ten after
            2/3 and 8/9 of the steps.
        warmup: steps over which the learning rate rises to its peak; at most a tenth of all.
        momentum: of SGD.
        weight_decay: L2 penalty on convolutions and dense kernels; biases and norms have none.
        clip: the gradient is scaled down to this norm.
        frozen: stages of the feature extractor that keep their weights. Left out: the preset's, and
            none where weights is none.
        freeze_epochs: epochs, from the first, in which all of it does.
        backbone_lr: the feature extractor's learning rate, beside that of the rest. Left out: the
            recipe's, 1 without one.
        ema: validate and save averages of the weights that keep this share of themselves at a
            step; 0 takes the weights. Left out: the recipe's, 0 without one.
        precision: of convolutions and matrix products; boxes, losses and weights are float32, and
            so is the model that is saved.
        label_smoothing: this much of the certainty in the RoIs' classes is spread over all
            classes. Left out: the recipe's, 0 without one.
        rois: RoIs an image that the second stage trains on. Left out: the preset's.
        horizontal_flip: mirror half of the images.
        vertical_flip: turn half of the images upside down.
        rotate: turn images by a random multiple of 90 degrees.
        scale_jitter: resize by a random factor between 1/(1+x) and 1+x.
        large_scale_jitter: in its place, a factor between 0.1 and 2.
        multi_scale: batches of three sizes, between 1-x and 1+x times the size. Left out: the
            recipe's, 0 without one.
        mosaic: share of the images that three others are joined with. Left out: the recipe's, 0
            without one.
        close_mosaic: epochs at the end without mosaics. Left out: the recipe's, 2 without one.
        rare: show images with classes that fewer than this share of the images have more often;
            0 shows each once an epoch.
        crop: train on random crops that keep at least this share of each side; 1 is no cropping.
        photometric: strength of random brightness, contrast, saturation and hue; 0 leaves colours
            alone, 1 is strong.
        epoch_images: count an epoch as this many images. Left out: one pass over the data.
        workers: threads that decode and augment.
        devices: GPUs, TPU cores or processes of this machine that share each batch: a number, or
            auto for all accelerators (docs/devices.md).
        ray: have the command train in workers of Ray, as many as --devices says; when one dies
            they are started again, and the training goes on from its last state.
        track: where to send figures and pictures too: tensorboard, wandb, mlflow or trackio.
        patience: stop after this many epochs without a better validation AP; 0 never does.
        save_every: minutes between states of the training that --resume can go on from; one is
            also saved after each epoch and when the training is stopped.
        samples_every: epochs between pictures of validation detections; 0 is never.
        on_nan: what to do when a loss is not finite: stop, naming the step and its images, or skip
            the step and count it. Either way its gradients count as zeros.
        seed: of initial weights, data order, augmentation and sampling.
        strict: stop at the first broken sample. Otherwise it is left out, counted and named.
        out: the run folder. Left out: a new folder below runs/.
        overwrite: replace the run that is in the folder.
    """

    data: Annotated[Positional[str], arg(metavar="DATA")]
    recipe: Literal["quick", "standard", "long"] | None = None
    preset: str = "efficientnet_lite0_fpn"
    weights: str = "imagenet"
    train_split: Annotated[str | None, arg(metavar="NAME")] = None
    val_split: Annotated[str | None, arg(metavar="NAME")] = None
    epochs: Annotated[OfRecipe[int], arg(metavar="COUNT")] = LEFT_OUT
    batch: int = 4
    parts: Annotated[int | None, arg(metavar="COUNT")] = None
    remat: bool = False
    size: Annotated[int | None, arg(metavar="PIXELS")] = None
    lr: Annotated[float | None, arg(metavar="RATE")] = None
    schedule: Literal["cosine", "step"] = "cosine"
    warmup: int = 100
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip: float = 10.0
    frozen: Annotated[int | None, arg(metavar="STAGES")] = None
    freeze_epochs: int = 0
    backbone_lr: Annotated[OfRecipe[float], arg(metavar="FACTOR")] = LEFT_OUT
    ema: Annotated[OfRecipe[float], arg(metavar="SHARE")] = LEFT_OUT
    precision: Literal["float32", "bfloat16"] = "float32"
    label_smoothing: Annotated[OfRecipe[float], arg(metavar="SHARE")] = LEFT_OUT
    rois: Annotated[int | None, arg(metavar="COUNT")] = None
    horizontal_flip: bool = True
    vertical_flip: bool = False
    rotate: bool = False
    scale_jitter: float = 0.25
    large_scale_jitter: bool = False
    multi_scale: Annotated[OfRecipe[float], arg(metavar="X")] = LEFT_OUT
    mosaic: Annotated[OfRecipe[float], arg(metavar="SHARE")] = LEFT_OUT
    close_mosaic: Annotated[OfRecipe[int], arg(metavar="EPOCHS")] = LEFT_OUT
    rare: float = 0.0
    crop: float = 1.0
    photometric: float = 0.5
    epoch_images: Annotated[int | None, arg(metavar="COUNT")] = None
    workers: int = 2
    devices: Annotated[Wanted, arg(metavar="auto|N")] = "auto"
    ray: bool = False
    track: Literal["tensorboard", "wandb", "mlflow", "trackio"] | None = None
    patience: int = 0
    save_every: Annotated[float, arg(metavar="MINUTES")] = 10.0
    samples_every: int = 5
    on_nan: Literal["stop", "skip"] = "stop"
    seed: int = 0
    strict: bool = False
    out: Annotated[str | None, arg(metavar="FOLDER")] = None
    overwrite: bool = False

    def __post_init__(self):
        for name, value in recipe_values(self.recipe).items():
            if getattr(self, name) is LEFT_OUT:
                object.__setattr__(self, name, value)
        if self.frozen is None and self.weights == "none":
            object.__setattr__(self, "frozen", 0)  # what is random would stay so
        check(self)

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


def _choices(hint) -> tuple[Any, ...]:
    """The types and the literal values that a field may have."""
    parts = get_args(hint)
    return tuple(each for part in parts for each in _choices(part)) if parts else (hint,)


def _fits(value, hint) -> bool:
    """Whether a TOML value is of a field's type; whole numbers serve as floats."""
    types = _choices(hint)
    if float in types and isinstance(value, int) and not isinstance(value, bool):
        return True
    return type(value) in types or value in types
