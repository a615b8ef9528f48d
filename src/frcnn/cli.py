"""The command ``frcnn``: its subcommands, and how a mistake is told.

Nothing heavy is imported until a subcommand needs it, and the backend is chosen before Keras is.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper

import tyro

from frcnn.backend import choose_backend, jax_left_out
from frcnn.commands.datasets import Audit, ConvertData, audit, convert_data
from frcnn.commands.detecting import Compare, Evaluate, Predict, compare, evaluate, predict
from frcnn.commands.models import Convert, Export, Presets, convert, export, presets
from frcnn.commands.output import speaks
from frcnn.commands.parsing import parse
from frcnn.commands.serving import Serve, serve
from frcnn.commands.stopping import Terminated
from frcnn.commands.training import (
    Demo,
    Plan,
    Report,
    Resume,
    demo,
    parse_train,
    plan,
    report,
    resume,
    start_processes,
    train,
)
from frcnn.errors import UserError, disk_reason, printable
from frcnn.export.formats import FORMATS
from frcnn.training.config import Config

KEPT_COMPILED = 2 << 30  # bytes of what JAX compiled; a training's steps take some MB
COMMANDS: dict[type, tuple[str, Callable]] = {
    Config: ("train", train),
    Resume: ("train", resume),
    Evaluate: ("evaluate", evaluate),
    Compare: ("compare", compare),
    Predict: ("predict", predict),
    Serve: ("serve", serve),
    Convert: ("convert", convert),
    Report: ("report", report),
    Export: ("export", export),
    Plan: ("plan", plan),
    Presets: ("presets", presets),
    Demo: ("demo", demo),
    Audit: ("audit", audit),
    ConvertData: ("convert-data", convert_data),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with telling_mistakes():
        chosen = _parse(arguments)
    needed = FORMATS[chosen.format].backend if isinstance(chosen, Export) else None
    if needed == "torch":  # where it is recorded, whatever else the machine has
        os.environ.setdefault("KERAS_TORCH_DEVICE", "cpu")

    def act() -> None:
        if isinstance(chosen, (Config, Resume)):
            start_processes(chosen, arguments)
        COMMANDS[type(chosen)][1](chosen)

    run_safely(act, _needs_keras(chosen), needed)


def _parse(arguments: Sequence[str]):
    """What the words ask for, as one of the classes of ``COMMANDS``."""
    kinds = {name: kind for kind, (name, _) in COMMANDS.items() if kind is not Resume}
    name, *words = arguments or [""]
    if name == "train":
        return parse_train(words)
    if name in kinds:
        return parse(kinds[name], name, words)
    return tyro.extras.subcommand_cli_from_dict(  # the list of commands
        kinds,
        prog="frcnn",
        description="Faster R-CNN for Keras 3: train, evaluate and use a two-stage detector.",
        args=arguments,
    )


def _needs_keras(arguments) -> bool:
    """Whether a backend must be chosen: exported detectors and data sets do without."""
    from frcnn.inference.artefact import is_artefact

    if isinstance(arguments, Compare):
        return not (is_artefact(arguments.first) and is_artefact(arguments.second))
    if isinstance(arguments, (Evaluate, Predict, Serve)):
        return not is_artefact(arguments.run)
    return not isinstance(arguments, ConvertData)


def run_safely(action: Callable[[], None], keras: bool = True, backend: str | None = None) -> None:
    """Choose the backend, where Keras is needed, and act; turn a user's mistake into a sentence.

    ``backend`` is the only one that will do, if there is such. Exit status: 2 for a user's
    mistake, 130 after Ctrl-C, 143 after SIGTERM where that ends in order; of a training 0.
    """
    with telling_mistakes():
        if keras:
            notice = choose_backend(backend)
            if notice and speaks():
                print(notice, file=sys.stderr)
            _check_torch_device()
            _keep_compiled()
            with jax_left_out():
                importlib.import_module("keras")
            leave_tensorflow_out()
        action()


@contextmanager
def telling_mistakes() -> Iterator[None]:
    """Tell a user's mistake in a sentence. Exit status: 2 after one, 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names may have letters that a console lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # of `frcnn ... | head`: whoever read has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except UserError as error:
        if speaks():  # all processes come to the same
            print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a disk that is full, a folder that is a file, a missing right
        if (reason := disk_reason(error)) is None:
            raise
        print(printable(f"Error: {reason}."), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as error:
        print("Interrupted; what was finished is saved.", file=sys.stderr)
        sys.exit(143 if isinstance(error, Terminated) else 130)


def _check_torch_device() -> None:
    """Refuse a GPU that ``KERAS_TORCH_DEVICE`` asks for where PyTorch sees none."""
    device = os.environ.get("KERAS_TORCH_DEVICE", "")
    if os.environ.get("KERAS_BACKEND") != "torch" or not device.startswith("cuda"):
        return
    from frcnn.training.torch_launch import count_accelerators

    if not count_accelerators():
        raise UserError(
            f"KERAS_TORCH_DEVICE is {device}, but PyTorch sees no GPU: unset it, or set it to cpu."
        )


def leave_tensorflow_out() -> None:
    """Keep Keras on another backend from importing TensorFlow.

    Where it is installed, Keras asks it whether what is saved and read is one of its types, which
    takes half a gigabyte and some seconds. There is no setting for it: Keras's own note of whether
    TensorFlow can be had is written before it looks.
    """
    if os.environ.get("KERAS_BACKEND") == "tensorflow" or "tensorflow" in sys.modules:
        return
    from keras.src.utils import module_utils

    module_utils.tensorflow._available = False


def _keep_compiled() -> None:
    """Have JAX keep what it compiles, which takes half a minute and more, for the next command.

    To be called before JAX is imported. Each host has a folder of its own: what was compiled for a
    newer processor would end an older one's process. ``JAX_COMPILATION_CACHE_DIR`` names another.
    What was not used for the longest time makes room.
    """
    if os.environ.get("KERAS_BACKEND") != "jax" or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    if importlib.util.find_spec("filelock") is None:  # JAX bounds a folder only with its help
        return
    from frcnn.zoo.download import cache_folder

    folder = cache_folder() / "jax" / platform.node()
    with suppress(OSError):  # no right to write there
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
        os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(KEPT_COMPILED))
