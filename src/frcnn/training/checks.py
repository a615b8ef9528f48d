"""Which settings of a training are refused, each with a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frcnn.errors import UserError
from frcnn.training.recipes import RECIPES

if TYPE_CHECKING:
    from frcnn.training.config import Config

_LOWEST = {
    "epochs": 1,
    "batch": 1,
    "parts": 1,
    "size": 32,
    "warmup": 0,
    "weight_decay": 0,
    "frozen": 0,
    "freeze_epochs": 0,
    "rois": 1,
    "scale_jitter": 0,
    "photometric": 0,
    "close_mosaic": 0,
    "patience": 0,
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
_POSITIVE = ("lr", "clip", "crop", "backbone_lr")
_BELOW_ONE = ("momentum", "ema", "label_smoothing", "multi_scale")
_SHARES = ("mosaic", "rare")
_CHOICES = {
    "schedule": ("cosine", "step"),
    "precision": ("float32", "bfloat16"),
    "on_nan": ("stop", "skip"),
    "recipe": (None, *RECIPES),
}


def check(config: Config) -> None:
    """Raise ``UserError`` for a value out of range and for settings that exclude each other."""

    def refuse(name: str, wanted: str) -> UserError:
        flag = "--" + name.replace("_", "-")
        return UserError(f"{flag} {wanted}. Received: {getattr(config, name)}.")

    def wrong(name: str, holds) -> bool:
        value = getattr(config, name)
        return value is not None and not holds(value)

    for name, low in _LOWEST.items():
        if wrong(name, lambda value, low=low: value >= low):
            raise refuse(name, f"must be at least {low}")
    for name, high in _HIGHEST.items():
        if wrong(name, lambda value, high=high: value <= high):
            raise refuse(name, f"must be at most {high:,}")
    for name in _POSITIVE:
        if wrong(name, lambda value: 0 < value < float("inf")):
            raise refuse(name, "must be above 0 and finite")
    for name in _BELOW_ONE:
        if wrong(name, lambda value: 0 <= value < 1):
            raise refuse(name, "must be in 0..1, 1 excluded")
    for name in _SHARES:
        if wrong(name, lambda value: 0 <= value <= 1):
            raise refuse(name, "must be in 0..1")
    if config.parts is not None and config.batch % config.parts:
        raise refuse("parts", f"must divide --batch ({config.batch}) without a rest")
    if config.devices != "auto" and config.devices < 1:
        raise refuse("devices", "is auto or at least 1")
    if config.crop > 1:
        raise refuse("crop", "is a share of the image, 1 at most")
    for name, choices in _CHOICES.items():
        if getattr(config, name) not in choices:
            raise refuse(name, f"is one of {', '.join(filter(None, choices))}")
    if config.patience and config.val_split == "none":
        raise UserError(
            "--patience waits for better validation figures, and --val-split none has none. Leave "
            "one of the two out."
        )
