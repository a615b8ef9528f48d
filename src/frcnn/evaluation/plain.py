"""Figures as plain values for JSON."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from frcnn.errors import printable


def plain(value: Any) -> Any:
    """Plain values for JSON: texts without control characters, None for what is not finite."""
    if isinstance(value, dict):
        return {plain(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, (str, Path)):
        return printable(str(value))
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value
