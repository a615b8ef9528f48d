"""Frames of videos, cameras and network streams, each with its place in time; no Keras."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from frcnn.errors import UserError, printable

SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".wmv",
    ".flv", ".3gp", ".ogv",
)  # fmt: skip
CAMERA = "camera"
STREAMS = ("rtsp://", "rtsps://")

MAX_PIXELS = 1 << 26  # of a frame: the next power of two above 8K's
MAX_RATE = Fraction(1000)  # frames a second that are believed
USUAL_RATE = Fraction(25)  # where a video states none that can be
SECONDS = 10.0  # without anything from a stream, after which it has ended
# What FFmpeg may take a file for, and where it may go: a playlist from outside, whatever its name,
# must not have it open other files and addresses.
_FILE = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,matroska,avi,mpeg,mpegts,mpegvideo,m4v,asf,flv,ogg,h264,hevc",
}
_STREAM = {
    "protocol_whitelist": "rtsp,rtp,rtcp,tcp,udp,tls,srtp",
    "format_whitelist": "rtsp",
    "rtsp_transport": "tcp",  # by UDP lost packets are smeared pictures
}
UNSPECIFIED, BT709 = 2, 1  # ITU-T H.273: numbers of matrices, transfers and primaries
_SD_HEIGHT = 576  # larger frames that say nothing of their colours are BT.709 to players
_MOST_ASPECT = 16
_DEVICES = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}


class Frame(NamedTuple):
    """One picture of a video."""

    index: int  # counted from 0 among those decoded
    time: float  # seconds, as the container states it
    image: np.ndarray  # uint8 (H, W, 3), RGB, upright
    aspect: Fraction = Fraction(1)  # a pixel's width by its height, where it is shown


@dataclass
class Video:
    """An open video.

    Args:
        name: what the user called it.
        pixels: of a frame, as stated.
        rate: frames a second, on average, as stated.
        aspect: a pixel's width by its height, as stated, before frames are turned upright.
        count: frames, as stated; None: nothing is, or it is endless.
        about: frames, as stated or by the length and the rate; None: unknown or endless.
        live: it goes on whether it is read or not.

    Attributes:
        failures: packets of a file that were damaged, of those read so far.
    """

    name: str
    pixels: int
    rate: Fraction
    aspect: Fraction
    count: int | None
    about: int | None
    live: bool
    _container: Any
    _stream: Any
    failures: int = 0

    def frames(self) -> Iterator[Frame]:
        """Decode frame after frame, in the order in which they are shown.

        What is damaged is left out.

        Raises:
            UserError: none can be decoded, or one is of more than ``MAX_PIXELS``.
        """
        index = 0
        for frame in self._decoded():
            check_size(self.name, frame.width, frame.height)
            try:
                pixels = _upright(frame)
            except import_av().error.FFmpegError:
                continue
            time = frame.time if frame.time is not None else float(index / self.rate)
            aspect = 1 / self.aspect if _turns(frame) % 2 else self.aspect
            yield Frame(index, time, pixels, aspect)
            index += 1
        if not index:
            raise UserError(f"{self.name} has no frames that can be decoded.")

    def _decoded(self) -> Iterator[Any]:
        failures = import_av().error.FFmpegError
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except failures:  # the rest of the file is missing, or the stream has ended
                self.failures += not self.live
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except failures:
                self.failures += not self.live
                continue
            damaged = packet.is_corrupt or any(frame.is_corrupt for frame in frames)
            self.failures += damaged and not self.live
            yield from frames


def is_video(source: str | os.PathLike) -> bool:
    """Whether this names a video, a camera (``camera``, ``camera:1``) or a stream."""
    text = str(source)
    if re.fullmatch(rf"{CAMERA}(:\d{{1,3}})?", text) and not os.path.exists(text):
        return True
    return text.lower().startswith(STREAMS) or Path(text).suffix.lower() in SUFFIXES


@contextmanager
def open_video(source: str | os.PathLike) -> Iterator[Video]:
    """Open a video file, a camera or a stream of RTSP, for reading.

    Raises:
        UserError: it does not exist, is no video, states frames of more than ``MAX_PIXELS``, or
            PyAV is not installed.
    """
    av = import_av()
    name = _shown(str(source))
    place, options, live = _place(str(source))
    try:
        container = av.open(place, timeout=(SECONDS, SECONDS), metadata_errors="replace", **options)
    except av.error.FFmpegError as error:
        raise UserError(f"{name} cannot be opened as a video: {_reason(error)}.") from None
    with container:
        if not container.streams.video:
            raise UserError(f"{name} has no pictures in it, only {_kinds(container)}.")
        stream = container.streams.video[0]
        context = stream.codec_context
        if context is None:
            raise UserError(f"{name} is in a format that FFmpeg here cannot decode.")
        check_size(name, context.width, context.height)
        # Before pictures of a size that a damaged frame states are made room for.
        context.options = {"max_pixels": str(MAX_PIXELS)}
        stream.thread_type = "AUTO"
        yield _described(name, container, stream, live)


def check_source(source: str | os.PathLike) -> None:
    """Refuse what ``open_video`` would refuse without opening it.

    Raises:
        UserError: there is no such file or camera.
    """
    _place(str(source))


def _shown(source: str) -> str:
    """The name for people: addresses without the password that is in them."""
    return printable(re.sub(r"//[^/@]*@", "//", source))


def _described(name: str, container: Any, stream: Any, live: bool) -> Video:
    rate = stream.average_rate or stream.guessed_rate or USUAL_RATE
    if not 0 < rate <= MAX_RATE:
        rate = USUAL_RATE
    count = None if live or stream.frames <= 0 else stream.frames
    about = count
    if count is None and not live and container.duration and container.duration > 0:
        about = round(container.duration / 1_000_000 * rate)
    aspect = stream.sample_aspect_ratio
    if not aspect or not 1 / _MOST_ASPECT <= aspect <= _MOST_ASPECT:
        aspect = Fraction(1)
    pixels = stream.codec_context.width * stream.codec_context.height
    rate, aspect = Fraction(rate), Fraction(aspect)
    return Video(name, pixels, rate, aspect, count, about, live, container, stream)


def _place(source: str) -> tuple[str, dict[str, Any], bool]:
    """What is opened, how, and whether it is live."""
    if source.lower().startswith(STREAMS):
        return source, {"options": _STREAM}, True
    if re.fullmatch(rf"{CAMERA}(:\d+)?", source) and not os.path.exists(source):
        return *_camera(int(source.partition(":")[2] or 0)), True
    path = os.path.abspath(source)
    if not os.path.exists(path):
        raise UserError(f"There is no file {source}. Check the spelling.")
    if not os.path.isfile(path):
        raise UserError(f"{source} is not a file.")
    return path, {"options": _FILE}, False


def _camera(number: int) -> tuple[str, dict[str, Any]]:
    if sys.platform not in _DEVICES:
        raise UserError("Cameras are read on Linux and macOS; record to a file and name that.")
    kind, pattern = _DEVICES[sys.platform]
    place = pattern.format(number)
    if place.startswith("/dev/") and not os.path.exists(place):
        raise UserError(f"No camera {number} was found: there is no {place}.")
    return place, {"format": kind}


def _upright(frame: Any) -> np.ndarray:
    """The frame's pixels, turned as it says that it is to be shown."""
    if frame.colorspace == UNSPECIFIED and frame.height > _SD_HEIGHT:
        frame.colorspace = BT709
    try:
        pixels = frame.to_ndarray(format="rgb24")
    except import_av().error.FFmpegError:  # it states colours that FFmpeg does not know
        frame.colorspace = frame.color_trc = frame.color_primaries = UNSPECIFIED
        pixels = frame.to_ndarray(format="rgb24")
    turns = _turns(frame)
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _turns(frame: Any) -> int:
    """Quarters, counter-clockwise, that the frame is to be turned by."""
    return round(frame.rotation / 90) % 4


def check_size(name: str, width: int, height: int) -> None:
    """Refuse frames that are too large.

    Raises:
        UserError: they have no pixels, or more than ``MAX_PIXELS``.
    """
    if width < 1 or height < 1:
        raise UserError(f"{name} does not say how large its frames are: it is damaged.")
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{name} has frames of {width}x{height} pixels, more than the limit of {MAX_PIXELS:,}."
        )


def import_av() -> Any:
    """PyAV.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        raise UserError(
            "Videos are read by PyAV, which is not installed. Install it with "
            "`pip install 'frcnn[video]'`."
        ) from None
    return av


def _reason(error: Any) -> str:
    return printable(str(error.strerror or error)).rstrip(".").lower()[:200]


def _kinds(container: Any) -> str:
    kinds = sorted({stream.type or "unknown" for stream in container.streams})
    return " and ".join(kinds) or "nothing"
