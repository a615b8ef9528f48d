"""Detections of a video's frames: drawn into a video, and as rows; memory does not grow."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from frcnn.apps.json_rows import open_rows
from frcnn.apps.tracking import NOBODY, Tracker, TrackingRule
from frcnn.apps.video_writer import SUFFIXES, open_writer
from frcnn.console import counting
from frcnn.draw import draw_boxes
from frcnn.errors import UserError
from frcnn.inference.ahead import ahead
from frcnn.inference.pictures import PictureDetector
from frcnn.inference.preparation import Prepared
from frcnn.inference.video import SUFFIXES as VIDEOS
from frcnn.inference.video import Frame, Video, open_video
from frcnn.structures import Detections

BATCH = 8
MOST_WAITING = 2 * BATCH  # frames, decoded ahead
_MOST_BYTES = 256 << 20  # of these
UNSURE = 0.2  # of the least score: detections scored so much may go on with a track


class _Ready(NamedTuple):
    frame: Frame
    prepared: Prepared


class _Found(NamedTuple):
    frame: Frame
    detections: Detections
    tracks: np.ndarray | None  # int64 (N,), NOBODY where there is none


class Done(NamedTuple):
    """What was done.

    Args:
        frames: how many.
        stated: how many the video says that it has, if it does.
        failures: how many packets of it were damaged.
        objects: how many detections.
        seconds: from the first frame to the last.
    """

    frames: int
    stated: int | None
    failures: int
    objects: int
    seconds: float

    def __str__(self) -> str:
        missing = self.stated is not None and self.frames < 0.99 * self.stated - 1
        of = " and some that cannot be read" if self.failures else ""
        if missing:
            of = f" of {self.stated:,}, the rest cannot be read"
        rate = self.frames / max(self.seconds, 1e-9)
        return f"{self.frames:,} frames{of} ({rate:.1f} a second), {self.objects:,} objects"


def video_file(source: str, out: str | Path) -> Path:
    """The file to write: ``out`` if it is named as one, else one in that folder.

    Raises:
        UserError: it is the video itself, or named as one of a kind that is not written.
    """
    path = Path(out)
    if path.suffix.lower() in VIDEOS and path.suffix.lower() not in SUFFIXES and not path.is_dir():
        raise UserError(f"A video is written to {', '.join(SUFFIXES)}. Received: --out {out}.")
    if path.suffix.lower() not in SUFFIXES:
        name = "stream" if "://" in source else Path(source).stem.replace(":", "-")
        path = path / f"{name}.mp4"
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise UserError(f"{path} is the video itself: name another --out.")
    return path


def write_video_predictions(
    detector: PictureDetector,
    source: str,
    score: float,
    out: str | Path | None,
    rows: str | Path | None,
    track: bool = False,
) -> Done:
    """Detect on a video's frames, with a counter; what is done when it is interrupted stays.

    Decoding and the network run in threads of their own. A camera or a stream ends with Ctrl-C,
    and frames that come faster than the network are left out.

    Args:
        detector: what detects.
        source: a video file, ``camera``, ``camera:1`` or an address of RTSP.
        score: detections scored lower are left out.
        out: the video to write, with boxes drawn; None: none.
        rows: the JSON file to write: ``{"video": name, "frames": [...]}``, a frame a line:
            ``frame``, ``time`` in seconds, ``width``, ``height``, and ``detections`` as rows of
            ``Detections.to_dict``, with ``track``, a number or null, where tracks are wanted.
            None: none.
        track: follow objects from frame to frame.

    Raises:
        UserError: the video cannot be read, or what is to be written cannot be.
    """
    with ExitStack() as stack:
        video = stack.enter_context(open_video(source))
        advance = stack.enter_context(counting("detecting", video.about))
        draw = stack.enter_context(open_writer(out, video.rate)) if out else None
        begin = f'{{"video": {json.dumps(video.name)}, "frames": ['
        note = stack.enter_context(open_rows(rows, begin, "]}")) if rows else None
        found = detections_of(video, detector, score, track)
        stack.callback(found.close)
        frames = objects = 0
        started = time.perf_counter()
        for each in found:
            if draw:
                draw(_drawn(each), each.frame.time, each.frame.aspect)
            if note:
                note(_row(each))
            frames, objects = frames + 1, objects + len(each.detections)
            advance()
        seconds = time.perf_counter() - started
        return Done(frames, video.count, video.failures, objects, seconds)


def detections_of(
    video: Video, detector: PictureDetector, score: float, track: bool = False
) -> Generator[_Found, None, None]:
    """Detections of frame after frame, found a little ahead of their use."""
    waiting = int(min(MOST_WAITING, max(2, _MOST_BYTES // (3 * video.pixels))))
    most = 1 if video.live else min(detector.fixed_batch or BATCH, waiting)
    ready = ahead(_ready(video, detector), waiting, newest=video.live)
    found = ahead(_detected(ready, detector, most, UNSURE * score if track else score), waiting)
    return _tracked(found, score, video) if track else found


def _ready(video: Video, detector: PictureDetector) -> Generator[_Ready, None, None]:
    for frame in video.frames():
        yield _Ready(frame, detector.prepare(frame.image))


def _detected(
    ready: Generator[_Ready, None, None], detector: PictureDetector, most: int, score: float
) -> Generator[_Found, None, None]:
    try:
        batch = detector.fixed_batch or most
        for group in _groups(ready, most):
            prepared = [each.prepared for each in group]
            for each, found in zip(group, detector.detect_prepared(prepared, batch), strict=True):
                yield _Found(each.frame, found.above(score), None)
    finally:
        ready.close()


def _groups(ready: Iterator[_Ready], most: int) -> Iterator[list[_Ready]]:
    """Up to ``most`` frames at a time; a change of their size begins another group."""
    group: list[_Ready] = []
    for each in ready:
        if group and each.prepared.canvas != group[0].prepared.canvas:
            yield group
            group = []
        group.append(each)
        if len(group) == most:
            yield group
            group = []
    if group:
        yield group


def _tracked(
    found: Generator[_Found, None, None], score: float, video: Video
) -> Generator[_Found, None, None]:
    patience = max(1, round(video.rate))  # a second
    tracker = Tracker(TrackingRule(sure=score, unsure=UNSURE * score, patience=patience))
    last = -1
    try:
        for each in found:
            tracks = tracker.update(each.detections, each.frame.index - last)
            last = each.frame.index
            kept = (each.detections.scores >= score) | (tracks != NOBODY)
            yield _Found(each.frame, each.detections[kept], tracks[kept])
    finally:
        found.close()


def _drawn(found: _Found) -> np.ndarray:
    detections = found.detections
    texts = [
        f"{name} {score:.2f}"
        for name, score in zip(detections.names, detections.scores, strict=True)
    ]
    if found.tracks is not None:
        numbers = ["" if track == NOBODY else f"#{track} " for track in found.tracks]
        texts = [number + text for number, text in zip(numbers, texts, strict=True)]
    return draw_boxes(found.frame.image, detections.boxes, texts, detections.labels)


def _row(found: _Found) -> dict:
    frame = found.frame
    rows = found.detections.to_dict()
    if found.tracks is not None:
        for row, track in zip(rows, found.tracks, strict=True):
            row["track"] = None if track == NOBODY else int(track)
    height, width = frame.image.shape[:2]
    return {
        "frame": frame.index,
        "time": frame.time,
        "width": width,
        "height": height,
        "detections": rows,
    }
