import os
import struct
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from films import TICK, level, write_film
from frcnn.errors import UserError
from frcnn.inference import video
from frcnn.inference.video import is_video, open_video
from hostile import NO_FILES, assert_sentence, fenced, png
from rtsp_server import camera


def frames_of(path):
    with open_video(path) as opened:
        return list(opened.frames())


def noise(count, size=(64, 96)):
    rng = np.random.default_rng(0)
    return [cv2.resize(rng.integers(0, 255, (4, 6, 3), np.uint8), size[::-1]) for _ in range(count)]


def by_opencv(path):
    """Frames and their seconds, by another reader."""
    capture, frames, times = cv2.VideoCapture(str(path)), [], []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1])
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    return frames, times


@pytest.mark.parametrize("ticks", [None, [0, 9000, 12000, 30000, 31000, 90000]])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".ts"])
def test_frames_and_their_times(tmp_path, suffix, ticks):
    path = write_film(tmp_path / f"film{suffix}", noise(6), ticks=ticks)
    found = frames_of(path)
    expected, times = by_opencv(path)
    assert [each.index for each in found] == list(range(6)) and len(expected) == 6
    wanted = [tick * TICK for tick in ticks] if ticks else [Fraction(n, 10) for n in range(6)]
    start = found[0].time  # a stream's clock begins anywhere
    stated = [each.time - start for each in found]
    np.testing.assert_allclose(stated, [float(time) for time in wanted], atol=0.0011)
    np.testing.assert_allclose(stated, np.array(times) - times[0], atol=0.0011)
    for frame, other in zip(found, expected, strict=True):
        assert frame.image.dtype == np.uint8 and frame.image.flags.c_contiguous
        assert np.abs(frame.image.astype(int) - other).mean() < 3  # converted by another library


def test_what_is_stated(tmp_path):
    path = write_film(tmp_path / "film.mp4", noise(6), rate=12)
    with open_video(path) as opened:
        assert (opened.rate, opened.count, opened.live) == (12, 6, False)
        assert (opened.pixels, opened.about, opened.aspect) == (64 * 96, 6, 1)


def test_what_is_not_stated_is_estimated_for_the_counter_alone(tmp_path):
    path = write_film(tmp_path / "film.mkv", noise(6), rate=12)
    with open_video(path) as opened:
        assert opened.count is None and opened.about == 6
        assert len(list(opened.frames())) == 6 and opened.failures == 0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_shape_of_pixels(tmp_path, suffix):
    path = write_film(tmp_path / f"film{suffix}", noise(2), aspect=Fraction(64, 45))
    assert [frame.aspect for frame in frames_of(path)] == [Fraction(64, 45)] * 2
    path = write_film(tmp_path / f"film{suffix}", noise(2), aspect=Fraction(100, 1))
    assert [frame.aspect for frame in frames_of(path)] == [1, 1]  # nobody's


@pytest.mark.parametrize(("height", "matrix"), [(480, "ITU601"), (720, "ITU709")])
def test_colours_that_nothing_is_said_of_are_what_players_take_them_for(tmp_path, height, matrix):
    image = np.full((height, 64, 3), (200, 40, 40), np.uint8)
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = height, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(image, "rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=matrix)
        frame.colorspace = video.UNSPECIFIED
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    np.testing.assert_allclose(frames_of(tmp_path / "film.mp4")[0].image[9, 9], (200, 40, 40), 0, 3)


@pytest.mark.parametrize(
    ("matrix", "turns"), [((0, 1, -1, 0), 3), ((0, -1, 1, 0), 1), ((-1, 0, 0, -1), 2)]
)
def test_frames_are_upright(tmp_path, matrix, turns):
    """As a telephone marks them that was held so; broad pixels become high ones."""
    path = write_film(tmp_path / "film.mp4", noise(2), aspect=2)
    plain = frames_of(path)[0].image
    a, b, c, d = (value << 16 for value in matrix)
    data = path.read_bytes()
    head = data.index(b"tkhd")
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    place = data.index(upright, head)
    turned = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:place] + turned + data[place + len(turned) :])
    turned = frames_of(path)[0]
    frame = turned.image
    assert turned.aspect == (Fraction(2) if turns == 2 else Fraction(1, 2))
    np.testing.assert_array_equal(frame, np.rot90(plain, turns))
    assert frame.shape == by_opencv(path)[0][0].shape
    assert np.abs(frame.astype(int) - by_opencv(path)[0][0]).mean() < 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.mp4", True), ("b/C.MOV", True), ("camera", True), ("camera:2", True),
        ("rtsp://host/x", True), ("RTSPS://host", True), ("a.jpg", False), ("folder", False),
        ("camera.png", False), ("camera:x", False), ("http://host/a.jpg", False),
        (Path("a.webm"), True),
    ],
)  # fmt: skip
def test_what_is_a_video(name, expected):
    assert is_video(name) == expected


def test_a_folder_may_be_called_camera(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("camera")
    assert not is_video("camera") and is_video("camera:0")


def test_a_picture_of_absurd_size_in_the_middle_is_not_decoded(tmp_path):
    """The container states small frames; one is of another size, and its like alone are lost."""
    path = tmp_path / "film.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "gray"
        for number, side in enumerate([64] * 6 + [9000] + [64] * 6):
            data = png(side, side)
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 10)
            packet.pts = packet.dts = number
            container.mux(packet)
    with fenced(megabytes=700):
        shapes = [frame.image.shape for frame in frames_of(path)]
    assert set(shapes) == {(64, 64, 3)} and 9 <= len(shapes) <= 12


def test_colours_that_no_standard_has_are_the_usual_ones(tmp_path):
    """FFmpeg refuses to convert a frame whose matrix of colours has a number that is not taken."""
    films = [tmp_path / "usual.mpg", tmp_path / "unknown.mpg"]
    for path, number in zip(films, (2, 194), strict=True):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            context = stream.codec_context
            context.colorspace = context.color_trc = context.color_primaries = number
            for image in noise(3):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
            container.mux(stream.encode(None))
    assert bytes([194, 194, 194]) in films[1].read_bytes()
    usual, unknown = map(frames_of, films)
    assert len(usual) == len(unknown) == 3
    for one, other in zip(usual, unknown, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_frames_that_are_too_large(tmp_path, monkeypatch):
    path = write_film(tmp_path / "film.mp4", noise(2))
    monkeypatch.setattr(video, "MAX_PIXELS", 64 * 96 - 1)
    with pytest.raises(UserError, match="frames of 96x64 pixels, more than the limit of 6,143"):
        frames_of(path)


def damaged(tmp_path):
    """Files that are no videos, or none any more."""
    film = write_film(tmp_path / "film.mp4", noise(8)).read_bytes()
    matroska = write_film(tmp_path / "film.mkv", noise(8)).read_bytes()
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    rng = np.random.default_rng(0)
    yield "empty.mp4", b"", "cannot be opened as a video"
    yield "text.mp4", b"Dear Sir or Madam\n" * 50, "cannot be opened as a video"
    yield "noise.avi", rng.bytes(50_000), "cannot be opened as a video"
    yield "cut.mp4", film[: len(film) // 2], "cannot be opened as a video"
    yield "picture.mp4", png(64, 48), "cannot be opened as a video"
    yield "list.mp4", b"#EXTM3U\n#EXTINF:1,\nfilm.mp4\n", "cannot be opened as a video"
    yield "concat.mp4", b"ffconcat version 1.0\nfile film.mp4\n", "cannot be opened as a video"
    yield "head.mkv", matroska[:600], "head.mkv"
    yield "zeros.mp4", film[:40] + bytes(len(film) - 40), "zeros.mp4"
    yield "sound.mp4", sound.read_bytes(), "has no pictures in it, only audio"


def test_what_is_no_video_is_a_sentence(tmp_path):
    for name, data, message in damaged(tmp_path):
        path = tmp_path / name
        path.write_bytes(data)
        with fenced(), pytest.raises(UserError, match=message) as caught:
            frames_of(path)
        assert name in assert_sentence(caught.value), name


def test_a_film_without_frames(tmp_path):
    with av.open(str(tmp_path / "film.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        container.start_encoding()
    with pytest.raises(UserError, match="film.mkv"):
        frames_of(tmp_path / "film.mkv")


def test_a_film_that_was_cut_ends_there(tmp_path):
    path = write_film(tmp_path / "film.mkv", noise(40))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with fenced():
        assert 0 < len(frames_of(path)) < 40


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_packets_that_are_damaged_are_counted(tmp_path, suffix):
    path = write_film(tmp_path / f"film{suffix}", noise(40))
    data = path.read_bytes()
    third, zeros = len(data) // 3, bytes(len(data) // 8)
    path.write_bytes(data[:third] + zeros + data[third + len(zeros) :])
    with fenced(), open_video(path) as opened:
        assert 0 < len(list(opened.frames())) < 40 and opened.failures > 0


def test_bytes_that_were_changed_do_no_harm(tmp_path):
    whole = write_film(tmp_path / "film.mp4", noise(6)).read_bytes()
    rng = np.random.default_rng(0)
    for number in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 1 + number):
            data[place] = rng.integers(0, 256)
        (tmp_path / "changed.mp4").write_bytes(data)
        with fenced():
            try:
                assert len(frames_of(tmp_path / "changed.mp4")) <= 6
            except UserError as error:
                assert_sentence(error)


@pytest.mark.parametrize("kind", sorted(set(NO_FILES) - {"sparse"}))
def test_what_is_no_file(tmp_path, kind):
    NO_FILES[kind](tmp_path / "film.mp4")
    with fenced(), pytest.raises(UserError, match="film.mp4"):
        frames_of(tmp_path / "film.mp4")


def test_what_does_not_answer(monkeypatch):
    monkeypatch.setattr(video, "SECONDS", 2.0)
    with (
        fenced(),
        pytest.raises(UserError, match="rtsp://127.0.0.1:9/x cannot be opened") as caught,
    ):
        frames_of("rtsp://name:secret@127.0.0.1:9/x")
    assert "secret" not in str(caught.value)
    with (
        fenced(),
        pytest.raises(UserError, match="No camera 99 was found: there is no /dev/video99"),
    ):
        frames_of("camera:99")


def test_a_missing_library_is_a_sentence(monkeypatch, tmp_path):
    path = write_film(tmp_path / "film.mp4", [level(3)])
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match="pip install 'frcnn"):
        frames_of(path)


def test_a_camera_of_the_network():
    levels = [20 + 4 * number for number in range(40)]
    with camera([level(each) for each in levels], 20) as address, open_video(address) as opened:
        assert opened.live and opened.count is None
        frames = list(opened.frames())
    assert 30 <= len(frames) <= 40  # the first may come before the parameters are known
    shown = [int(frame.image.mean()) for frame in frames]
    np.testing.assert_allclose(shown, levels[-len(shown) :], atol=4)
    times = np.diff([frame.time for frame in frames[1:]])  # the first has none of its own
    np.testing.assert_allclose(times, 0.05, atol=0.002)
