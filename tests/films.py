"""Videos small enough to make in a test."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

TICK = Fraction(1, 90_000)


def level(value: int, size=(64, 96)) -> np.ndarray:
    """A grey frame; a detector of ``exported`` scores it by how bright it is."""
    return np.full((*size, 3), value, np.uint8)


def write_film(
    path: Path,
    frames: Iterable[np.ndarray],
    rate: int = 10,
    ticks=None,
    codec="libx264",
    aspect=1,
    sound: float = 0.0,
) -> Path:
    """A video of these frames, at an even rate or at these ticks, with so many seconds of sound."""
    options = {"crf": "1", "preset": "ultrafast"} if codec == "libx264" else {}
    with av.open(str(path), "w") as container:
        stream = None
        voice = container.add_stream("aac", rate=8000, layout="mono") if sound else None
        for number, image in enumerate(frames):
            if stream is None:
                stream = container.add_stream(codec, rate=rate, options=options)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.sample_aspect_ratio = aspect
                stream.codec_context.time_base = TICK if ticks else Fraction(1, rate)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = ticks[number] if ticks else number
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
        if voice is not None:
            _sing(container, voice, round(sound * 8000))
    return path


def _sing(container, voice, samples: int) -> None:
    """Silence, behind the pictures."""
    for start in range(0, samples, 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate, frame.pts, frame.time_base = 8000, start, Fraction(1, 8000)
        container.mux(voice.encode(frame))
    container.mux(voice.encode(None))


def read_film(path: Path) -> tuple[list[np.ndarray], list[float]]:
    """All frames and their times."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return [each.to_ndarray(format="rgb24") for each in frames], [each.time for each in frames]
