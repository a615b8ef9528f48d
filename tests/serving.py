"""A server of detections on a free port of this machine, and clients that do as they like."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from frcnn.apps.serve.running import new_server
from frcnn.apps.serve.server import listening
from frcnn.apps.serve.settings import Settings
from frcnn.inference.pictures import PictureDetector
from frcnn.inference.preparation import Preparation

BOUNDARY = "frontier"

_SLOWED = """
import sys, time
from frcnn.inference.runtime import RuntimeDetector
quick = RuntimeDetector.infer
def infer(self, images, sizes):
    time.sleep({seconds})
    return quick(self, images, sizes)
RuntimeDetector.infer = infer
from frcnn.cli import main
try:
    main(sys.argv[1:])
finally:
    print("Keras:", "keras" in sys.modules, flush=True)
"""


def slowed(seconds: float) -> list[str]:
    """The command ``frcnn`` with a network that takes longer; says at its end if it has Keras."""
    return [sys.executable, "-c", _SLOWED.format(seconds=seconds)]


@contextmanager
def started(model: Path, *arguments: str, seconds: float = 1, **environment: str):
    """``frcnn serve`` with a network that takes so long; gives the process and its port."""
    command = [*slowed(seconds), "serve", str(model), "--port", "0", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=os.environ | environment
    ) as process:
        try:
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+);", line)
            assert found, line + process.stderr.read()
            yield process, int(found[1])
        finally:
            process.kill()


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]  # names in small letters
    body: bytes

    def json(self):
        return json.loads(self.body)

    def detail(self) -> str:
        """The sentence of a refusal."""
        return self.json()["detail"]


@dataclass(frozen=True)
class Client:
    """Sends requests to one port."""

    port: int

    def ask(self, method: str, path: str, body=None, headers=None, timeout=20) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, names, answer.read())
        finally:
            connection.close()

    def send(self, path: str, files: Sequence[tuple[str, bytes]], fields=(), **headers) -> Answer:
        """Post files as ``images`` of a form, with other fields."""
        body, kind = form(files, fields)
        return self.ask("POST", path, body, {"Content-Type": kind, **headers})

    def raw(self, *parts: bytes, pause: float = 0.0, timeout: float = 20.0) -> bytes:
        """Write parts with pauses, as long as the server lets one; give all that it says."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            try:
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause)
            except (BrokenPipeError, ConnectionResetError):
                pass
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side ends."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def form(
    files: Sequence[tuple[str, bytes]], fields: Iterable[tuple[str, str]] = ()
) -> tuple[bytes, str]:
    """A multipart form and its type."""
    parts = []
    for name, value in fields:
        head = f'Content-Disposition: form-data; name="{name}"'
        parts.append(f"--{BOUNDARY}\r\n{head}\r\n\r\n{value}\r\n".encode())
    for name, data in files:
        head = f'Content-Disposition: form-data; name="images"; filename="{name}"'
        kind = "Content-Type: application/octet-stream"
        parts.append(f"--{BOUNDARY}\r\n{head}\r\n{kind}\r\n\r\n".encode() + data + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode(), (
        f"multipart/form-data; boundary={BOUNDARY}"
    )


@contextmanager
def serving(detector: PictureDetector, **settings) -> Iterator[Client]:
    """Serve a detector from a thread."""
    server = new_server(detector, Settings(**{"rate": 0, "linger": 0.5, **settings}))
    with listening("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield Client(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


class Sizes(PictureDetector):
    """Finds one box, the whole picture; notes what was asked; waits while it is held.

    Args:
        canvases: as of ``Preparation``.
        fixed: as ``fixed_batch``.
    """

    def __init__(self, canvases=((32, 48), (48, 32)), fixed: int | None = None):
        self._canvases = canvases
        self._fixed = fixed
        self.batches: list[tuple[int, ...]] = []
        self.free = threading.Event()
        self.free.set()

    classes = ("thing",)

    @property
    def fills_batches(self):
        return self._fixed is not None

    @property
    def fixed_batch(self):
        return self._fixed

    @property
    def preparation(self):
        return Preparation(32, 48, self._canvases, "smooth")

    def infer(self, images, sizes):
        self.batches.append(images.shape[:3])
        assert self.free.wait(20)
        boxes = np.concatenate([np.zeros_like(sizes), sizes[:, ::-1]], 1)[:, None].astype(float)
        count = len(images)
        return {
            "boxes": boxes,
            "scores": np.full((count, 1), 0.75),
            "labels": np.zeros((count, 1), int),
            "count": np.ones(count, int),
        }


def picture(height: int = 32, width: int = 48, seed: int = 0, suffix: str = ".png") -> bytes:
    """The bytes of a picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.imencode(suffix, pixels)[1].tobytes()


def written(folder: Path, **pictures: bytes) -> list[Path]:
    """Pictures as files, ``name=bytes``."""
    paths = []
    for name, data in pictures.items():
        paths.append(folder / f"{name}.png")
        paths[-1].write_bytes(data)
    return paths
