"""From what a user names to a model: a run folder, a file, a preset, someone else's checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from frcnn.errors import UserError, printable
from frcnn.models.detector import DetectionModel, DetectionRule, read_model
from frcnn.zoo.coco_labels import COCO_LABELS
from frcnn.zoo.download import fetch
from frcnn.zoo.hugging_face import SCHEME as HUB
from frcnn.zoo.hugging_face import fetch_from_hub
from frcnn.zoo.presets import PRESETS, build_network, preset
from frcnn.zoo.safetensors_file import read_safetensors
from frcnn.zoo.torch_pickle import read_torch_pickle
from frcnn.zoo.torchvision import class_count, load_detector, set_epsilon

_MOST_PIXELS = 1 << 28  # that pictures are resized to
_MOST_COUNT = 1_000_000
BEST, LAST = "best.keras", "last.keras"  # of a run folder
TORCHVISION = "torchvision:"
TORCH_SUFFIXES = (".pth", ".pt", ".safetensors")


def open_model(reference: str | Path, others: Sequence[str] = ()) -> DetectionModel:
    """The trained detector that a reference names.

    Args:
        reference: a run folder, of which the best model is taken; a ``.keras`` file;
            ``torchvision:NAME``, or the name of a preset that has a published detector;
            ``hf://owner/name``.
        others: what else the caller takes, for the message that there is no such model.

    Raises:
        UserError: there is no such model, or it cannot be fetched or read.
    """
    text = str(reference)
    if text.startswith(HUB):
        return _checked(read_model(fetch_from_hub(text)), text)
    if text.startswith(TORCHVISION):
        return _published(_preset_of(text.removeprefix(TORCHVISION)))
    if is_published(text):
        return _published(text)
    file = model_file(reference, others)
    return _checked(read_model(file), str(file))


def is_published(reference: str) -> bool:
    """Whether ``open_model`` takes it for a model that others publish, not for a file or folder."""
    named = reference in PRESETS and not Path(reference).exists()
    return named or reference.startswith((HUB, TORCHVISION))


def _checked(model: DetectionModel, origin: str) -> DetectionModel:
    """The model, if pictures can be prepared for it; the names of its classes printable.

    Raises:
        UserError: a size or a count that would fill the memory, or is none.
    """
    sizes = {"short and long": (model.short, model.long)}
    sizes |= {f"canvas {number}": canvas for number, canvas in enumerate(model.canvases, 1)}
    counts = {
        "multiple": model.multiple,
        "count of boxes": model.rule.count,
        "candidates": model.rule.candidates,
    }
    for name, sides in {**sizes, **{name: (count, 1) for name, count in counts.items()}}.items():
        sound = len(sides) == 2 and all(type(each) is int and each >= 1 for each in sides)
        if not sound or math.prod(sides) > (_MOST_PIXELS if name in sizes else _MOST_COUNT):
            raise _unusable(origin, name, sides)
    thresholds = (model.rule.score, model.rule.iou_threshold, model.rule.soft_sigma)
    if not all(isinstance(each, (int, float)) and math.isfinite(each) for each in thresholds):
        raise _unusable(origin, "thresholds", thresholds)
    model.classes = tuple(printable(str(name)) for name in model.classes)
    return model


def _unusable(origin: str, name: str, value: tuple) -> UserError:
    return UserError(f"{origin} holds a detector whose {name} cannot be used: {value!r:.100}.")


def model_file(run: str | Path, others: Sequence[str] = ()) -> Path:
    """The model that a run folder or a ``.keras`` file stands for: the best, else the last.

    Args:
        run: the folder or file.
        others: as of ``open_model``.

    Raises:
        UserError: there is none.
    """
    run = Path(run)
    if run.suffix == ".keras":
        return run
    if not run.is_dir():
        taken = ["a run folder", "a .keras file", *others, "hf://OWNER/NAME", *_published_names()]
        missing = f"There is no file or folder {run}. Check the spelling."
        problem = f"{run} is a file of another kind." if run.exists() else missing
        raise UserError(f"{problem} Name one of these: {', '.join(taken)}.")
    for name in (BEST, LAST):
        if (run / name).is_file():
            return run / name
    raise UserError(
        f"The folder {run} holds neither {BEST} nor {LAST}, so no training has finished an epoch "
        "there. Name the folder that `frcnn train` printed."
    )


def convert_torch(
    path: str | Path, name: str, classes: Sequence[str] | None = None
) -> DetectionModel:
    """A detector with the weights of a file that torchvision's model of this preset wrote.

    Args:
        path: the state dict, ``.pth``, ``.pt`` or ``.safetensors``.
        name: of the preset.
        classes: names of its classes without background; COCO's, or numbers, if left out.

    Raises:
        UserError: the file is missing, damaged, of another architecture, or has other classes.
    """
    try:
        model = _from_tensors(name, read_tensors(path), classes, str(path))
    except (ValueError, FileNotFoundError) as error:
        raise UserError(f"{path} could not be converted to {name}: {error}") from error
    published = preset(name).published
    if published and published.epsilon is not None and Path(path).name == published.file:
        set_epsilon(model.network, published.epsilon)
    return model


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch file of either format.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, or holds something else.
    """
    read = read_safetensors if Path(path).suffix.lower() == ".safetensors" else read_torch_pickle
    return read(path)


def _from_tensors(
    name: str, tensors: Mapping[str, np.ndarray], classes: Sequence[str] | None, origin: str
) -> DetectionModel:
    chosen = preset(name)
    if chosen.published is None:
        torchvision = ", ".join(key for key, each in PRESETS.items() if each.published)
        raise UserError(f"{name} is not one of torchvision's architectures: {torchvision}.")
    count = class_count(tensors)
    if classes is None:
        classes = COCO_LABELS if count == len(COCO_LABELS) else [str(n + 1) for n in range(count)]
    if len(classes) != count:
        raise UserError(f"{origin} has {count} classes, but {len(classes)} names were given.")
    network = build_network(name, count)
    load_detector(network, tensors, origin)
    return DetectionModel(
        network,
        tuple(classes),
        chosen.size,
        chosen.published.long,
        (),
        DetectionRule(),  # torchvision's thresholds
        resizing="plain",
    )


def _published(name: str) -> DetectionModel:
    published = preset(name).published
    if published is None:
        raise UserError(
            f"No trained detector is published for {name}. Train one with `frcnn train`, or choose "
            f"of {', '.join(_published_names())}."
        )
    digest = published.file.removesuffix(".pth").rpartition("-")[2]
    return convert_torch(fetch(published.address, digest=digest), name)


def _preset_of(published: str) -> str:
    for name, chosen in PRESETS.items():
        if chosen.published and chosen.published.name == published:
            return name
    raise UserError(
        f"torchvision's {published!r} is not known here. Choose of {', '.join(_published_names())}."
    )


def _published_names() -> list[str]:
    return [TORCHVISION + each.published.name for each in PRESETS.values() if each.published]
