"""Fuzz one reader with Atheris: ``python fuzz/run.py voc --seconds 3600``.

It ends at the first input that raises what the reader does not promise, takes longer than thirty
seconds or more than two gigabytes, or crashes the process; that input is kept in ``fuzz/crashes``.
The exit status is 0 if there was none. With ``--input FILE`` it reads one input again.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
CRASHES = HERE / "crashes"
CORPUS = HERE / "corpus"  # what was found to reach new code, of all runs
SECONDS_AN_INPUT, MEGABYTES, LONGEST = 30, 2048, 16_384
# Few threads and the lightest Keras: nothing of what is fuzzed computes.
QUIET = {"KERAS_BACKEND": "numpy", "OPENCV_LOG_LEVEL": "OFF", "OMP_NUM_THREADS": "1"}


def main() -> None:
    """Run the reader in a process of its own, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader", help="of fuzz/targets.py")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--input", type=Path, help="read this one input instead")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)  # the folder to work in
    given = parser.parse_args()
    if given.inside:
        fuzz(given.reader, given.seconds, given.input, given.inside)
    shared_memory = Path("/dev/shm")  # each input is written to a file
    with tempfile.TemporaryDirectory(
        dir=shared_memory if shared_memory.is_dir() else None
    ) as folder:
        log = Path(folder, "log")
        began = time.monotonic()
        with log.open("wb") as file:
            command = [sys.executable, __file__, *sys.argv[1:], "--inside", folder]
            environment = os.environ | QUIET
            if given.reader == "keras":  # NumPy's layers compute to tell their shapes
                environment["KERAS_BACKEND"] = "torch"
            status = subprocess.run(command, stderr=file, env=environment).returncode
        text = log.read_text("utf-8", "replace")
        seconds = time.monotonic() - began
    found = re.search(r"stat::number_of_executed_units:\s*(\d+)", text)
    peak = re.search(r"stat::peak_rss_mb:\s*(\d+)", text)
    print(
        f"{given.reader}: {int(found[1]) if found else 0:,} executions in {seconds:.0f} s, "
        f"at most {peak[1] if peak else '?'} MB; {'a crash' if status else 'no crash'}"
    )
    if status:
        print("\n".join(text.splitlines()[-60:]))
    sys.exit(bool(status))


def fuzz(reader: str, seconds: int, single: Path | None, folder: Path) -> None:
    """Fuzz here, and end the process."""
    import atheris

    with atheris.instrument_imports(include=["frcnn"]):
        from targets import TARGETS, fork_trials

        seeds, read = TARGETS[reader](folder)
    if reader == "keras_h5":
        fork_trials()
    if single:
        read(single.read_bytes())
        sys.exit(0)
    corpus = CORPUS / reader
    for path in (corpus, CRASHES):
        path.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = {
        "max_total_time": seconds,
        "timeout": SECONDS_AN_INPUT,
        "rss_limit_mb": MEGABYTES,
        "max_len": LONGEST,
        "artifact_prefix": f"{CRASHES / reader}-",
        "print_final_stats": 1,
    }
    atheris.Setup(
        [sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(corpus)], read
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
