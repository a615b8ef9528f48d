"""A server of detections under many clients at once: errors, latencies, and the same answers.

    python benchmarks/serve_load.py RUN FOLDER [--clients 64] [--seconds 120]

RUN is a detector, FOLDER has pictures. The command starts ``frcnn serve RUN`` on a free port of
this machine, and talks to nothing else; each client posts one picture after another. Every answer
is compared with what ``frcnn predict`` writes of the same pictures.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from frcnn.inference.sources import find_images

MOST_REQUESTS = 50_000
MOST_CLIENTS = 256
BOUNDARY = "frontier"
COMMAND = [sys.executable, "-m", "frcnn"]


@dataclass
class Seen:
    """What the clients have seen."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter = field(default_factory=Counter)
    exact: int = 0
    box: float = 0.0
    score: float = 0.0
    others: int = 0  # answers with other objects


def predicted(run: str, pictures: list[Path], score: float) -> list[list[dict]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "found.json")
        given = [*map(str, pictures), "--score", str(score), "--json", str(file)]
        subprocess.run([*COMMAND, "predict", run, *given], check=True)
        return [row["detections"] for row in json.loads(file.read_text())]


@contextmanager
def served(run: str, batch: int) -> Iterator[tuple[psutil.Process, int]]:
    more = ["--port", "0", "--rate", "0", "--batch", str(batch)]
    command = [*COMMAND, "serve", run, *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+);", line)
            if found is None:
                sys.exit(f"The server did not start: {line}")
            yield psutil.Process(process.pid), int(found[1])
            process.send_signal(signal.SIGTERM)
            print(f"exit status after SIGTERM: {process.wait(60)}")
        finally:
            process.kill()


def body_of(picture: Path) -> bytes:
    head = f'Content-Disposition: form-data; name="images"; filename="{picture.name}"'
    start = f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode()
    return start + picture.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()


def compare(seen: Seen, found: list[dict], expected: list[dict]) -> None:
    if found == expected:
        seen.exact += 1
    elif [each["label"] for each in found] != [each["label"] for each in expected]:
        seen.others += 1
    else:
        for name in ("box", "score"):
            pair = [np.array([each[name] for each in rows]) for rows in (found, expected)]
            setattr(seen, name, max(getattr(seen, name), float(np.abs(pair[0] - pair[1]).max())))


def client(port: int, work: Iterator[int], bodies, expected, until: float, path: str, seen: Seen):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    for number in work:
        if time.monotonic() > until:
            break
        started = time.perf_counter()
        try:
            connection.request("POST", path, bodies[number % len(bodies)], kind)
            answer = connection.getresponse()
            text = answer.read()
            seen.statuses[answer.status] += 1
        except OSError as error:
            seen.statuses[type(error).__name__] += 1
            connection.close()
            continue
        seen.seconds.append(time.perf_counter() - started)
        if answer.status == 200:
            compare(seen, json.loads(text)[0]["detections"], expected[number % len(bodies)])
    connection.close()


def metric(port: int, name: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return next(float(row.split()[1]) for row in text.splitlines() if row.startswith(f"{name} "))


def main() -> None:
    parser = argparse.ArgumentParser(description="Load a server of detections.")
    parser.add_argument("run")
    parser.add_argument("folder")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--score", type=float, default=0.5)
    given = parser.parse_args()
    clients, seconds = min(given.clients, MOST_CLIENTS), min(given.seconds, 600)

    pictures = find_images([given.folder])[: given.pictures]
    expected = predicted(given.run, pictures, given.score)
    bodies = [body_of(picture) for picture in pictures]
    work = iter(itertools.islice(itertools.count(), MOST_REQUESTS))
    lock = threading.Lock()

    def shared() -> Iterator[int]:
        while True:
            with lock:
                number = next(work, None)
            if number is None:
                return
            yield number

    seen = [Seen() for _ in range(clients)]
    with served(given.run, given.batch) as (process, port):
        path = f"/v1/detect?score={given.score}"
        warm = Seen()
        client(port, iter(range(len(bodies))), bodies, expected, time.monotonic() + 30, path, warm)
        before = process.memory_info().rss
        began, until = time.monotonic(), time.monotonic() + seconds
        threads = [
            threading.Thread(
                target=client, args=(port, shared(), bodies, expected, until, path, each)
            )
            for each in seen
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
        after = process.memory_info().rss
        batches = metric(port, "frcnn_batch_pictures_count")
        mean = metric(port, "frcnn_pictures_total") / batches
    report(seen, warm, clients, took, (before, after), mean)


def report(seen: list[Seen], warm: Seen, clients: int, took: float, memory, batch: float) -> None:
    times = np.concatenate([each.seconds for each in seen]) * 1000
    statuses = sum((each.statuses for each in seen), Counter())
    errors = sum(count for status, count in statuses.items() if status != 200)
    alone = np.median(warm.seconds) * 1000
    p50, p90, p99 = np.percentile(times, (50, 90, 99))
    rows = {
        "clients, s": f"{clients}, {took:.0f}",
        "requests": f"{len(times):,}",
        "errors": f"{errors} {dict(statuses)}",
        "images/s": f"{len(times) / took:.1f}",
        "latency p50, p90, p99, max (ms)": f"{p50:.0f}, {p90:.0f}, {p99:.0f}, {times.max():.0f}",
        "one client alone, median (ms)": f"{alone:.0f}",
        "mean batch": f"{batch:.1f}",
        "memory before, after (MiB)": ", ".join(f"{each / 2**20:.0f}" for each in memory),
        "answers equal to predict's": f"{sum(each.exact for each in seen):,}",
        "to rounding (px, score)": f"{max(each.box for each in seen):.2g}, "
        f"{max(each.score for each in seen):.2g}",
        "with other objects": f"{sum(each.others for each in seen)}",
    }
    for name, value in rows.items():
        print(f"{name:<34}{value}")


if __name__ == "__main__":
    main()
