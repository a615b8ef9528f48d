"""Size, arithmetic, latency and memory of every preset, as README's table has them.

    python benchmarks/models.py [PRESET ...] [--runs 5]

Each preset is built with random weights in a process of its own and detects on one made picture of
4:3 at its own size; the latency is the median of so many runs once its graph is recorded. Memory is
the process's peak. Multiply-adds are those of convolutions, by their definition, and of matrix
products, with the proposals the preset has.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

LONG = 4 / 3


def measure(name: str, runs: int) -> dict:
    """One preset, on PyTorch."""
    os.environ["KERAS_BACKEND"] = "torch"
    import numpy as np
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from frcnn.inference import predict
    from frcnn.inference.predict import Detector
    from frcnn.models.detector import DetectionModel
    from frcnn.zoo.presets import build_network, preset

    chosen = preset(name)
    short, long = chosen.size, round(LONG * chosen.size)
    network = build_network(name, 90)
    classes = tuple(map(str, range(90)))
    detector = Detector(DetectionModel(network, classes, short, long, (), chosen.rule))
    image = np.random.default_rng(0).integers(0, 255, (short, long, 3)).astype(np.uint8)
    by_tiles = {torch.ops.frcnn.winograd: _flops_by_tiles}
    with FlopCounterMode(display=False, custom_mapping=by_tiles) as counter, torch.no_grad():
        detector.detect(image)
    predict.RECORD_AFTER = 0
    for _ in range(2):
        detector.detect(image)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        detector.detect(image)
        times.append(time.perf_counter() - start)
    weights = sum(
        int(np.prod(variable.shape))
        for variable in network.weights
        if not variable.path.endswith(("moving_mean", "moving_variance", "seed_generator_state"))
    )
    return {
        "preset": name,
        "size": f"{long}x{short}",
        "parameters": weights,
        "multiply_adds": counter.get_total_flops() // 2,
        "seconds": statistics.median(times),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "published_ap": chosen.published.ap if chosen.published else None,
    }


def _flops_by_tiles(maps, values, *_, out_shape, **__) -> int:
    """Of a 3x3 convolution (B, C_in, H, W) -> (B, C_out, H, W), done one product at a time."""
    images, inputs, height, width = maps
    return 2 * 9 * images * inputs * height * width * values[2]


def main() -> None:
    """Measure each preset in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", help="all if left out")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", help="one preset: print a line of JSON", action="store_true")
    given = parser.parse_args()
    if given.json:
        print(json.dumps(measure(given.presets[0], given.runs)))
        return
    print("| preset | picture | parameters | multiply-adds | latency | peak memory | COCO AP |")
    print("|---|---|---|---|---|---|---|")
    for name in given.presets or names():
        command = [sys.executable, __file__, name, "--json", "--runs", str(given.runs)]
        row = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        print(
            f"| `{row['preset']}` | {row['size']} | {row['parameters'] / 1e6:.1f} M "
            f"| {row['multiply_adds'] / 1e9:.1f} G | {row['seconds']:.2f} s "
            f"| {row['peak_mb']:.0f} MB | {row['published_ap'] or '-'} |",
            flush=True,
        )


def names() -> list[str]:
    """All presets; without importing them here, so that each process is measured alone."""
    code = "from frcnn.zoo.presets import PRESETS; print(*PRESETS)"
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()


if __name__ == "__main__":
    main()
