"""The named recipes: what ``--recipe`` gives for the settings that are left out.

Durations are reckoned, not timed: two CPU cores train the default preset at its size of 320 pixels
on 4 to 5 images a second. docs/recipes.md has the measurements, and how to repeat them.
"""

from __future__ import annotations

from typing import Any


def plain() -> dict[str, Any]:
    """Without a recipe: nothing beyond the paper's training but flips, scale and colour jitter."""
    return {
        "epochs": 10,
        "backbone_lr": 1.0,
        "ema": 0.0,
        "label_smoothing": 0.0,
        "multi_scale": 0.0,
        "mosaic": 0.0,
        "close_mosaic": 2,
    }


def quick() -> dict[str, Any]:
    """To see whether the data can be learnt at all.

    Command: frcnn train DATA --recipe quick
    Duration: BCCD, 205 images: about 4 minutes.
    Score: COCO AP at 224 pixels, one seed, beside the plain training's: BCCD 0.536 (0.573),
    DeepPCB 0.337 (0.389).
    """
    return {**plain(), "epochs": 5, "ema": 0.999}


def standard() -> dict[str, Any]:
    """For most data.

    Command: frcnn train DATA --recipe standard
    Duration: BCCD, 205 images: about 16 minutes.
    Score: COCO AP at 224 pixels, mean of three seeds, beside the plain training's: BCCD 0.587
    (0.574), DeepPCB 0.457 (0.400), 80 pictures of COCO 0.022 (0.004).
    """
    return {**plain(), "epochs": 20, "ema": 0.999}


def long() -> dict[str, Any]:
    """For the best score where time does not matter.

    Command: frcnn train DATA --recipe long
    Duration: BCCD, 205 images: about an hour.
    Score: COCO AP at 224 pixels, one seed, beside the plain training's: BCCD 0.599 (0.573),
    DeepPCB 0.516 (0.389).
    """
    return {
        **plain(),
        "epochs": 60,
        "ema": 0.999,
        "multi_scale": 0.25,
        "mosaic": 0.5,
        "close_mosaic": 10,
    }


RECIPES = {"quick": quick, "standard": standard, "long": long}


def recipe_values(name: str | None) -> dict[str, Any]:
    """The settings of a recipe by their names; of ``None``, and of no recipe there is, the plain.

    Which names there are is checked with the other settings.
    """
    return RECIPES.get(name or "", plain)()
