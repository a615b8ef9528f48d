"""A first reading in a process of its own, for libraries that a hostile file can crash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# A sound file takes a second, and another for some hundred megabytes; a slow disk, far more.
_SECONDS, _BYTES_A_SECOND = 30, 1 << 23


def try_first(module: str, path: Path) -> None:
    """See that ``python -m module path`` ends well, which reads the file as it will be read here.

    Args:
        module: writes the reason to its standard output and exits with status 1, or with 0.
        path: of the file.

    Raises:
        ValueError: it does not; with the reason.
    """
    seconds = _SECONDS + path.stat().st_size / _BYTES_A_SECOND
    paths = os.pathsep.join(filter(None, sys.path))
    try:
        trial = subprocess.run(
            [sys.executable, "-m", module, os.fspath(path.absolute())],
            env={**os.environ, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8:backslashreplace"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"reading it takes more than {seconds:.0f} s") from None
    if trial.returncode == 1:
        raise ValueError(trial.stdout.decode("utf-8", "replace").strip() or "it cannot be read")
    if trial.returncode:
        raise ValueError("it crashes the library that reads such files")
