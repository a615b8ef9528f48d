import json
import signal
import subprocess
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from exported import write_onnx
from films import level, read_film, write_film
from frcnn.apps import video_predictions
from frcnn.apps.video_predictions import video_file, write_video_predictions
from frcnn.cli import main
from frcnn.errors import UserError
from frcnn.inference.load import load
from frcnn.inference.video import BT709, open_video
from rtsp_server import camera
from serving import Sizes, slowed

# The disc's score is the brightness, the square's half of that.
LEVELS = [150, 200, 250, 50, 160, 240, 20, 220, 130, 180, 190, 100]


@pytest.fixture
def model(tmp_path):
    return write_onnx(tmp_path / "tiny.onnx")


@pytest.fixture
def film(tmp_path):
    return write_film(tmp_path / "film.mp4", map(level, LEVELS))


def run(*arguments):
    main(["predict", *map(str, arguments)])


@pytest.mark.parametrize("batch", [1, 5, 16])
def test_an_export_of_a_fixed_batch_takes_frames_in_its_batches(batch, model, film, tmp_path):
    fixed, rows = write_onnx(tmp_path / "fixed.onnx", batch=batch), tmp_path / "rows.json"
    found = []
    for each in (model, fixed):
        run(each, film, "--json", rows, "--score", 0.5)
        found.append(json.loads(rows.read_text())["frames"])
    assert len(found[0]) == 12 and found[0] == found[1]


def test_frames_are_detected_on_drawn_and_listed(model, film, tmp_path, capsys):
    out, rows = tmp_path / "new" / "out.mp4", tmp_path / "rows.json"
    run(model, film, "--out", out, "--json", rows, "--score", 0.5)
    found = json.loads(rows.read_text())
    assert found["video"] == str(film)
    with open_video(film) as opened:
        frames = list(opened.frames())
    expected = load(model).detect([frame.image for frame in frames], score=0.5)
    assert len(found["frames"]) == 12
    for row, frame, each in zip(found["frames"], frames, expected, strict=True):
        assert (row["frame"], row["time"]) == (frame.index, frame.time)
        assert (row["width"], row["height"]) == (96, 64)
        assert row["detections"] == each.to_dict()
    assert [row["time"] for row in found["frames"]] == [n / 10 for n in range(12)]
    objects = sum(len(row["detections"]) for row in found["frames"])
    shown = capsys.readouterr().out
    assert "12 frames (" in shown and f"{objects} objects scored 0.5 or more; drawn in" in shown
    drawn, times = read_film(out)
    np.testing.assert_allclose(times, [n / 10 for n in range(12)], atol=1e-4)
    for image, value, row in zip(drawn, LEVELS, found["frames"], strict=True):
        assert abs(int(image[60, 90, 0]) - value) < 8  # the frame
        changed = np.abs(image.astype(int) - value).max() > 60
        assert changed == bool(row["detections"])  # and what is drawn on it


def test_uneven_times_are_kept(model, tmp_path):
    ticks = [0, 3000, 12000, 15000, 90000]
    film = write_film(tmp_path / "film.mp4", [level(200)] * 5, ticks=ticks)
    run(model, film, "--out", tmp_path / "out.mp4")
    np.testing.assert_allclose(
        read_film(tmp_path / "out.mp4")[1], [t / 90_000 for t in ticks], atol=1e-4
    )


def test_without_x264_it_is_mpeg4(model, film, tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    run(model, film, "--out", tmp_path / "out.mp4", "--score", 1)
    frames, times = read_film(tmp_path / "out.mp4")
    np.testing.assert_allclose(times, [n / 10 for n in range(12)], atol=1e-4)
    assert all(
        abs(int(each.mean()) - value) < 6 for each, value in zip(frames, LEVELS, strict=True)
    )
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"


@pytest.mark.parametrize("size", [(63, 95), (64, 95), (65, 96)])
def test_odd_sizes(model, tmp_path, size):
    film = write_film(tmp_path / "film.mkv", [level(200, size)] * 3, codec="ffv1")
    run(model, film, "--out", tmp_path / "out.mp4")
    image = read_film(tmp_path / "out.mp4")[0][0]
    assert image.shape[:2] == (size[0] + size[0] % 2, size[1] + size[1] % 2)


def test_objects_are_followed(model, tmp_path):
    film = write_film(tmp_path / "film.mp4", map(level, [250, 250, 60, 250, 20, 250]))
    run(model, film, "--json", tmp_path / "rows.json", "--score", 0.45, "--track")
    frames = json.loads((tmp_path / "rows.json").read_text())["frames"]
    tracks = [[(row["name"], row["track"]) for row in frame["detections"]] for frame in frames]
    both = [("disc", 1), ("square", 2)]
    # In the third frame both are unsure, in the fifth there is nothing to be seen.
    assert tracks == [both, both, both, both, [], both]
    assert frames[2]["detections"][0]["score"] < 0.45


def test_where_the_video_goes(tmp_path, monkeypatch, model, film):
    assert str(video_file("a/b.avi", "x.mkv")) == "x.mkv"
    assert str(video_file("a/b.avi", "folder")) == "folder/b.mp4"
    assert str(video_file("camera:1", "folder")) == "folder/camera-1.mp4"
    assert str(video_file("rtsp://user:word@host/a.mp4", "folder")) == "folder/stream.mp4"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="A video is written to .mp4, .mov, .mkv. .*new.avi"):
        video_file("film.mp4", "new.avi")
    (tmp_path / "old.avi").mkdir()
    assert str(video_file("film.mp4", "old.avi")) == "old.avi/film.mp4"
    with pytest.raises(UserError, match="is the video itself"):
        video_file("film.mp4", film)
    with pytest.raises(UserError, match="is the video itself"):
        video_file("film.mp4", ".")
    run(model, film)
    assert len(read_film(tmp_path / "predictions" / "film.mp4")[0]) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["film.mp4", "film.mp4"], "A video is predicted on alone"),
        (["film.mp4", "--ray"], "A video is predicted on alone"),
        (["nothing.mp4"], "There is no file nothing.mp4"),
        (["film.mp4", "--out", "film.mp4"], "is the video itself"),
        (["film.mp4", "--out", "tiny.onnx/out.mp4"], "cannot be written"),
        (["film.mp4", "--json", "tiny.onnx/out.json"], "cannot be written"),
        (["picture.png", "--track"], "--track follows objects through a video"),
    ],
)
def test_mistakes_are_sentences(model, film, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        run(model, *arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_video_that_was_cut_is_told_of(model, tmp_path, capsys):
    film = write_film(tmp_path / "film.avi", [level(n) for n in range(200)])
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    run(model, film, "--json", tmp_path / "rows.json")
    assert "of 200, the rest cannot be read" in capsys.readouterr().out


def test_damage_in_a_video_that_states_no_count_is_told_of(model, tmp_path, capsys):
    film = write_film(tmp_path / "film.mkv", [level(n) for n in range(200)])
    data = film.read_bytes()
    third = len(data) // 3
    film.write_bytes(data[:third] + bytes(300) + data[third + 300 :])
    run(model, film, "--json", tmp_path / "rows.json")
    assert " frames and some that cannot be read (" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("more", [{"sound": 5}, {"ticks": [*range(0, 60_000, 3000), 900_000]}])
def test_a_longer_sound_track_or_a_changing_rate_is_no_damage(
    model, tmp_path, capsys, suffix, more
):
    film = write_film(tmp_path / f"film{suffix}", [level(9)] * 21, rate=30, **more)
    run(model, film, "--json", tmp_path / "rows.json")
    assert capsys.readouterr().out.startswith("21 frames (")


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_shape_and_the_colours_of_a_video_are_kept(model, tmp_path, monkeypatch, suffix, codec):
    if codec == "mpeg4":
        monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    red = np.full((720, 64, 3), (200, 40, 40), np.uint8)
    film = write_film(tmp_path / "film.mp4", [red] * 2, aspect=Fraction(64, 45))
    with open_video(film) as opened:
        shown = next(opened.frames()).image[9, 9].astype(int)
    out = tmp_path / f"out{suffix}"
    run(model, film, "--out", out, "--score", 1)
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        assert stream.codec_context.name == ("h264" if codec == "libx264" else codec)
        assert stream.sample_aspect_ratio == Fraction(64, 45)
    assert {frame.colorspace, frame.color_primaries, frame.color_trc} == {BT709}
    written = frame.to_ndarray(format="rgb24")[9, 9].astype(int)  # as it says itself
    np.testing.assert_allclose(written, shown, atol=5)


@pytest.mark.parametrize("option", ["--json", "--out"])
def test_a_full_disk_is_a_sentence(model, tmp_path, capsys, option):
    file = tmp_path / ("full.mp4" if option == "--out" else "full.json")
    file.symlink_to("/dev/full")
    film = write_film(tmp_path / "film.mp4", map(level, LEVELS * 10))
    with pytest.raises(SystemExit) as caught:
        run(model, film, option, file)
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert f"{file} cannot be written: No space left" in shown and "Traceback" not in shown


def test_what_cannot_be_read_leaves_no_video(model, tmp_path, capsys):
    (tmp_path / "film.mp4").write_bytes(b"nonsense" * 100)
    film = write_film(tmp_path / "none.mkv", [])
    for file in (tmp_path / "film.mp4", film):
        with pytest.raises(SystemExit) as caught:
            run(model, file, "--out", tmp_path / "out.mp4")
        assert caught.value.code == 2 and not (tmp_path / "out.mp4").exists()
        assert file.name in capsys.readouterr().err


class Slow(Sizes):
    """Notes how far decoding was when each batch was begun."""

    def __init__(self, decoded):
        super().__init__()
        self.decoded = decoded
        self.waiting = []

    def infer(self, images, sizes):
        self.waiting.append(len(self.decoded))
        time.sleep(0.02)
        return super().infer(images, sizes)


def test_few_frames_are_held(tmp_path, monkeypatch):
    film = write_film(tmp_path / "film.mp4", [level(9)] * 200)
    decoded = []
    detector = Slow(decoded)
    original = video_predictions._ready

    def ready(video, detector):
        for each in original(video, detector):
            decoded.append(each.frame.index)
            yield each

    monkeypatch.setattr(video_predictions, "_ready", ready)
    done = write_video_predictions(detector, str(film), 0.5, None, tmp_path / "rows.json")
    assert done.frames == 200 and len(detector.batches) == 25
    for number, count in enumerate(detector.waiting):
        assert count <= 8 * (number + 1) + video_predictions.MOST_WAITING + 1


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_leaves_a_video_that_plays_and_the_rows_so_far(model, tmp_path, number, status):
    film = write_film(tmp_path / "film.mp4", [level(200)] * 400)
    out, rows = tmp_path / "out.mp4", tmp_path / "rows.json"
    given = ["predict", str(model), str(film), "--out", str(out), "--json", str(rows)]
    with subprocess.Popen(
        [*slowed(0.3), *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Where these tests run in the background they, and what they start, ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        until = time.monotonic() + 60
        while not (rows.exists() and rows.stat().st_size > 3000) and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(number)
        if number == signal.SIGTERM:  # as `timeout` sends it to the process and to its group
            process.send_signal(number)
        message = process.communicate(timeout=30)[1]
    assert process.returncode == status and b"what was finished is saved" in message
    assert b"Traceback" not in message
    frames = json.loads(rows.read_text())["frames"]
    assert 8 <= len(frames) < 400
    drawn = read_film(out)[0]
    assert len(drawn) in (len(frames), len(frames) + 1)
    assert [row["frame"] for row in frames] == list(range(len(frames)))


def test_frames_of_a_camera_that_come_too_fast_are_left_out(tmp_path):
    class Late(Sizes):
        def infer(self, images, sizes):
            time.sleep(0.1)
            return super().infer(images, sizes)

    detector = Late()
    with camera([level(20 + 2 * number) for number in range(80)], 40) as address:
        rows = tmp_path / "rows.json"
        done = write_video_predictions(detector, address, 0.5, tmp_path / "out.mp4", rows, True)
    frames = json.loads(rows.read_text())["frames"]
    indices = [frame["frame"] for frame in frames]
    assert done.frames == len(frames) and 16 <= len(frames) < 60
    assert indices == sorted(indices) and indices[-1] > 60
    assert all(shape[0] == 1 for shape in detector.batches)  # none waits for company
    assert {row["track"] for frame in frames for row in frame["detections"]} == {1}
