"""What a user wants of an export, checked before anything heavy is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass

from frcnn.data.resizing import Size
from frcnn.errors import UserError
from frcnn.export.formats import FORMATS, Format, Kind

DYNAMIC = "dynamic"


@dataclass(frozen=True)
class Wishes:
    """The settings of an export, as they are typed.

    Args:
        kind: the format.
        size: "HEIGHTxWIDTH" of the images it will take, None for the model's largest canvas.
        batch: images at once, a number, or "dynamic".
        images: "uint8", "float32", or None for what pictures are prepared as.
        int8: a data set to calibrate 8 bits on, None for float32.
        winograd: large convolutions of float32 go by tiles, where the format can.

    Raises:
        UserError: a setting that is none, or that the format cannot have.
    """

    kind: Kind
    size: str | None = None
    batch: str = "1"
    images: str | None = None
    int8: str | None = None
    winograd: bool = True

    def __post_init__(self):
        if self.size is not None and not re.fullmatch(r"\d{1,5}x\d{1,5}", self.size):
            raise UserError(f"--size is HEIGHTxWIDTH, such as 320x448. Received: {self.size}.")
        number = self.batch.isdecimal() and 1 <= int(self.batch) <= 1024
        if not number and self.batch != DYNAMIC:
            raise UserError(f"--batch is a number of images or {DYNAMIC}. Received: {self.batch}.")
        if self.int8 is not None and not self.format.int8:
            able = ", ".join(kind for kind, each in FORMATS.items() if each.int8)
            raise UserError(
                f"{self.format.title} is not written in 8 bits; leave out --int8, or choose one of "
                f"{able}."
            )
        if not self.winograd and (self.int8 is not None or not self.format.winograd):
            kept = "of 8 bits" if self.format.winograd else f"of {self.format.title}"
            raise UserError(
                f"Convolutions {kept} do not go by tiles anyway; leave out --no-winograd."
            )

    @property
    def format(self) -> Format:
        """What the format can do."""
        return FORMATS[self.kind]

    @property
    def canvas(self) -> Size | None:
        """(height, width), or None."""
        if self.size is None:
            return None
        height, width = map(int, self.size.split("x"))
        return height, width

    @property
    def count(self) -> int | None:
        """Images at once; None: any number."""
        return None if self.batch == DYNAMIC else int(self.batch)

    @property
    def ending(self) -> str:
        """Of the file's name, where none is given: best.onnx, best-320x448-batch8-int8.onnx."""
        many = {"1": None, DYNAMIC: DYNAMIC}.get(self.batch, f"batch{self.batch}")
        kind = self.images and f"{self.images}-images"
        parts = (self.size, many, kind, self.int8 and "int8", not self.winograd and "no-winograd")
        return "".join(f"-{part}" for part in parts if part) + self.format.suffix

    @property
    def precision(self) -> str:
        """Of the artefact."""
        return "float32" if self.int8 is None else "int8"
