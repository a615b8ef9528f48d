"""Writing a video, each frame at its own time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from frcnn.errors import UserError
from frcnn.inference.video import BT709, import_av

SUFFIXES = (".mp4", ".mov", ".mkv")
# Of which the usual rates take whole numbers, and which MPEG-4 can still count.
_TICK = Fraction(1, 60_000)
# H.264 is played everywhere; MPEG-4 is in every FFmpeg. Both as fast as they are, for the network
# wants the same processor.
_CODECS = {
    "libx264": {"preset": "ultrafast", "crf": "23"},
    "mpeg4": {"flags": "+qscale", "global_quality": str(4 * 118)},  # 118 is one step
}

_LIMITED = 1  # FFmpeg's number of the range of colours that videos have: 16 to 235

Draw = Callable[[np.ndarray, float, Fraction], None]


@contextmanager
def open_writer(path: str | Path, rate: Fraction) -> Iterator[Draw]:
    """A function that takes frames, uint8 (H, W, 3), their times in seconds, and the width of
    their pixels by the height.

    The file can be played when it is closed, whatever ended the writing; without frames there is
    none. All frames are as large as the first, others are cut or bordered with black; the shape of
    its pixels is that of all. Colours are BT.709's, and said to be.

    Args:
        path: of the file, ending in .mp4, .mov or .mkv.
        rate: frames a second, about.

    Raises:
        UserError: another ending, or it cannot be written.
    """
    av = import_av()
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"A video is written to {', '.join(SUFFIXES)}. Received: {path}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = _Writer(av.open(str(path), "w"), rate)
        try:
            yield writer.write
        finally:
            writer.close()
            if not writer.begun:
                path.unlink()
    except (OSError, av.error.FFmpegError) as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error


class _Writer:
    def __init__(self, container: Any, rate: Fraction):
        self._av = import_av()
        self._container = container
        self._rate = rate
        self._stream: Any = None
        self._first = 0.0
        self._last = -1  # tick of the last frame
        self._failed = False

    @property
    def begun(self) -> bool:
        """Whether there was a frame."""
        return self._stream is not None

    def write(self, image: np.ndarray, time: float, aspect: Fraction) -> None:
        if self._stream is None:
            self._stream = self._new_stream(image, aspect)
            self._first = time
        size = self._stream.height, self._stream.width
        frame = self._av.VideoFrame.from_ndarray(_fitted(image, size), format="rgb24")
        frame = frame.reformat(
            format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
        )  # else it is BT.601
        # Times of a damaged video may stand still or go back; a file's may not.
        self._last = max(self._last + 1, round((time - self._first) / _TICK))
        frame.pts, frame.time_base = self._last, _TICK
        self._encode(frame)

    def close(self) -> None:
        with self._container:
            # FFmpeg ends the process where a file goes on whose head could not be written.
            if self._stream is not None and not self._failed:
                self._encode(None)

    def _encode(self, frame: Any) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except self._av.error.FFmpegError:
            self._failed = True
            raise

    def _new_stream(self, image: np.ndarray, aspect: Fraction) -> Any:
        name = next(each for each in _CODECS if each in self._av.codecs_available)
        stream = self._container.add_stream(name, rate=self._rate, options=_CODECS[name])
        height, width = image.shape[:2]
        # Colours are stored for two by two pixels.
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = _TICK
        context.sample_aspect_ratio = aspect
        context.colorspace = context.color_trc = context.color_primaries = BT709
        context.color_range = _LIMITED
        return stream


def _fitted(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    fitted = np.zeros((*size, 3), np.uint8)
    height, width = (min(pair) for pair in zip(size, image.shape[:2], strict=True))
    fitted[:height, :width] = image[:height, :width]
    return fitted
