import io
import json
import resource
import sys
import time

import numpy as np
import pytest
from rich.console import Console

from frcnn.apps import planning
from frcnn.errors import UserError
from frcnn.inference.predict import Detector
from frcnn.models.faster_rcnn import LOSSES
from frcnn.training import memory, plan
from frcnn.training.callbacks import History, TrainingError
from frcnn.training.config import Config
from frcnn.training.memory import PeakMemory, is_out_of_memory
from frcnn.training.plan import Room, StepMemory, measure_step, plan_steps
from frcnn.training.state import read_state
from frcnn.training.train import train
from tiny import history_of, tiny_network, write_voc

MIB = 2**20


def test_the_peak_is_seen_after_it_is_over():
    memory.give_back()  # or the block is laid into what earlier tests freed
    before = memory.memory_in_use()
    with PeakMemory() as peak:
        block = np.ones(200 * MIB, np.uint8)
        time.sleep(0.5)  # a busy machine may not look at once
        del block
    assert peak.bytes - before == pytest.approx(200 * MIB, rel=0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux keeps freed memory")
def test_what_was_freed_is_given_back():
    memory.give_back()
    before = memory.memory_in_use()
    blocks = [np.ones(64 << 10, np.uint8) for _ in range(3200)]  # too small for pages of their own
    some = blocks[::100]  # so that the rest is no piece that is given back by itself
    del blocks
    assert memory.memory_in_use() - before > 150 * MIB
    memory.give_back()
    assert memory.memory_in_use() - before < 50 * MIB
    assert len(some) == 32


def group(folder, **files):
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_limits_of_control_groups(tmp_path):
    rest = {"memory__current": "700", "memory__stat": "anon 500\ninactive_file 200\n"}
    group(tmp_path / "2/a/b", memory__max="max", **rest)
    (tmp_path / "2/a/memory.max").write_text("1000")
    (tmp_path / "2/a/memory.current").write_text("900")
    (tmp_path / "2/a/memory.stat").write_text("inactive_file 50\n")
    group(
        tmp_path / "1/memory/c",
        memory__limit_in_bytes="800",
        memory__usage_in_bytes="300",
        memory__stat="total_inactive_file 100\n",
    )
    membership = tmp_path / "membership"
    membership.write_text("0::/a/b\n")
    assert list(memory._free_in_groups(membership, tmp_path / "2")) == [150]
    membership.write_text("7:cpu,cpuacct:/c\n3:memory:/c\n")
    assert list(memory._free_in_groups(membership, tmp_path / "1")) == [600]
    assert not list(memory._free_in_groups(tmp_path / "none", tmp_path))


def test_the_least_of_what_is_free_counts(monkeypatch):
    free = memory.memory_limit() - memory.memory_in_use()
    assert free > 0
    monkeypatch.setattr(memory, "_free_in_groups", lambda: [10 * MIB])
    assert memory.memory_limit() - memory.memory_in_use() == pytest.approx(10 * MIB, abs=5 * MIB)
    own = memory.psutil.Process().memory_info().vms + memory._UNUSED_ADDRESSES
    monkeypatch.setattr(resource, "getrlimit", lambda _: (own + 3 * MIB, -1))
    assert memory.memory_limit() - memory.memory_in_use() <= 3 * MIB


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"), True),
        (RuntimeError("Exception ...\n\n\x1b[1mcould not create a primitive\x1b[0m\n\n"), True),
        (ValueError("shapes do not match"), False),
    ],
)
def test_errors_that_say_that_memory_ran_out(error, says):
    assert is_out_of_memory(error) == says


def test_the_reason_is_the_line_that_tells_it():
    error = RuntimeError(
        "Exception encountered when calling ConvNorm.call().\n\n\x1b[1m[enforce fail at "
        "alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 2150400 bytes.\x1b[0m\n\nArguments received by ConvNorm.call():\n  • inputs=..."
    )
    reason = memory.out_of_memory_reason(error)
    assert reason.startswith("[enforce fail") and reason.endswith("2150400 bytes.")
    assert memory.out_of_memory_reason(MemoryError("so many")) == "so many"
    assert memory.out_of_memory_reason(MemoryError()) == "MemoryError"


def test_steps_are_divided_until_they_fit():
    step = StepMemory(one=100 * MIB, each=50 * MIB, weights=0)
    assert [step.of(images) for images in (1, 2, 12)] == [100 * MIB, 150 * MIB, 650 * MIB]
    for limit, parts in ((900, 1), (640, 2), (480, 3), (350, 4), (300, 6), (240, 12)):
        made = plan_steps(step, 12, Room(100 * MIB, limit * MIB))
        assert made.parts == parts
        assert made.peak == 100 * MIB + step.of(12 // parts) <= plan.USED * limit * MIB
        assert made.whole == 750 * MIB
    assert "12 parts of 1" in str(made) and "0.73 GiB" in str(made)
    with pytest.raises(UserError, match="single image takes 0.20 GiB.*with --remat"):
        plan_steps(step, 12, Room(100 * MIB, 200 * MIB))


def test_a_measurement_is_made_once(monkeypatch, tmp_path):
    monkeypatch.setenv("FRCNN_CACHE", str(tmp_path))
    built = []

    def build():
        built.append(1)
        return tiny_network()

    step = measure_step(build, (64, 96), 8, 4, ("tiny",))
    assert measure_step(build, (64, 96), 8, 4, ("tiny",)) == step and len(built) == 1
    assert measure_step(build, (64, 96), 8, 4, ("other",)).weights == step.weights > 0
    assert len(built) == 2
    monkeypatch.setattr(plan, "_measured", lambda *_: (step, 4))  # as if on a GPU
    monkeypatch.setattr(plan, "on_gpu", lambda: True)
    assert measure_step(build, (64, 96), 8, 4, ("tiny",)) == step
    kept = json.loads((tmp_path / "step-memory.json").read_text())
    assert len(kept) == 3 and sum(" gpu " in key for key in kept) == 1
    monkeypatch.undo()
    monkeypatch.setenv("FRCNN_CACHE", str(tmp_path))
    (tmp_path / "step-memory.json").write_text("[[[")
    measure_step(build, (64, 96), 8, 4, ("tiny",))
    assert len(built) == 3


def test_what_was_freed_before_is_measured_all_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("FRCNN_CACHE", str(tmp_path))
    canvas = 512, 768  # 35 MB a picture, beside which a long process's own ups and downs are small
    measure_step(tiny_network, canvas, 8, 4, ("to load what it uses",))
    blocks = [np.ones(48 << 10, np.uint8) for _ in range(4000)]
    some = blocks[::50]
    del blocks
    assert measure_step(tiny_network, canvas, 8, 4, ("tiny",)).one > 24 * MIB
    assert len(some) == 80


@pytest.mark.parametrize(("free", "measured"), [(1000, [1, 4]), (340, [1, 3]), (150, [1])])
def test_no_more_images_are_measured_than_surely_fit(free, measured, monkeypatch, tmp_path):
    monkeypatch.setenv("FRCNN_CACHE", str(tmp_path))
    tried = []

    def peak(network, images, *_):
        tried.append(images)
        return (60 + 40 * images) * MIB

    monkeypatch.setattr(plan, "_peak", peak)
    monkeypatch.setattr(plan, "memory_in_use", lambda: 0)
    monkeypatch.setattr(plan, "memory_limit", lambda: free * MIB)
    step = measure_step(tiny_network, (64, 96), 8, 9, ())
    assert tried == measured
    each = 40 * MIB if len(measured) > 1 else 100 * MIB
    assert (step.one, step.each) == (100 * MIB, each)
    measure_step(tiny_network, (64, 96), 8, 9, ())  # kept if it was all that is of use
    assert tried == (measured if measured == [1, 4] else 2 * measured)


@pytest.mark.parametrize(
    ("limit", "words"), [(500, ["yes", "yes", "yes", "in parts"]), (100, ["no"] * 4)]
)
def test_the_table_says_what_fits(limit, words, monkeypatch, capsys):
    def measure(build, *_):
        assert build().remat
        return StepMemory(100 * MIB, 100 * MIB, 0)

    room = Room(0, limit * MIB)
    monkeypatch.setattr(plan.Room, "now", lambda: room)
    monkeypatch.setattr(planning, "build_network", lambda name, classes: tiny_network(classes))
    monkeypatch.setattr(planning, "measure_step", measure)
    planning.print_plan("resnet50_fpn", 64, 5, 3, remat=True)
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "GiB │" in line]
    assert [(int(row[1]), row[3].strip()) for row in rows] == list(
        zip((1, 2, 4, 5), words, strict=True)
    )


def test_no_memory_to_measure_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("FRCNN_CACHE", str(tmp_path))

    def build():
        raise MemoryError("so many bytes")

    with pytest.raises(UserError, match="96x64 pixels: so many bytes. Train with"):
        measure_step(build, (64, 96), 8, 4, ())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    splits = {"train": range(12), "val": range(8, 10)}
    return write_voc(tmp_path_factory.mktemp("data") / "voc", 12, splits)


def trained(data, out):
    console = Console(file=io.StringIO(), width=200)
    config = Config(str(data), out=str(out), batch=4, size=64, epochs=2, warmup=0)
    run = train(config, console)
    return run, console.file.getvalue()


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    return trained(data, tmp_path_factory.mktemp("runs") / "whole")


def assert_same_training(run, other):
    """Losses of all epochs, as near as they stay: rounding decides between proposals at times."""
    for one, two in zip(history_of(run), history_of(other), strict=True):
        for name in ("loss", *LOSSES):
            assert float(two[name]) == pytest.approx(float(one[name]), rel=0.03), name


def test_a_step_that_does_not_fit_is_taken_in_parts(whole, data, tmp_path, monkeypatch):
    run, text = whole
    assert "Memory: " in text and "parts" not in text
    used = memory.memory_in_use()
    step = StepMemory(used, used, 0)
    monkeypatch.setattr("frcnn.training.train.measure_step", lambda *_: step)
    room = Room(0, int(2.5 * used))
    monkeypatch.setattr(plan.Room, "now", lambda: room)
    together, detect = [], Detector.detect
    monkeypatch.setattr(
        Detector,
        "detect",
        lambda self, paths, batch, **more: (
            together.append(batch) or detect(self, paths, batch=batch, **more)
        ),
    )
    other, text = trained(data, tmp_path / "parts")
    assert together == [2, 2]  # validation takes no more images at once than a step
    assert "in 2 parts of 2" in text
    assert read_state(other.state)[1].parts == 2
    assert_same_training(run, other)


def test_memory_that_runs_out_all_the_same(whole, data, tmp_path, monkeypatch):
    count, steps = History.on_train_batch_end, []

    def fail_once(self, batch, logs=None):
        steps.append(batch)
        if len(steps) == 5:  # the second of the second epoch
            raise RuntimeError("can't allocate memory")
        count(self, batch, logs)

    monkeypatch.setattr(History, "on_train_batch_end", fail_once)
    run, text = trained(data, tmp_path / "run")
    assert "Memory ran out: can't allocate memory. From now on" in text and "2 parts" in text
    assert "Going on in epoch 2 after step 0 of 3." in text
    assert_same_training(whole[0], run)


def test_memory_that_does_not_suffice_for_one_image_is_a_sentence(data, tmp_path, monkeypatch):
    def fail(self, batch, logs=None):
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(History, "on_train_batch_end", fail)
    with pytest.raises(TrainingError, match="single images.*--resume .*run. Or .*--remat"):
        trained(data, tmp_path / "run")


def test_an_error_of_another_kind_ends_the_training(data, tmp_path, monkeypatch):
    def fail(self, batch, logs=None):
        raise RuntimeError("of another kind")

    monkeypatch.setattr(History, "on_train_batch_end", fail)
    with pytest.raises(RuntimeError, match="of another kind"):
        trained(data, tmp_path / "run")


def test_copies_of_the_weights_are_planned_for():
    step = StepMemory(one=100 * MIB, each=50 * MIB, weights=20 * MIB)
    assert step.with_copies(2).of(3) == step.of(3) + 40 * MIB
    assert step.with_copies(0) == step
