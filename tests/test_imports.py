"""Who may import whom: the directions of the design, read from the code."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "frcnn"

# Each part may import those named, and itself.
FOUNDATION = {"console", "errors", "files", "structures", "draw", "threads"}
ALLOWED = {
    "console": set(),
    "errors": set(),
    "files": set(),
    "threads": set(),
    "backend": {"errors"},
    "structures": {"draw"},
    "draw": {"errors", "structures"},
    "ops": set(),
    "models": {"errors", "ops"},
    "zoo": {"console", "errors", "files", "ops", "models"},
    "data": FOUNDATION,
    "evaluation": {"errors", "structures"},
    "inference": FOUNDATION | {"backend", "ops", "models", "zoo", "data"},
    "training": FOUNDATION | {"ops", "models", "zoo", "data", "inference", "evaluation"},
    "export": FOUNDATION | {"ops", "models", "zoo", "data", "inference", "evaluation"},
    "apps": FOUNDATION
    | {"ops", "models", "zoo", "data", "inference", "evaluation", "training", "export"},
}
ALLOWED["commands"] = ALLOWED["apps"] | {"apps"}
ALLOWED["cli"] = ALLOWED["commands"] | {"commands", "backend"}
ALLOWED["__main__"] = {"cli"}
ALLOWED["legacy"] = ALLOWED["apps"] | {"apps"}
ALLOWED["__init__"] = ALLOWED["apps"] | {"apps", "backend"}

BACKENDS = {"torch", "torchvision", "triton", "jax", "jaxlib", "tensorflow"}
# One file for each primitive of which a backend owns a far faster kernel.
PRIMITIVES = {
    "ops/nms.py",
    "ops/roi.py",
    "ops/torch_operators.py",
    "ops/torch_winograd.py",
    "ops/triton_finish.py",
    "ops/triton_nms.py",
    "ops/triton_sum.py",
    "models/accumulation.py",
    "models/torch_convolution.py",
    "models/torch_fusion.py",
    "models/torch_graph.py",
    "models/torch_host.py",
    "models/torch_packing.py",
    "models/torch_step.py",
    "training/device_memory.py",
    "training/torch_sgd.py",
    # Each backend introduces devices and processes to each other in its own way.
    "training/jax_parallel.py",
    "training/tensorflow_parallel.py",
    "training/torch_launch.py",
    "training/torch_parallel.py",
}
# What a format is made of; the rest of export/ knows no backend.
FORMATS = {
    "export/litert.py",
    "export/onnx.py",
    "export/saved_model.py",
    "export/torch_export.py",
    "export/torch_loops.py",
    "export/torch_program.py",
}
# NumPy parts; the one file of them that hands batches to Keras.
NO_KERAS = {"data", "evaluation", "structures", "draw", "errors", "files", "backend"}
CROSSING = {"data/batching.py"}
# What uses an exported detector or reads data: importing it must not import Keras in the end.
WITHOUT_KERAS = {
    "__init__.py",
    "cli.py",
    "apps/diagnosing.py",
    "apps/predictions.py",
    "apps/scoring.py",
    "apps/serve/running.py",
    "apps/serve/server.py",
    "apps/tracking.py",
    "apps/video_predictions.py",
    "data/writing.py",
    "evaluation/evaluate.py",
    "export/formats.py",
    "export/wishes.py",
    "inference/load.py",
    "inference/runtime.py",
    "inference/sources.py",
    "inference/video.py",
    "inference/views.py",
}

FILES = sorted(SOURCE.rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
    return found


def reached_from(path: Path) -> set[str]:
    """Names of the modules imported as a file is, by it and by those of ours that it imports."""
    files, found = [path], set()
    while files:
        for node in ast.parse(files.pop().read_text("utf-8")).body:  # not inside functions
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in set(names) - found:
                found.add(name)
                ours = SOURCE.parent / name.replace(".", "/")
                files += [
                    file
                    for file in (ours.with_suffix(".py"), ours / "__init__.py")
                    if file.exists()
                ]
    return found


def part_of(path: Path) -> str:
    relative = path.relative_to(SOURCE)
    return relative.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_downward_only(path):
    part = part_of(path)
    assert part in ALLOWED, f"a new part {part}: say here what it may import"
    for name in imports_of(path):
        if name.split(".")[0] == "frcnn":
            other = (name.split(".") + ["__init__"])[1]
            assert other == part or other in ALLOWED[part], f"{part} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_backend_outside_the_primitives(path):
    used = {name.split(".")[0] for name in imports_of(path)} & BACKENDS
    assert not used or str(path.relative_to(SOURCE)) in PRIMITIVES | FORMATS, used


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_host_code_imports_no_keras(path):
    if part_of(path) in NO_KERAS and str(path.relative_to(SOURCE)) not in CROSSING:
        assert "keras" not in {name.split(".")[0] for name in imports_of(path)}


@pytest.mark.parametrize("name", sorted(WITHOUT_KERAS))
def test_exported_detectors_are_used_without_keras(name):
    reached = {other.split(".")[0] for other in reached_from(SOURCE / name)}
    assert "keras" not in reached and not reached & BACKENDS


def test_the_reach_of_an_import():
    assert "keras" in reached_from(SOURCE / "inference" / "predict.py")
    reached = reached_from(SOURCE / "apps" / "demo.py")  # by way of others alone
    assert {"frcnn.training.train", "keras"} <= reached


def test_the_rules_name_files_that_exist():
    for name in PRIMITIVES | FORMATS | CROSSING | WITHOUT_KERAS:
        assert (SOURCE / name).is_file(), name
