"""A camera of the network: RTSP on this machine, H.264 in RTP between its lines."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np

SDP = """v=0\r
o=- 0 0 IN IP4 127.0.0.1\r
s=test\r
t=0 0\r
m=video 0 RTP/AVP 96\r
a=rtpmap:96 H264/90000\r
a=fmtp:96 packetization-mode=1\r
a=control:track\r
"""


def encoded(frames: Sequence[np.ndarray], rate: int) -> list[list[bytes]]:
    """The units of each frame; all frames are small enough for one RTP packet a unit."""
    context = av.CodecContext.create("libx264", "w")
    context.height, context.width = frames[0].shape[:2]
    context.pix_fmt, context.time_base = "yuv420p", Fraction(1, rate)
    context.framerate = Fraction(rate)
    context.options = {"preset": "ultrafast", "tune": "zerolatency", "g": "5"}
    units = []
    for number, image in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = number
        for packet in context.encode(frame):
            units.append([each for each in re.split(b"\0?\0\0\1", bytes(packet)) if each])
    assert all(len(unit) < 1400 for frame in units for unit in frame)
    return units


def _answer(connection: socket.socket, frames: list[list[bytes]], rate: int) -> None:
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            received = connection.recv(4096)
            if not received:
                return
            data += received
        head, _, data = data.partition(b"\r\n\r\n")
        method = head.split(b" ")[0].decode()
        number = re.search(rb"CSeq: (\d+)", head)[1].decode()
        lines, body = [f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\nSession: 1"], ""
        if method == "OPTIONS":
            lines.append("Public: DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif method == "DESCRIBE":
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(SDP)}"]
            body = SDP
        elif method == "SETUP":
            lines.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        connection.sendall("\r\n".join([*lines, "", body]).encode())
        if method == "PLAY":
            return _play(connection, frames, rate)


def _play(connection: socket.socket, frames: list[list[bytes]], rate: int) -> None:
    sequence = 0
    for number, units in enumerate(frames):
        for place, unit in enumerate(units):
            last = place == len(units) - 1
            head = struct.pack(">BBHII", 0x80, 96 | last << 7, sequence, number * 90_000 // rate, 7)
            sequence += 1
            connection.sendall(struct.pack(">cBH", b"$", 0, 12 + len(unit)) + head + unit)
        time.sleep(1 / rate)


@contextmanager
def camera(frames: Sequence[np.ndarray], rate: int) -> Iterator[str]:
    """Play frames once, to one client, in their time; gives the address."""
    units = encoded(frames, rate)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                connection, _ = listener.accept()
                with connection:
                    _answer(connection, units, rate)
            except OSError:  # the client has had enough
                pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"rtsp://127.0.0.1:{listener.getsockname()[1]}/live"
    thread.join(10)
