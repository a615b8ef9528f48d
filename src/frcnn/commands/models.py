"""The commands about models: ``convert``, ``export`` and ``presets``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from frcnn.errors import UserError
from frcnn.export.formats import Kind


@dataclass(frozen=True)
class Convert:
    """Turn weights that another project trained into a .keras model of ours.

    Args:
        file: a torchvision detector's state dict (.pth, .pt, .safetensors), or keras-frcnn's
            model_frcnn.hdf5.
        preset: its architecture; `frcnn presets` lists them.
        out: the model to write.
        classes: names of its classes in their order, separated by commas, or a text file with one
            a line. Left out: COCO's where their number fits, else 1, 2, 3.
    """

    file: Annotated[Positional[str], arg(metavar="FILE")]
    preset: str
    out: Annotated[str, arg(metavar="MODEL.keras")]
    classes: Annotated[str | None, arg(metavar="NAMES|FILE")] = None


@dataclass(frozen=True)
class Export:
    """Write a detector for another runtime, and check that it finds there what it finds here.

    Args:
        run: a run folder, a .keras file, torchvision:NAME or hf://OWNER/NAME.
        format: onnx, openvino, torch_export (PyTorch alone), saved_model (TensorFlow) or litert.
        out: the file, or SavedModel's folder. Left out: beside the model, or here, named for what
            is asked for: best.onnx, best-int8.onnx, best-320x448-dynamic.onnx.
        size: the height and width of the images that it will take, such as 320x448. Left out: the
            largest canvas that the model has, of a portrait and a landscape one the latter, on
            which it shows upright pictures smaller.
        batch: the images that it will take at once: a number, or dynamic for any.
        images: the type of those images. Left out: what pictures are prepared as.
        int8: quantise to 8 bits, by calibration on the pictures of this data set.
        winograd: let large 3x3 convolutions of ONNX and OpenVINO go by tiles, with a quarter of the
            products: faster on a processor. Not for a runtime on a GPU or in 16 bits.
        data: labelled images on which it is compared with the model. Left out: those the run
            validated on if they are still there, else generated ones.
    """

    run: Annotated[Positional[str], arg(metavar="RUN")]
    format: Annotated[Kind, arg(metavar="FORMAT")]
    out: Annotated[str | None, arg(metavar="FILE")] = None
    size: Annotated[str | None, arg(metavar="HxW")] = None
    batch: Annotated[str, arg(metavar="N|dynamic")] = "1"
    images: Literal["uint8", "float32"] | None = None
    int8: Annotated[str | None, arg(metavar="DATA")] = None
    winograd: bool = True
    data: Annotated[str | None, arg(metavar="DATA")] = None


@dataclass(frozen=True)
class Presets:
    """List the architectures."""


def convert(arguments: Convert) -> None:
    """Read the weights, write the model."""
    from frcnn.inference.predict import Detector
    from frcnn.zoo.converting import class_names, convert_file

    classes = class_names(arguments.classes) if arguments.classes else None
    if not arguments.out.endswith(".keras"):
        raise UserError(f"--out must end in .keras. Received: {arguments.out}.")
    model, remarks = convert_file(arguments.file, arguments.preset, classes)
    for remark in remarks:
        print(remark)
    print(f"Wrote {Detector(model).save(arguments.out)}: {len(model.classes)} classes.")


def export(arguments: Export) -> None:
    """Write the detector, compare it with the model, say how it compares."""
    from frcnn.apps.exporting import export_run
    from frcnn.export.wishes import Wishes
    from frcnn.inference.artefact import is_artefact

    if is_artefact(arguments.run):
        raise UserError(
            f"{arguments.run} is already exported: name the run folder or the .keras file that it "
            "came from."
        )
    wishes = Wishes(
        arguments.format,
        arguments.size,
        arguments.batch,
        arguments.images,
        arguments.int8,
        arguments.winograd,
    )
    path, report = export_run(arguments.run, wishes, arguments.out, arguments.data)
    print(f"{report}\nWrote {path}.")


def presets(_: Presets) -> None:
    """Print the table of presets."""
    from frcnn.zoo.presets import PRESETS

    for name, preset in PRESETS.items():
        print(f"{name:<28}{preset.size:>4} px  {preset.summary}")
    print(f"{'keras_applications:NAME':<28} 512 px  a pyramid on any network of keras.applications")
