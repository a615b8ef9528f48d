"""What memory there is, and how much of it a piece of work takes at most."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

from frcnn.training import device_memory

_EVERY = 0.002  # seconds between looks at the memory in use
# Phrases by which PyTorch, JAX, TensorFlow, OpenCV and NumPy say that memory ran out.
_PHRASES = ("out of memory", "can't allocate memory", "resource_exhausted", "resource exhausted")
_PHRASES += ("failed to allocate", "unable to allocate", "insufficient memory", "bad_alloc")
_PHRASES += ("could not create a primitive", "could not create a memory")  # of oneDNN
# Addresses that are taken beyond the memory in use: 64 MiB for the blocks of each thread that comes
# to allocate, 8 MiB for its stack, and libraries. A training on two cores took 0.33 GiB.
_UNUSED_ADDRESSES = 400 << 20
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


class PeakMemory:
    """The most memory in use within a ``with`` block.

    Attributes:
        bytes: of the GPU that Keras computes on; without one, of this process.
    """

    def __init__(self):
        self.bytes = 0
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="frcnn-memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        if device_memory.on_gpu():
            device_memory.forget_peak()
        else:
            self._watcher.start()
        return self

    def __exit__(self, *_):
        if device_memory.on_gpu():
            self.bytes = device_memory.peak()
            return
        self._ended.set()
        self._watcher.join()

    def _watch(self):
        process = psutil.Process()
        while True:
            self.bytes = max(self.bytes, process.memory_info().rss)
            if self._ended.wait(_EVERY):
                return


def give_back() -> None:
    """Give the system what the C library keeps of freed memory, where it can be told to."""
    gc.collect()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def memory_in_use() -> int:
    """Bytes of the GPU that Keras computes on; without one, those of this process."""
    return device_memory.in_use() if device_memory.on_gpu() else psutil.Process().memory_info().rss


def memory_limit() -> int:
    """Bytes that may come to be in use, what is in use included.

    On a CPU the least of what is free, the limits of the control groups this process is in, and
    that of its address space.
    """
    if device_memory.on_gpu():
        return device_memory.in_use() + device_memory.free()
    free = [psutil.virtual_memory().available, *_free_in_groups(), *_free_addresses()]
    return memory_in_use() + max(min(free), 0)


def _free_addresses() -> Iterator[int]:
    try:
        import resource
    except ImportError:  # Windows has none
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit - psutil.Process().memory_info().vms - _UNUSED_ADDRESSES


def _free_in_groups(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> Iterator[int]:
    """What the memory limits of Linux's control groups, versions 1 and 2, leave free."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            names = root, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            names = (
                root / "memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
        else:
            continue
        # A container sees its own group as the root, whatever the path says.
        for folder in {names[0] / group.strip("/"), *(names[0] / group.strip("/")).parents}:
            if folder.is_relative_to(names[0]):
                yield from _free_in_group(folder, *names[1:])


def _free_in_group(folder: Path, limit: str, usage: str, cache: str) -> Iterator[int]:
    try:
        most, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return
    if most != "max":
        yield int(most) - used + int(facts.get(cache, 0))  # files in memory make room when asked


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of any backend says that memory ran out."""
    kind = type(error).__name__
    return isinstance(error, MemoryError) or _tells(f"{kind}: {error}")


def out_of_memory_reason(error: BaseException) -> str:
    """What the error says of memory, on one line: Keras adds the layer and its arguments."""
    lines = [line.strip() for line in _ESCAPES.sub("", str(error)).splitlines()]
    lines = [*filter(_tells, lines), *filter(None, lines), type(error).__name__]
    return f"{lines[0]:.200}"


def _tells(text: str) -> bool:
    return any(phrase in text.lower() for phrase in _PHRASES)
