"""Speed and memory beside torchvision's detectors: the same weights, pictures and counts of boxes.

    python benchmarks/vs_torchvision.py [WORK ...] [--backend torch] [--runs 9] [--json FILE]

One process alternates steps of ours and of the peer's and takes medians; ratios are ours / peer's.
Peak memory is the median of three processes of a side each (on a GPU: of what the framework
allocated).
The floor is the arithmetic of the peer's convolutions and matrix products over the rate of large
matrix products of that precision on this machine. On a GPU the peer has channels-last maps, TF32,
cuDNN's search for kernels, pinned pictures and, if asked for, autocast.

Works are NAME:train or NAME:infer, or NAME:FORMAT for an exported artefact against the peer:
    lite0:train        efficientnet_lite0_fpn, 320x427, batch 4; the peer's batch norms train
    lite0-frozen:train the same; the peer's batch norms are fixed, as ours
    resnet50:train     resnet50_fpn, 512x683, batch 2
    vgg16:train        vgg16, 600x800, batch 1
    lite0:infer  resnet50:infer  resnet50-800:infer  mobilenet:infer  vgg16:infer    batch 1
    lite0:onnx   lite0:openvino  ...                                    batch 1
    resnet50-800:train with --batch 8: for a GPU
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

GIVEN = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
DEFAULT = (
    "lite0:train",
    "lite0-frozen:train",
    "resnet50:train",
    "lite0:infer",
    "resnet50:infer",
    "resnet50-800:infer",
    "mobilenet:infer",
    "vgg16:train",
    "vgg16:infer",
)
FORMATS = ("onnx", "openvino")
BOXES = 12  # of the ground truth, in each picture
WARM = 2  # steps that are not counted
MEASURED = 3  # processes a side whose memory is measured: it differs from one to the next
PAUSE = 0.1  # seconds before a step: the other side's threads spin on for a while


@dataclass(frozen=True)
class Case:
    """An architecture at a size; the long side is 4/3 of the short one where none is given."""

    preset: str
    short: int
    batch: int  # in training
    frozen: bool = True
    width: int = 0

    @property
    def long(self) -> int:
        return self.width or round(self.short * 4 / 3)


CASES = {
    "lite0": Case("efficientnet_lite0_fpn", 320, 4, frozen=False),
    "lite0-frozen": Case("efficientnet_lite0_fpn", 320, 4),
    "resnet50": Case("resnet50_fpn", 512, 2),
    "resnet50-800": Case("resnet50_fpn", 800, 8, width=1333),
    "mobilenet": Case("mobilenet_v3_large_320_fpn", 320, 4),
    "vgg16": Case("vgg16", 600, 1),
}


def arguments() -> argparse.Namespace:
    GIVEN.add_argument("works", nargs="*", metavar="WORK", help=f"default: {' '.join(DEFAULT)}")
    GIVEN.add_argument("--backend", default="torch", choices=["torch", "jax", "tensorflow"])
    GIVEN.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    GIVEN.add_argument("--compile", action="store_true", help="torch.compile for ours")
    GIVEN.add_argument("--precision", default="float32", choices=["float32", "bfloat16", "float16"])
    GIVEN.add_argument("--batch", type=int, help="in place of the work's own")
    GIVEN.add_argument(
        "--batches", type=int, default=1, help="detected in a row; the figures are of one"
    )
    GIVEN.add_argument("--runs", type=int, default=9)
    GIVEN.add_argument("--json", metavar="FILE", help="also write the rows to a file")
    GIVEN.add_argument("--no-memory", action="store_true", help="leave the memory out")
    GIVEN.add_argument("--profile", action="store_true", help="the ten costliest operations")
    GIVEN.add_argument("--only", choices=["ours", "peer"], help=argparse.SUPPRESS)
    return GIVEN.parse_args()


def main() -> None:
    given = arguments()
    os.environ["KERAS_BACKEND"] = given.backend
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the peer needs the device too
    import torch
    import torchvision  # noqa: F401  # before Keras: after TensorFlow its libraries crash Python

    if given.only != "peer":
        from frcnn.backend import importing_keras

        with importing_keras():  # as whoever uses frcnn
            import keras  # noqa: F401

    if given.device == "cuda":  # the best that eager PyTorch has; XLA's own default is the same
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True

    works = given.works or DEFAULT
    if given.only:
        print(json.dumps(peak_memory(works[0], given)))
        return
    if given.profile:
        for work in works:
            profile(work, given)
        return
    print(environment(given), end="\n\n")
    rows = []
    print("| work | backend | ours, s | torchvision, s | ratio | floor, s | ours, MB | peer, MB |")
    print("|---|---|---|---|---|---|---|---|")
    rate = matrix_rate(given.device, given.precision)
    for work in works:
        row = measure(work, given, rate)
        rows.append(row)
        memory = [f"{row[key]:.0f}" if row[key] else "-" for key in ("ours_mb", "peer_mb")]
        print(
            f"| {row['work']} | {row['backend']} | {row['ours']:.3f} | {row['peer']:.3f} "
            f"| {row['ratio']:.2f} | {row['floor']:.3f} | {' | '.join(memory)} |",
            flush=True,
        )
        if given.json:
            Path(given.json).write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


def measure(work: str, given, rate: float) -> dict:
    ours, peer, model = steps(work, given)
    sides: dict[str, list[float]] = {"ours": [], "peer": []}
    started = time.perf_counter()
    ours()
    first = time.perf_counter() - started
    for step, times in ((ours, warm_up(work, given)), (peer, WARM)):
        for _ in range(times):
            step()
    for _ in range(given.runs):
        for name, step in (("ours", ours), ("peer", peer)):
            time.sleep(PAUSE)
            start = time.perf_counter()
            step()
            sides[name].append(time.perf_counter() - start)
    share = 1 if work.endswith(":train") else given.batches
    medians = {name: statistics.median(times) / share for name, times in sides.items()}
    memory = {"ours": 0, "peer": 0}
    if not given.no_memory:
        memory = {
            side: statistics.median(memory_of(side, work, given) for _ in range(MEASURED))
            for side in memory
        }
    backend = work.split(":")[1] if work.split(":")[1] in FORMATS else given.backend
    return {
        "work": work,
        "backend": backend + (" compiled" if given.compile else ""),
        "device": given.device,
        "precision": given.precision,
        "ours": medians["ours"],
        "peer": medians["peer"],
        "ratio": medians["ours"] / medians["peer"],
        "ratio_low": min(a / b for a, b in zip(*sides.values(), strict=True)),
        "ratio_high": max(a / b for a, b in zip(*sides.values(), strict=True)),
        "first": first,
        "floor": arithmetic(model, peer) / share / rate,
        "ours_mb": memory["ours"],
        "peer_mb": memory["peer"],
    }


def warm_up(work: str, given) -> int:
    """Steps of ours before it is at its speed: on PyTorch they are recorded after some."""
    kind = work.split(":")[1]
    if given.backend != "torch" or kind in FORMATS:
        return WARM
    if kind == "train":
        from frcnn.models.torch_step import DEVICES, RECORD_AFTER

        return WARM + 1 + (RECORD_AFTER if given.device in DEVICES else 0)
    from frcnn.inference.predict import RECORD_AFTER

    return WARM + 1 + math.ceil(RECORD_AFTER / given.batches)


def steps(work: str, given):
    """A work's sides, each a function that does it once and waits for its end, and the peer."""
    import torch
    import torchvision_peers as peers

    name, kind = work.split(":")
    case = CASES[name]
    peer = peers.build_peer(case.preset, case.short, case.long)
    if given.precision != "float32":
        import keras

        keras.mixed_precision.set_global_policy(f"mixed_{given.precision}")
    network = None
    if given.only != "peer":
        network = peers.build_ours(case.preset, peer)
    if case.frozen:
        peers.freeze_norms(peer)
    peer = peer.to(given.device)
    if given.device == "cuda":
        peer = peer.to(memory_format=torch.channels_last)
    training = kind == "train"
    batch = given.batch or (case.batch if training else 1)
    if given.only == "ours":  # nothing of the peer's is to be counted
        theirs = peer = None
    else:
        theirs = (train_peer if training else infer_peer)(peer, case, batch, given)
    if network is None:
        return None, theirs, peer
    if training:
        return train_ours(network, case, batch, given), theirs, peer
    detector = our_detector(network, case)
    if kind in FORMATS:
        detector = exported(detector, kind, case, batch)
    elif given.compile:
        detector.model.compile(jit_compile=True)
    images = [peers.picture(case.short, case.long, seed) for seed in range(batch)]
    images *= given.batches
    return lambda: detector.detect(images, batch=batch), theirs, peer


def ground_truth(case: Case, count: int):
    """Boxes float32 (count, BOXES, 4) and labels int32 (count, BOXES)."""
    import numpy as np

    rng = np.random.default_rng(0)
    sides = rng.uniform(0.08, 0.5, (count, BOXES, 2)) * case.short
    corners = rng.uniform(0, 1, sides.shape) * (np.array([case.long, case.short]) - sides)
    boxes = np.concatenate([corners, corners + sides], axis=-1).astype(np.float32)
    return boxes, rng.integers(0, 90, boxes.shape[:2]).astype(np.int32)


def train_ours(network, case: Case, batch: int, given):
    import numpy as np
    from torchvision_peers import picture

    from frcnn.training.config import Config
    from frcnn.training.optimizer import build_optimizer

    canvas = [-(-side // 32) * 32 for side in (case.short, case.long)]
    images = np.zeros((batch, *canvas, 3), np.uint8)
    for row in range(batch):
        images[row, : case.short, : case.long] = picture(case.short, case.long, row)
    boxes, labels = ground_truth(case, batch)
    sizes = np.tile(np.array([[case.short, case.long]], np.int32), (batch, 1))
    x = {"images": images, "sizes": sizes}
    y = {"boxes": boxes, "labels": labels}
    network.compile(build_optimizer(Config("-"), 1e-4, 1000), jit_compile=given.compile or "auto")
    if given.backend == "torch" and not given.compile:
        network.jit_compile = False

    def step():
        loss = network.train_on_batch(x, y)
        assert np.isfinite(loss if np.isscalar(loss) else loss[0])

    return step


def train_peer(peer, case: Case, batch: int, given):
    import torch

    images = pictures(case, batch, given)
    boxes, labels = ground_truth(case, batch)
    targets = [
        {"boxes": torch.from_numpy(b), "labels": torch.from_numpy(each).long() + 1}
        for b, each in zip(boxes, labels, strict=True)
    ]
    weights = [each for each in peer.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(weights, 1e-4, momentum=0.9, weight_decay=1e-4)
    scaler = torch.amp.GradScaler(given.device, enabled=given.precision == "float16")

    def step():
        peer.train()
        here = [image.to(given.device, non_blocking=True) for image in images]
        marked = [{k: v.to(given.device) for k, v in target.items()} for target in targets]
        with autocast(given):
            loss = sum(peer(here, marked).values())
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.isfinite(torch.tensor(loss.item()))

    return step


def pictures(case: Case, count: int, given):
    """The peer's pictures, where a GPU reads them fastest."""
    from torchvision_peers import as_tensor, picture

    images = [as_tensor(picture(case.short, case.long, row)) for row in range(count)]
    return [image.pin_memory() for image in images] if given.device == "cuda" else images


def autocast(given):
    import torch

    dtype = getattr(torch, given.precision)
    return torch.autocast(given.device, dtype, enabled=given.precision != "float32")


def infer_peer(peer, case: Case, batch: int, given):
    import torch

    images = pictures(case, batch, given)

    def step():
        peer.eval()
        with torch.inference_mode(), autocast(given):
            for _ in range(given.batches):
                found = peer([image.to(given.device, non_blocking=True) for image in images])
                results = [{k: v.float().cpu().numpy() for k, v in each.items()} for each in found]
            return results

    return step


def our_detector(network, case: Case):
    from frcnn.inference.predict import Detector
    from frcnn.models.detector import DetectionModel

    names = tuple(map(str, range(90)))
    canvas = tuple(-(-side // 32) * 32 for side in (case.short, case.long))
    return Detector(DetectionModel(network, names, case.short, case.long, (canvas,)))


def exported(detector, kind: str, case: Case, batch: int):
    """The detector exported and opened again."""
    from frcnn.export import export_detector
    from frcnn.inference.load import load

    suffix = {"onnx": ".onnx", "openvino": ".xml"}[kind]
    path = Path(tempfile.mkdtemp()) / f"{case.preset}{suffix}"
    export_detector(detector.model, path, kind, batch=batch)
    return load(path)


def arithmetic(peer, step) -> float:
    """Floating point operations of the peer's convolutions and matrix products in a step.

    The gradient of the inputs costs as much as the forward pass, and so does that of the weights;
    each is counted where it is wanted.
    """
    from torch import nn

    total = 0

    def count(module, inputs, output):
        nonlocal total
        times = 1
        if output.requires_grad:
            times += int(module.weight.requires_grad) + int(inputs[0].requires_grad)
        total += 2 * output.numel() * module.weight[0].numel() * times

    layers = [each for each in peer.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    step()
    for hook in hooks:
        hook.remove()
    return float(total)


def matrix_rate(device: str, precision: str = "float32") -> float:
    """Operations a second of large matrix products, at best."""
    import torch

    side = 8192 if device == "cuda" else 2048
    matrix = torch.rand(side, side, device=device, dtype=getattr(torch, precision))
    times = []
    for _ in range(12):
        start = time.perf_counter()
        matrix @ matrix
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * side**3 / min(times)


def memory_of(side: str, work: str, given) -> float:
    """Peak megabytes of one side in a process of its own."""
    options = ["--backend", given.backend, "--device", given.device]
    options += ["--precision", given.precision]
    options += ["--batch", str(given.batch)] if given.batch else []
    options += ["--batches", str(given.batches)]
    options += ["--compile"] if given.compile else []
    command = [sys.executable, __file__, work, "--only", side, *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def peak_memory(work: str, given) -> float:
    ours, peer, _ = steps(work, given)
    step = peer if given.only == "peer" else ours
    for _ in range(warm_up(work, given) if given.only == "ours" and given.device == "cuda" else 3):
        step()
    if given.device == "cpu":
        # Not getrusage's figure, which begins at the size of the process that started this one.
        status = Path("/proc/self/status").read_text("ascii")
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
    if given.backend == "jax" and given.only == "ours":
        import jax

        return jax.devices()[0].memory_stats()["peak_bytes_in_use"] / 2**20
    import torch

    return torch.cuda.max_memory_allocated() / 2**20


def profile(work: str, given) -> None:
    """Print the costliest operations of each side, in seconds by themselves."""
    for name, step in zip(("ours", "peer"), steps(work, given)[:2], strict=True):
        for _ in range(warm_up(work, given) if name == "ours" else WARM):
            step()
        print(f"\n{work}, {name}:")
        if name == "ours" and given.backend != "torch":
            rows = xla_operations(step, given.backend)
        else:
            rows = torch_operations(step, given.device)
        total = sum(seconds for _, seconds, _ in rows)
        for operation, seconds, calls in rows[:10]:
            print(f"{operation:<60.60} {seconds:8.3f} s {seconds / total:6.1%} {calls:6d} calls")
        print(f"{'all':<60} {total:8.3f} s")


def torch_operations(step, device: str) -> list[tuple[str, float, int]]:
    import torch

    with torch.profiler.profile() as trace:
        step()
    key = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    rows = [
        (each.key, getattr(each, key) / 1e6, each.count)
        for each in trace.key_averages()
        if device == "cpu" or each.device_type.name == "CUDA"  # the kernels, not who asked
    ]
    return sorted(rows, key=lambda row: -row[1])


def xla_operations(step, backend: str) -> list[tuple[str, float, int]]:
    """Of JAX and TensorFlow, from the trace that their profiler writes."""
    folder = tempfile.mkdtemp()
    if backend == "jax":
        import jax

        with jax.profiler.trace(folder):
            step()
    else:
        import tensorflow as tf

        tf.profiler.experimental.start(folder)
        step()
        tf.profiler.experimental.stop()
    from jax.profiler import ProfileData

    (path,) = Path(folder).rglob("*.xplane.pb")
    totals: dict[str, list[float]] = {}
    for plane in ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                if "::" in event.name or event.name.startswith(("$", "Thread", "end:")):
                    continue  # of the runtime, not of the network
                base = event.name.rpartition(".")[0] or event.name
                seconds = totals.setdefault(base if base else event.name, [0.0, 0])
                seconds[0] += event.duration_ns / 1e9
                seconds[1] += 1
    rows = [(name, seconds, int(calls)) for name, (seconds, calls) in totals.items()]
    return sorted(rows, key=lambda row: -row[1])


def environment(given) -> str:
    import keras
    import torch
    import torchvision

    versions = f"Keras {keras.__version__}, PyTorch {torch.__version__}"
    if given.backend != "torch":
        module = __import__(given.backend)
        versions += f", {given.backend} {module.__version__}"
    where = torch.cuda.get_device_name() if given.device == "cuda" else f"{os.cpu_count()} cores"
    return (
        f"{where}; {versions}, torchvision {torchvision.__version__}; {given.precision}; "
        f"{matrix_rate(given.device, given.precision) / 1e9:.0f} GFLOP/s of matrix products; "
        f"medians of {given.runs} alternating runs."
    )


if __name__ == "__main__":
    main()
