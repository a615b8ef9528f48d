"""Which Keras backend runs; decided before Keras is imported."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from frcnn.errors import UserError

# XLA's gradients of convolutions are slow on a CPU, so JAX comes last.
PREFERENCE = ("torch", "tensorflow", "jax")


def choose_backend(needed: str | None = None) -> str | None:
    """Set ``KERAS_BACKEND`` to an installed backend where the user has not set it.

    Args:
        needed: the only one that will do for what is wanted; None: any.

    Returns:
        A sentence that says what was chosen, or None where the user chose.

    Raises:
        UserError: what the user chose is no backend or is not installed, or none is.
    """
    chosen = os.environ.get("KERAS_BACKEND")
    installed = _installed()
    if chosen:
        _check_chosen(chosen, installed)
        return None
    if not installed:
        raise UserError(
            "No Keras backend is installed. Install one with `pip install 'frcnn[torch]'`, "
            "'frcnn[tensorflow]' or 'frcnn[jax]'."
        )
    if needed is not None:
        if needed not in installed:
            raise UserError(
                f"This needs Keras's backend {needed}, which is not installed. Install it with "
                f"`pip install 'frcnn[{needed}]'`."
            )
        os.environ["KERAS_BACKEND"] = needed
        return f"Backend: {needed}, which this needs."
    os.environ["KERAS_BACKEND"] = installed[0]
    others = f"; {', '.join(installed[1:])} also installed" if installed[1:] else ""
    return f"Backend: {installed[0]} (KERAS_BACKEND is not set{others})."


def _installed() -> list[str]:
    return [name for name in PREFERENCE if importlib.util.find_spec(name) is not None]


def _check_chosen(chosen: str, installed: list[str]) -> None:
    if chosen not in PREFERENCE:
        raise UserError(f"KERAS_BACKEND is {chosen}; choose torch, jax or tensorflow.")
    if chosen not in installed:
        raise UserError(
            f"KERAS_BACKEND is {chosen}, which is not installed. Install it with "
            f"`pip install 'frcnn[{chosen}]'`, or unset KERAS_BACKEND to use another."
        )


@contextmanager
def importing_keras() -> Iterator[None]:
    """Import inside what may import Keras: on an installed backend, unless the user chose one.

    Raises:
        ImportError: in place of the ``ModuleNotFoundError`` of a backend that is not installed.
    """
    if "keras" not in sys.modules and not os.environ.get("KERAS_BACKEND") and _installed():
        os.environ["KERAS_BACKEND"] = _installed()[0]
    try:
        with jax_left_out():
            yield
    except ModuleNotFoundError as error:
        if error.name not in PREFERENCE:
            raise
        raise ImportError(
            f"Keras is set to the backend {error.name}, which is not installed. Set the "
            "environment variable KERAS_BACKEND to torch, jax or tensorflow before Python "
            "starts, whichever is installed."
        ) from error


@contextmanager
def jax_left_out() -> Iterator[None]:
    """Keep Keras, imported inside on another backend, from importing JAX.

    Where it is installed, a callback of Keras's that frcnn does not use imports it at once, which
    takes memory and time. Whoever wants JAX imports it afterwards.
    """
    wanted = os.environ.get("KERAS_BACKEND", "jax") == "jax"
    if wanted or "keras" in sys.modules or "jax" in sys.modules:
        yield
        return
    sys.modules["jax"] = None  # type: ignore[assignment]  # Python's sign that there is none
    try:
        yield
    finally:
        if sys.modules.get("jax") is None:
            sys.modules.pop("jax", None)
