"""A training whose batch does not fit into memory, beside the same one that has enough.

    python benchmarks/limited_memory.py DATA [--preset P] [--size 224] [--batch 8] [--steps 3]

The same `frcnn train` command is given less and less address space (RLIMIT_AS, on Linux) until it
takes its steps in parts; then its losses and those of the training that had enough are printed,
with their largest relative difference. Over many steps rounding decides between two proposals
now and then, after which the two go apart.
"""

from __future__ import annotations

import argparse
import csv
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

LOSSES = ("loss", "rpn_objectness", "rpn_box", "roi_class", "roi_box")
GIB = 2**30


def train(given: argparse.Namespace, folder: Path, addresses: int | None = None) -> str:
    """What the training says about memory; with little address space, only if it takes parts."""
    command = [sys.executable, "-m", "frcnn", "train", given.data, "--preset", given.preset]
    command += ["--size", str(given.size), "--batch", str(given.batch), "--epochs", "1"]
    command += ["--epoch-images", str(given.steps * given.batch), "--val-split", "none"]
    command += ["--out", str(folder), "--overwrite"]

    def limit():
        if addresses is not None:
            resource.setrlimit(resource.RLIMIT_AS, (addresses, addresses))

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=limit
    ) as process:
        assert process.stdout is not None
        said, text = "", ""
        for line in process.stdout:
            text += line
            said = said or (line.strip() if line.startswith("Memory: ") else "")
            if said and addresses is not None and "parts" not in said:
                process.kill()  # it fits: less is needed
                return said
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}:\n{text}")
    return said


def losses(folder: Path) -> dict[str, float]:
    with (folder / "history.csv").open() as file:
        (row,) = csv.DictReader(file)
    return {name: float(row[name]) for name in LOSSES}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--preset", default="efficientnet_lite0_fpn")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        whole, parted = Path(name, "whole"), Path(name, "parted")
        print("Enough memory:", train(given, whole))
        addresses = 16 * GIB
        while "parts" not in (said := train(given, parted, addresses)):
            print(f"{addresses / GIB:.1f} GiB of addresses: {said}", flush=True)
            addresses = int(addresses * 0.9)
        print(f"{addresses / GIB:.1f} GiB of addresses: {said}")
        one, other = losses(whole), losses(parted)
    print(f"{'':<16}{'whole':>12}{'in parts':>12}{'difference':>12}")
    worst = 0.0
    for loss in LOSSES:
        difference = abs(other[loss] / one[loss] - 1)
        worst = max(worst, difference)
        print(f"{loss:<16}{one[loss]:>12.6f}{other[loss]:>12.6f}{difference:>12.1e}")
    if worst > 1e-4:
        raise SystemExit(f"The losses differ by {worst:.1e}, more than 1e-4.")


if __name__ == "__main__":
    main()
