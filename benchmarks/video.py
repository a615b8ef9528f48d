"""A two-minute video through the whole command, against the network alone on the same frames.

    pip install "frcnn[video]"
    python benchmarks/video.py RUN FOLDER [--seconds 120] [--rate 25]

The video is made of the folder's pictures, moved and zoomed. The network's own speed is that of
``detect`` on frames of it that are decoded already. Prints frames a second of both, their ratio
last, and the memory at the start and at the end.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import av
import cv2
import numpy as np
import psutil

from frcnn.apps.video_predictions import BATCH, write_video_predictions
from frcnn.data.images import read_image
from frcnn.inference.load import load
from frcnn.inference.sources import find_images
from frcnn.inference.video import open_video

SIZE = (480, 640)  # height, width
DECODED = 64  # frames on which the network's own speed is measured
ROUNDS = 2


def scenes(folder: str, count: int, rate: int) -> Iterator[np.ndarray]:
    """Frames that move slowly over one picture after another."""
    height, width = SIZE
    pictures = itertools.cycle(find_images([folder])[:48])
    for number in range(count):
        step = number % (2 * rate)
        if step == 0:
            whole = cv2.resize(read_image(next(pictures)), (width + 100, height + 100))
        yield np.ascontiguousarray(whole[step : step + height, 2 * step : 2 * step + width])


def write_film(path: Path, folder: str, count: int, rate: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "superfast"})
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(scenes(folder, count, rate)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def own_speed(detector, film: Path) -> float:
    """Images a second of the detector, on decoded frames."""
    with open_video(film) as video:
        images = [frame.image for frame in itertools.islice(video.frames(), DECODED)]
    detector.detect(images, 0.5, BATCH)
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        detector.detect(images, 0.5, BATCH)
        times.append(time.perf_counter() - started)
    return DECODED / min(times)


class Memory(threading.Thread):
    """Looks at this process's memory every half second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.seen: list[float] = []
        self.ended = threading.Event()

    def run(self) -> None:
        process = psutil.Process()
        while not self.ended.wait(0.5):
            self.seen.append(process.memory_info().rss / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the detection of a video.")
    parser.add_argument("run")
    parser.add_argument("folder")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--rate", type=int, default=25)
    parser.add_argument("--track", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        film, out, rows = (Path(place, name) for name in ("film.mp4", "out.mp4", "rows.json"))
        count = given.seconds * given.rate
        write_film(film, given.folder, count, given.rate)
        detector = load(given.run)
        alone = own_speed(detector, film)
        memory = Memory()
        memory.start()
        done = write_video_predictions(detector, str(film), 0.5, out, rows, given.track)
        memory.ended.set()
        memory.join()
        after = own_speed(detector, film)  # a machine may be slower when it is warm
        frames = len(json.loads(rows.read_text())["frames"])
        with open_video(out) as video:
            drawn = sum(1 for _ in video.frames())
    assert frames == drawn == count
    tenth = len(memory.seen) // 10 + 1
    speed = done.frames / done.seconds
    own = (alone + after) / 2
    print(f"{done}")
    print(f"memory (MiB) of the first tenth   {max(memory.seen[:tenth]):.0f}")
    print(f"memory (MiB) of the last tenth    {max(memory.seen[-tenth:]):.0f}")
    print(f"network alone (images/s)          {alone:.1f} before, {after:.1f} after")
    print(f"the video (frames/s)              {speed:.1f}")
    print(f"ratio                             {speed / own:.3f}")


if __name__ == "__main__":
    main()
