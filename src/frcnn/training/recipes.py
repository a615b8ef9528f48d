"""The named recipes: what ``--recipe`` gives for the settings that are left out."""

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
    }


def quick() -> dict[str, Any]:
    """To see whether the data can be learnt at all."""
    return {**plain(), "epochs": 4, "ema": 0.99}


def standard() -> dict[str, Any]:
    """For most data."""
    return {**plain(), "epochs": 10, "ema": 0.99}


def long() -> dict[str, Any]:
    """For the best score where time does not matter."""
    return {**plain(), "epochs": 50, "ema": 0.999, "multi_scale": 0.25, "mosaic": 0.5}


RECIPES = {"quick": quick, "standard": standard, "long": long}


def recipe_values(name: str | None) -> dict[str, Any]:
    """The settings of a recipe by their names; of ``None``, and of no recipe there is, the plain.

    Which names there are is checked with the other settings.
    """
    return RECIPES.get(name or "", plain)()
