"""From what a user names to a detector."""

from __future__ import annotations

from pathlib import Path

from frcnn.errors import UserError
from frcnn.inference.predict import Detector

BEST, LAST = "best.keras", "last.keras"  # of a run folder


def load(run: str | Path) -> Detector:
    """Open a trained detector, on whichever backend Keras runs now.

    Args:
        run: a run folder, of which the best model is taken, or a ``.keras`` file.

    Raises:
        UserError: there is no model, or it cannot be read.
    """
    return Detector.load(model_file(run))


def model_file(run: str | Path) -> Path:
    """The model that a run folder or a ``.keras`` file stands for: the best, else the last.

    Raises:
        UserError: there is none.
    """
    run = Path(run)
    if run.suffix == ".keras":
        return run
    if not run.is_dir():
        raise UserError(f"{run} is neither a run folder nor a .keras file.")
    for name in (BEST, LAST):
        if (run / name).is_file():
            return run / name
    raise UserError(
        f"The folder {run} holds neither {BEST} nor {LAST}, so no training has finished an epoch "
        "there. Name the folder that `frcnn train` printed."
    )
