"""The memory a training is said to take, against what it took: `python benchmarks/memory.py DATA`.

Each training is a process of its own, of a few steps and a validation; what it took is the most
that the system counted as resident.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

WORKS = (
    ("efficientnet_lite0_fpn", 320),
    ("efficientnet_lite0_fpn", 512),
    ("mobilenet_v3_large_320_fpn", 320),
    ("mobilenet_v3_large_320_fpn", 512),
    ("resnet50_fpn", 320),
    ("resnet50_fpn", 512),
)


def trained(
    data: str, preset: str, size: int, batch: int, options: list[str]
) -> tuple[float, float]:
    """GiB that a training is said to take, and took."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "frcnn", "train", data, "--preset", preset]
        command += ["--size", str(size), "--batch", str(batch), "--epochs", "1"]
        command += ["--epoch-images", str(4 * batch), "--out", folder, "--overwrite"]
        command += ["--weights", "none", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    said = re.search(r"Memory: ([0-9.]+) GiB", text)
    if status or said is None:
        raise SystemExit(f"{' '.join(command)} ended with status {status}:\n{text}")
    return float(said[1]), usage.ru_maxrss * 1024 / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--remat", action="store_true", help="as of `frcnn train`")
    parser.add_argument("works", nargs="*", metavar="PRESET:SIZE")
    arguments = parser.parse_args()
    works = [(name, int(size)) for name, size in (each.split(":") for each in arguments.works)]
    print(f"{'preset':<28}{'size':>5}{'batch':>6}{'said':>8}{'took':>8}{'ratio':>7}")
    options = ["--remat"] * arguments.remat
    for preset, size in works or WORKS:
        said, took = trained(str(arguments.data), preset, size, arguments.batch, options)
        row = f"{preset:<28}{size:>5}{arguments.batch:>6}{said:>8.2f}{took:>8.2f}"
        print(f"{row}{said / took:>7.2f}", flush=True)


if __name__ == "__main__":
    main()
