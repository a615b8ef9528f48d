"""What each ingredient of a recipe buys: trainings of each on a few data sets, a table at the end.

    python benchmarks/recipes.py FOLDER [--data bccd ...] [--rows plain ema ...] [--seeds 0 1 2]
        [--epochs 10] [--size 320] [--minutes M] [--json FILE]

FOLDER has the data sets bccd (PASCAL VOC), pcb (CSV) and coco_tiny (COCO); each is trained on by
its training images, without validation on the way, and the last epoch's model is measured once on
its validation images (pcb: test). Every row but the recipes' is the plain training with one thing
changed. What is finished stands in the JSON and is not done again; a training that the time limit
or a signal ends goes on when the command is given again. The table shows COCO AP: the mean over
the seeds, and the lowest and the highest.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS: dict[str, dict[str, object]] = {
    "plain": {},
    "ema": {"ema": 0.99},
    "ema-long": {"ema": 0.999},
    "backbone-lr": {"backbone-lr": 0.1},
    "freeze": {"freeze-epochs": 2},
    "label-smoothing": {"label-smoothing": 0.1},
    "multi-scale": {"multi-scale": 0.25},
    "mosaic": {"mosaic": 0.5},
    "large-scale-jitter": {"large-scale-jitter": True},
    "rare": {"rare": 0.1},
    "bfloat16": {"precision": "bfloat16"},
    "quick": {"recipe": "quick"},
    "standard": {"recipe": "standard"},
    "long": {"recipe": "long"},
}
# Of each data set: the split that is measured on.
MEASURED = {"bccd": "val", "pcb": "test", "coco_tiny": "val"}


def main() -> None:
    given = arguments()
    results = read(given.json)
    end = time.monotonic() + 60 * given.minutes if given.minutes else None
    wanted = [
        (data, row, seed) for seed in given.seeds for data in given.data for row in given.rows
    ]
    for data, row, seed in wanted:
        key = f"{data} {row} {seed} {given.epochs}x{given.size}"
        if key in results:
            continue
        figures = measure(given, data, row, seed, end)
        if figures is None:
            print(f"{key}: to be continued by the same command", flush=True)
            break
        results[key] = figures
        given.json.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n", "utf-8")
        print(f"{key}: AP {figures['AP']:.3f}, {figures['seconds']:.0f} s", flush=True)
    print(f"\n{table(results, given)}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", nargs="+", default=list(MEASURED), choices=MEASURED)
    parser.add_argument("--rows", nargs="+", default=["plain", "standard"], choices=ROWS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10, help="of all rows but the recipes")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--minutes", type=float, help="stop after so long, to go on another time")
    parser.add_argument("--json", type=Path, default=Path("recipes.json"))
    parser.add_argument("--runs", type=Path, default=Path(tempfile.gettempdir()) / "recipes")
    return parser.parse_args()


def read(file: Path) -> dict[str, dict[str, float]]:
    return json.loads(file.read_text("utf-8")) if file.exists() else {}


def measure(given, data: str, row: str, seed: int, end: float | None) -> dict[str, float] | None:
    """The figures of one training; None if time was up before its end."""
    run = given.runs / f"{data}-{row}-{seed}-{given.epochs}x{given.size}"
    spent = run / "spent.json"
    began, before = time.monotonic(), json.loads(spent.read_text()) if spent.exists() else 0.0
    if not (run / "trained").exists():
        code = train(command(given, data, row, seed, run), run, end)
        seconds = before + time.monotonic() - began
        spent.write_text(json.dumps(seconds))
        if code is None:
            return None
        (run / "trained").touch()
    seconds = json.loads(spent.read_text())
    file = run / "figures.json"
    evaluate = [str(run / "last.keras"), str(given.folder / data), "--split", MEASURED[data]]
    frcnn("evaluate", *evaluate, "--json", str(file))
    coco = json.loads(file.read_text("utf-8"))["coco"]
    shutil.rmtree(run)
    return {"AP": coco["AP"], "AP50": coco["AP50"], "seconds": seconds}


def command(given, data: str, row: str, seed: int, run: Path) -> list[str]:
    """The arguments of ``frcnn`` for a training, or for going on with it."""
    if (run / "training.state").exists():
        return ["train", "--resume", str(run)]
    options: dict[str, object] = {
        "val-split": "none",
        "train-split": "train",
        "seed": seed,
        "size": given.size,
        "out": run,
        "overwrite": True,
        **ROWS[row],
    }
    if "recipe" not in options:
        options["epochs"] = given.epochs
    flags = []
    for name, value in options.items():
        flags += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return ["train", str(given.folder / data), *flags]


def frcnn(*words: str) -> None:
    command = [sys.executable, "-m", "frcnn", *words]
    subprocess.run(command, check=True, env=environment(), stdout=subprocess.DEVNULL)


def train(words: list[str], run: Path, end: float | None) -> int | None:
    """Train; None if it was stopped because time was up."""
    run.mkdir(parents=True, exist_ok=True)
    with (run / "output.txt").open("a") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "frcnn", *words], env=environment(), stdout=output
        )
        try:
            code = process.wait(None if end is None else max(end - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)  # it saves its state
            process.wait()
            return None
    if code:
        raise SystemExit(f"A training failed: {run / 'output.txt'}")
    return code


def environment() -> dict[str, str]:
    return {"KERAS_BACKEND": "torch", **os.environ}


def table(results: dict[str, dict[str, float]], given) -> str:
    """Rows of a Markdown table, for what is there."""
    lines = [f"| row | {' | '.join(given.data)} |", "|---|" + "---|" * len(given.data)]
    for row in ROWS:
        cells = [cell(results, f"{data} {row}", given) for data in given.data]
        if any(cells):
            lines.append(f"| {row} | {' | '.join(each or '-' for each in cells)} |")
    return "\n".join(lines)


def cell(results: dict[str, dict[str, float]], start: str, given) -> str:
    keys = [f"{start} {seed} {given.epochs}x{given.size}" for seed in given.seeds]
    found = [results[key]["AP"] for key in keys if key in results]
    if not found:
        return ""
    text = f"{statistics.mean(found):.3f}"
    spread = f"{min(found):.3f}..{max(found):.3f}, " if len(found) > 1 else ""
    return f"{text} ({spread}{len(found)} seed{'s' if len(found) > 1 else ''})"


if __name__ == "__main__":
    main()
