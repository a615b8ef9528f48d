"""The commands of keras-frcnn, flag for flag, over this library.

Each ``*_main`` is one of its scripts. Configurations are TOML here, never a pickle, and a run
folder takes the place of the weight file: its name is the weight file's without the suffix.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from frcnn.errors import UserError
from frcnn.training.config import Config

PRESETS = {"vgg": "vgg16", "resnet50": "resnet50_c4"}
FLAGS = {"--weights": "--input_weight_path", "--epochs": "--num_epochs", "--rois": "--num_rois"}
SCORE = 0.5  # of the boxes that are drawn


def train_main(arguments: Sequence[str] | None = None) -> None:
    """``train_frcnn.py``."""
    parser = _parser("Train Faster R-CNN.", "the data: a VOC folder or a CSV file", "resnet50")
    parser.add_argument("-o", "--parser", choices=("pascal_voc", "simple"), default="pascal_voc")
    parser.add_argument("--hf", action="store_true", help="mirror images at random")
    parser.add_argument("--vf", action="store_true", help="turn images upside down at random")
    parser.add_argument(
        "--rot", "--rot_90", action="store_true", help="turn images by 90 degrees at random"
    )
    parser.add_argument(
        "--num_epochs", type=int, default=2000, help="passes over the data; 2000 if left out"
    )
    parser.add_argument(
        "--epoch_length", type=int, help="images an epoch; left out: one pass over the data"
    )
    parser.add_argument(
        "--output_weight_path",
        default="./model_frcnn.hdf5",
        help="its name without the suffix is the run folder, which is overwritten",
    )
    parser.add_argument(
        "--input_weight_path",
        help="weights to start from; left out: the ImageNet file of the network in this folder, "
        "else a download",
    )
    given = parser.parse_args(arguments)
    _check_parser(given.parser, given.path)

    from frcnn.apps.training import train
    from frcnn.data.dataset import available_splits

    trainval = given.parser == "pascal_voc" and "trainval" in available_splits(given.path)
    file = _config_file(given.config_filename)
    with _naming_flags():
        config = _train_config(given, trainval)
        train(config, begin=lambda _: _write_config(config, file))
    print(f"Configuration: {file}. Next: python test_frcnn.py --path IMAGES")


def _train_config(given: argparse.Namespace, trainval: bool) -> Config:
    return Config(
        data=given.path,
        preset=_preset(given.network or "resnet50"),
        weights=given.input_weight_path or "imagenet",
        train_split="trainval" if trainval else None,
        epochs=given.num_epochs,
        epoch_images=given.epoch_length,
        batch=2,
        rois=given.num_rois,
        horizontal_flip=given.hf,
        vertical_flip=given.vf,
        rotate=given.rot,
        scale_jitter=0.0,
        photometric=0.0,
        out=str(Path(given.output_weight_path).with_suffix("")),
        overwrite=True,
    )


def _write_config(config: Config, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(config.to_toml(), "utf-8")


@contextmanager
def _naming_flags() -> Iterator[None]:
    """Name settings in errors as keras-frcnn does."""
    try:
        yield
    except UserError as error:
        message = str(error)
        for ours, theirs in FLAGS.items():
            message = message.replace(ours, theirs)
        raise UserError(message) from error


def test_main(arguments: Sequence[str] | None = None) -> None:
    """``test_frcnn.py``: draw the detections of a folder's pictures into ``results_imgs``."""
    parser = _parser("Detect in pictures.", "a folder of pictures", "the one trained")
    given = parser.parse_args(arguments)
    config = _read_config(given)

    from frcnn.apps.predictions import check_all_done, write_predictions
    from frcnn.inference.load import load
    from frcnn.inference.sources import find_images

    images = find_images([given.path])
    rows = write_predictions(load(_run_folder(config)), images, SCORE, "results_imgs")
    check_all_done(rows)


def measure_main(arguments: Sequence[str] | None = None) -> None:
    """``measure_map.py``: average precision on the test images."""
    parser = _parser(
        "Measure the mean average precision.", "the data, as given to training", "the one trained"
    )
    parser.add_argument("-o", "--parser", choices=("pascal_voc", "simple"), default="pascal_voc")
    given = parser.parse_args(arguments)
    _check_parser(given.parser, given.path)
    config = _read_config(given)

    from frcnn.apps.scoring import score_detector
    from frcnn.inference.load import load

    print(score_detector(load(_run_folder(config)), _test_images(given, config)))


def _test_images(given, config: Config):
    """The test split where there is one, else what the training held out."""
    from frcnn.data.dataset import available_splits, open_dataset
    from frcnn.training.splits import open_splits

    if given.parser == "pascal_voc" and "test" in available_splits(given.path):
        return open_dataset(given.path, "test")
    held_out = open_splits(replace(config, data=given.path)).validation
    if held_out is None:
        raise UserError(f"{given.path} has no test images, and the training held none out.")
    return held_out


def _parser(description: str, path: str, network: str) -> argparse.ArgumentParser:
    """What the three scripts have in common."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("-p", "--path", required=True, help=path)
    parser.add_argument(
        "-n",
        "--num_rois",
        type=int,
        default=32,
        help="RoIs an image that the second stage trains on; in use all proposals run at once",
    )
    parser.add_argument("--network", choices=tuple(PRESETS), help=f"{network} if left out")
    parser.add_argument(
        "--config_filename",
        default="config.pickle",
        help="the configuration; it is TOML, under this name with the suffix .toml",
    )
    return parser


def _preset(network: str) -> str:
    from frcnn.zoo.presets import PRESETS as AVAILABLE

    if PRESETS[network] not in AVAILABLE:
        raise UserError(f"--network {network} is not available. Train with --network vgg.")
    return PRESETS[network]


def _check_parser(parser: str, path: str) -> None:
    is_file = Path(path).suffix.lower() == ".csv" or Path(path).is_file()
    if parser == "simple" and not is_file:
        raise UserError(f"--parser simple reads a CSV file, but {path} is none.")
    if parser == "pascal_voc" and is_file:
        raise UserError(f"{path} is a file; a VOC data set is a folder. Add --parser simple.")


def _config_file(name: str) -> Path:
    return Path(name).with_suffix(".toml")


def _read_config(given) -> Config:
    """The configuration that training wrote, which must agree with ``--network``."""
    file, named = _config_file(given.config_filename), Path(given.config_filename)
    if not file.is_file():
        if named.is_file():
            raise UserError(
                f"{named} is a pickle, which can run any program when it is opened, so it is "
                f"never read. Train again: the configuration is then written to {file}."
            )
        raise UserError(
            f"There is no trained model here: {file} is missing, which train_frcnn.py writes. "
            "Train first, with train_frcnn.py."
        )
    config = Config.from_toml(file)
    if given.network and PRESETS[given.network] != config.preset:
        raise UserError(f"--network {given.network} disagrees with {file}: {config.preset}.")
    return config


def _run_folder(config: Config) -> str:
    if config.out is None:
        raise UserError("The configuration names no run folder: the setting 'out' is missing.")
    from frcnn.training.run import Run

    run = Run(config.out)
    if not (run.best.is_file() or run.last.is_file()):
        raise UserError(
            f"There is no trained model in {config.out}: train first, with train_frcnn.py."
        )
    return config.out
