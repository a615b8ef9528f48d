"""Detections of any number of pictures by Ray Data: by many workers, in order, streaming.

Pictures are read and detected by the same chunks as ``write_predictions`` takes, so that the
figures are the same. A worker that dies is started again, and its chunk is done again.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np

from frcnn.apps.predictions import CHUNK, check_all_done
from frcnn.console import counting
from frcnn.data.faults import ImageError
from frcnn.errors import UserError
from frcnn.inference.load import load
from frcnn.inference.sources import find_images
from frcnn.inference.views import Views
from frcnn.threads import available_cores

TOLD = ("KERAS_BACKEND", "PYTHONPATH")  # variables that workers get
MOST_OF_IT = 0.6  # of a machine's cores: one worker fits


def predict_with_ray(
    reference: str,
    pictures: Sequence[str | Path],
    score: float,
    file: Path,
    views: Views = Views(),
) -> int:
    """Detect on pictures in Ray's workers and write what ``frcnn predict --json`` does.

    Args:
        reference: a detector, as ``frcnn.load`` takes it; the workers must find it too.
        pictures: picture files and folders of them; or Parquet files and folders of them, with a
            column ``path``, or with ``image``, the bytes of a picture file, and ``name``. Without
            names such pictures are numbered.
        score: detections scored lower are left out.
        file: the JSON file to write.
        views: how they are looked at.

    Returns:
        How many pictures there were.

    Raises:
        UserError: Ray is not installed; a table without such columns; after all else is done, that
            a picture cannot be read.
    """
    ray = open_ray()
    data = importlib.import_module("ray.data")
    context = data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    table, count = _table(data, pictures)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    # Without GPUs a machine has one worker, whose network uses all cores as it does without Ray.
    cores = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    cores = [count for count in cores if count]
    found = table.map_batches(
        Detecting,
        batch_size=CHUNK,
        compute=data.ActorPoolStrategy(size=gpus or len(cores)),
        fn_constructor_kwargs={
            "reference": _absolute(reference),
            "score": score,
            "views": views,
        },
        num_gpus=1 if gpus else 0,
        num_cpus=0 if gpus else MOST_OF_IT * min(cores),
        runtime_env={"env_vars": workers_environment()},
    )
    unread: list[dict[str, str]] = []
    try:
        with counting("detecting", count) as advance:
            total, objects = _write(file, _rows(found, advance, unread))
    except Exception as error:
        cause = _cause(error)
        if cause is None:
            raise
        raise UserError(str(cause)) from error
    read = total - len(unread)
    print(f"{read} pictures, {objects} objects scored {score} or more; written to {file}.")
    check_all_done(unread, total)
    return total


def open_ray(shows: bool = False) -> Any:
    """Ray, started on this machine or joined where ``RAY_ADDRESS`` says.

    Args:
        shows: show here what the workers print.

    Raises:
        UserError: it is not installed.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise UserError(
            "--ray needs the library ray, which is not installed. Install it with "
            '`pip install "frcnn[ray]"`.'
        ) from error
    if not ray.is_initialized():
        ray.init(log_to_driver=shows, logging_level="ERROR")
    return ray


class Detecting:
    """A worker: a detector, and what it makes of a chunk of pictures."""

    def __init__(self, reference: str, score: float, views: Views = Views()):
        self._detector, self._score = views.of(load(reference)), score

    def __call__(self, chunk: dict[str, np.ndarray]) -> dict[str, list]:
        """Columns of pictures -> names, detections as JSON, how many those are, what is wrong."""
        if "path" in chunk:
            images: list[Any] = [str(path) for path in chunk["path"]]
            names = [str(name) for name in chunk.get("name", chunk["path"])]
        else:
            images = [bytes(data) for data in chunk["image"]]
            names = [str(name) for name in chunk.get("name", [""] * len(images))]
        errors: dict[int, ImageError] = {}
        found = self._detector.detect(images, self._score, errors=errors)
        problems = [errors[i].problem if i in errors else "" for i in range(len(images))]
        return {
            "name": names,
            "detections": [json.dumps(each.to_dict(), indent=2) for each in found],
            "objects": [len(each) for each in found],
            "error": problems,
        }


def _table(data: Any, pictures: Sequence[str | Path]) -> tuple[Any, int]:
    """The pictures as a table of Ray Data, and how many rows it has."""
    tables = _parquet_files(pictures)
    if tables:
        table = data.read_parquet([str(each) for each in tables])
        columns = set(table.schema().names)
        wanted = [name for name in ("path", "image", "name") if name in columns]
        if not {"path", "image"} & columns:
            raise UserError(
                f"{tables[0]} has neither a column path nor a column image. It has: "
                f"{', '.join(sorted(columns))}."
            )
        if "path" in wanted and "image" in wanted:
            wanted.remove("path")
        return table.select_columns(wanted), table.count()
    arrow = importlib.import_module("pyarrow")
    names = [str(path) for path in find_images(pictures)]
    # A table a chunk: the workers get the chunks whole.
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    parts = [
        arrow.table({"path": [_absolute(name) for name in chunk], "name": chunk})
        for chunk in chunks
    ]
    return data.from_arrow(parts), len(names)


def _parquet_files(pictures: Iterable[str | Path]) -> list[Path]:
    """The Parquet files among these and in these folders.

    Raises:
        UserError: there are other files or folders among them.
    """
    tables: list[Path] = []
    others: list[Path] = []
    for path in map(Path, pictures):
        inside = sorted(path.glob("*.parquet")) if path.is_dir() else []
        if path.suffix == ".parquet" and path.is_file():
            inside = [path]
        tables += inside
        others += [] if inside else [path]
    if tables and others:
        raise UserError(f"{others[0]} is no Parquet file, as {tables[0]} is. Name one kind alone.")
    return tables


def _rows(found: Any, advance: Any, unread: list[dict[str, str]]) -> Iterator[tuple[str, int]]:
    """The JSON of each picture, and how many detections are in it; ``unread`` gets the others."""
    for number, row in enumerate(found.iter_rows()):
        image = row["name"] or str(number)
        advance()
        if row["error"]:
            unread.append({"image": image, "error": row["error"]})
            yield json.dumps(unread[-1], indent=2), 0
            continue
        name = json.dumps(image)
        detections = indent(row["detections"], "  ").lstrip()
        yield f'{{\n  "image": {name},\n  "detections": {detections}\n}}', row["objects"]


def _write(file: Path, rows: Iterable[tuple[str, int]]) -> tuple[int, int]:
    """Write a JSON list, row by row, as ``json.dump`` with two spaces would.

    Returns:
        How many rows, and how many objects in them.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{os.getpid()}.{file.name}")
    total = objects = 0
    try:
        with partial.open("w", encoding="utf-8") as out:
            for text, count in rows:
                out.write(("[\n" if total == 0 else ",\n") + indent(text, "  "))
                total, objects = total + 1, objects + count
            out.write("\n]\n" if total else "[]\n")
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return total, objects


def _absolute(name: str) -> str:
    """A path that a worker in another folder finds too; what is no path stays as it is."""
    return os.path.abspath(name) if os.path.exists(name) else name


def workers_environment() -> dict[str, str]:
    """What the workers need to know of this process."""
    told = {name: os.environ[name] for name in TOLD if name in os.environ}
    # Ray would have a network use one core, by this variable.
    return {"OMP_NUM_THREADS": str(available_cores()), **told}


def _cause(error: BaseException) -> UserError | None:
    """A user's mistake among what led to an error."""
    seen: BaseException | None = error
    while seen is not None:
        inner = getattr(seen, "cause", None)
        for each in (seen, inner):
            if isinstance(each, UserError):
                return each
        seen = seen.__cause__
    return None
