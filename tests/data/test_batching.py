import threading
import time

import cv2
import keras
import numpy as np
import pytest

from frcnn.data import batching
from frcnn.data.batching import DetectionBatches, FollowEpochs, most_boxes
from frcnn.data.dataset import Dataset, open_dataset
from frcnn.data.faults import DataError, ImageError
from frcnn.data.transforms import HorizontalFlip, Photometric, RandomCrop, Rotate90, ScaleJitter
from frcnn.structures import Sample

pytestmark = pytest.mark.backend

ON_TENSORFLOW = keras.config.backend() == "tensorflow"
RANDOM = (HorizontalFlip(), Rotate90(), ScaleJitter(), RandomCrop(), Photometric())


@pytest.fixture
def dataset(tmp_path, write_image):
    """Seven wide pictures and six tall ones; the number of boxes is the picture's own."""
    samples = []
    for number in range(13):
        size = (48, 64) if number < 7 else (64, 48)
        path = write_image(tmp_path / f"{number:02}.png", size, seed=number)
        boxes = np.array([[number, 4, number + 10 + row, 30] for row in range(number)], np.float32)
        samples.append(
            Sample(path, boxes, np.arange(number) % 3, np.arange(number) == 11, size=size)
        )
    return Dataset(tuple(samples), ("a", "b", "c"), tmp_path)


def make(dataset, batch_size=4, short=32, long=48, **options):
    return DetectionBatches(dataset, batch_size, short, long, **options)


def assert_same(one, two):
    for part, other in zip(one, two, strict=True):
        for key in part:
            np.testing.assert_array_equal(part[key], other[key])


def assert_sound(batch, batch_size, slots, canvases):
    x, y = batch
    assert x["images"].shape[0] == batch_size and x["images"].shape[1:3] in canvases
    assert x["images"].dtype == np.uint8 and x["sizes"].dtype == np.int32
    assert y["boxes"].shape == (batch_size, slots, 4) and y["boxes"].dtype == np.float32
    assert y["labels"].shape == (batch_size, slots) and y["labels"].dtype == np.int32
    for image, (height, width), boxes, labels in zip(
        x["images"], x["sizes"], y["boxes"], y["labels"], strict=True
    ):
        assert not image[height:].any() and not image[:, width:].any()
        real = labels >= 0
        assert (labels[~real] == -1).all() and (boxes[~real] == -1).all()
        assert (np.diff(real.astype(int)) <= 0).all()  # the padding comes last
        assert (boxes[real] >= 0).all()
        assert (boxes[real] <= np.float32([width, height] * 2) + 1e-3).all()
        assert (boxes[real][:, 2:] - boxes[real][:, :2] >= 1).all()


@pytest.mark.parametrize("transforms", [(), RANDOM], ids=["plain", "random"])
def test_batches_keep_the_contract(dataset, transforms):
    batches = make(dataset, transforms=transforms)
    assert batches.max_boxes == most_boxes(dataset) == 16
    assert batches.canvases == (((64, 64),) if ON_TENSORFLOW else ((32, 64), (64, 32)))
    assert len(batches) == 4
    for batch in batches:
        assert_sound(batch, 4, 16, batches.canvases)


def test_without_transforms_boxes_are_scaled_and_difficult_ones_dropped(dataset):
    batches = make(dataset, batch_size=1, shuffle=False, workers=0)
    for index in range(len(batches)):
        (number,) = batches.samples_of(index)
        sample = dataset[number]
        x, y = batches[index]
        scale = x["sizes"][0] / np.array(sample.size)
        easy = sample.boxes[~sample.difficult] * scale[[1, 0, 1, 0]]
        count = int((y["labels"] >= 0).sum())
        assert count == len(easy) == number - (number == 12)
        np.testing.assert_allclose(y["boxes"][0, :count], easy, rtol=1e-5)
        np.testing.assert_array_equal(y["labels"][0, :count], sample.labels[~sample.difficult])


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_do_not_depend_on_the_workers(dataset, shuffle):
    runs = []
    for workers in (0, 1, 5):
        batches = make(dataset, transforms=RANDOM, seed=7, shuffle=shuffle, workers=workers)
        run = []
        for _ in range(3):
            run += list(batches)
            batches.on_epoch_end()
        runs.append(run)
    for other in runs[1:]:
        for one, two in zip(runs[0], other, strict=True):
            assert_same(one, two)


def test_the_rows_of_a_share_are_those_of_the_whole(dataset):
    whole = make(dataset, transforms=RANDOM, seed=3, workers=0)
    shares = [make(dataset, transforms=RANDOM, seed=3, workers=0, rows=r) for r in ([0, 2], [3])]
    for index in range(len(whole)):
        for share in shares:
            rows = list(share.rows)
            expected = [{k: v[rows] for k, v in part.items()} for part in whole.load(1, index)]
            assert_same(share.load(1, index), expected)


def test_epochs_and_seeds_differ_and_each_can_be_had_again(dataset):
    batches = make(dataset, transforms=RANDOM)
    first = [batches.samples_of(index).tolist() for index in range(4)]
    assert first != [batches.samples_of(index, epoch=1).tolist() for index in range(4)]
    other = make(dataset, seed=1)
    assert first != [other.samples_of(index).tolist() for index in range(4)]
    assert sorted({sample for part in first for sample in part}) == list(range(13))
    epoch_two = batches.load(2, 1)
    batches.epoch = 2
    assert_same(batches[1], epoch_two)
    assert_same(make(dataset, transforms=RANDOM).load(2, 1), epoch_two)


def test_one_sample_is_changed_anew_in_every_epoch_and_slot(dataset):
    batches = make(dataset.subset([6]), batch_size=2, transforms=RANDOM, workers=0)
    images = [image for epoch in range(3) for image in batches.load(epoch, 0)[0]["images"]]
    assert len({image.tobytes() for image in images}) == 6


@pytest.mark.parametrize("transforms", [(), (HorizontalFlip(1), Photometric())])
def test_large_pictures_are_read_reduced_and_their_boxes_with_them(tmp_path, transforms):
    colours = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)
    path = tmp_path / "large.jpg"
    cv2.imwrite(str(path), cv2.resize(colours, (960, 640), interpolation=cv2.INTER_CUBIC))
    boxes = np.array([[100, 80, 311, 455], [0, 0, 960, 640]], np.float32)
    dataset = Dataset((Sample(path, boxes, np.arange(2), size=(640, 960)),), ("a", "b"), tmp_path)

    def unknown(image, boxes, labels, rng):  # reads the picture whole
        assert image.shape == (640, 960, 3)
        return image, boxes, labels

    options = {"batch_size": 1, "short": 64, "long": 96, "workers": 0}
    (x, y), (whole_x, whole_y) = (
        DetectionBatches(dataset, transforms=each, **options)[0]
        for each in (transforms, (unknown, *transforms))
    )
    np.testing.assert_array_equal(x["sizes"], whole_x["sizes"])
    np.testing.assert_array_equal(y["labels"], whole_y["labels"])
    np.testing.assert_allclose(y["boxes"], whole_y["boxes"], atol=1e-3)
    apart = np.abs(x["images"].astype(int) - whole_x["images"])
    assert apart.mean() < 1 and apart.max() < 12


def test_boxes_thinner_than_a_pixel_on_the_canvas_are_no_targets(dataset):
    boxes = np.array([[5, 5, 6.9, 40], [5, 5, 7, 40], [5, 5, 40, 6]], np.float32)
    thin = Sample(dataset[0].image, boxes, np.arange(3), size=(48, 64))
    batches = make(Dataset((thin,), dataset.classes, dataset.root), 1, short=24)
    assert batches[0][1]["labels"][0].tolist() == [1] + [-1] * 7


def test_the_epoch_goes_on_only_when_all_of_it_was_handed_out(dataset):
    batches = make(dataset)
    batches[0]
    batches.on_epoch_end()  # as after Keras's first look
    assert batches.epoch == 0
    list(batches)
    batches.on_epoch_end()
    assert batches.epoch == 1
    batches.on_epoch_end()
    assert batches.epoch == 1


def test_in_order_the_last_batch_ends_in_blanks(dataset):
    batches = make(dataset, shuffle=False)
    seen = np.concatenate([batches.samples_of(index) for index in range(len(batches))])
    assert sorted(seen[seen >= 0]) == list(range(13))
    for index, (x, y) in enumerate(batches):
        blank = batches.samples_of(index) < 0
        np.testing.assert_array_equal(blank, (x["sizes"] == 0).all(axis=1))
        assert not x["images"][blank].any() and (y["labels"][blank] == -1).all()
    assert (seen < 0).sum() == len(batches) * 4 - 13 > 0


def test_fewer_slots_draw_some_of_the_boxes(dataset):
    batches = make(dataset, max_boxes=8, batch_size=13, workers=0)
    drawn = set()
    for epoch in range(4):
        _, y = batches.load(epoch, 0)
        assert y["boxes"].shape == (13, 8, 4)
        slot = batches.samples_of(0, epoch).tolist().index(12)
        assert (y["labels"][slot] >= 0).all()
        drawn.add(y["boxes"][slot].tobytes())
    assert len(drawn) == 4


def test_steps_set_the_length_of_an_epoch(dataset):
    for steps in (2, 9):
        assert len(list(make(dataset, steps=steps))) == steps


def test_indices_from_the_end_and_out_of_range(dataset):
    batches = make(dataset)
    assert_same(batches[-1], batches[3])
    for index in (4, -5):
        with pytest.raises(IndexError, match=f"Batch {index} is out of range for 4"):
            batches[index]


def test_given_canvases_are_used_and_pictures_shrunk_to_fit(dataset):
    batches = make(dataset, canvases=((32, 32),))
    assert batches.canvases == ((32, 32),)
    x, _ = batches[0]
    assert x["sizes"].max(axis=1).tolist() == [32] * 4


def test_an_empty_data_set_is_refused(dataset):
    with pytest.raises(DataError, match="has no images to make batches of"):
        make(dataset.subset([]))


def break_image(dataset, number):
    path = dataset[number].image
    data = bytearray(path.read_bytes())
    data[60:-20] = bytes(len(data) - 80)  # a sound header and a sound end
    path.write_bytes(data)


def test_a_picture_that_cannot_be_decoded_is_replaced_and_reported_once(dataset, caplog):
    break_image(dataset, 3)
    batches = make(dataset, transforms=RANDOM)
    for _ in range(2):
        for batch in batches:
            assert_sound(batch, 4, 16, batches.canvases)
            assert (batch[0]["sizes"] > 0).all()
    (fault,) = batches.faults
    assert fault.file == dataset[3].image and "cannot be decoded" in str(fault)
    assert [record.getMessage() for record in caplog.records] == [
        f"{fault}; another takes its place"
    ]
    assert_same(batches.load(1, 2), make(dataset, transforms=RANDOM, workers=0).load(1, 2))


def test_in_order_it_is_left_blank(dataset):
    break_image(dataset, 0)
    batches = make(dataset, shuffle=False)
    x, y = batches[0]
    assert x["sizes"][0].tolist() == [0, 0] and (x["sizes"][1:] > 0).all()
    assert len(batches.faults) == 1


def test_strict_raises_and_all_broken_is_an_error(dataset):
    break_image(dataset, 3)
    with pytest.raises(ImageError, match=r"03.png: cannot be decoded"):
        list(make(dataset, strict=True))
    for number in range(13):
        dataset[number].image.unlink(missing_ok=True)
    with pytest.raises(DataError, match="none of its 13 images can be read"):
        make(dataset)[0]


@pytest.fixture
def loads(monkeypatch):
    """Every (epoch, index) that was made, in order."""
    made, load, lock = [], DetectionBatches.load, threading.Lock()

    def counted(self, epoch, index):
        with lock:
            made.append((epoch, index))
        return load(self, epoch, index)

    monkeypatch.setattr(DetectionBatches, "load", counted)
    return made


def test_in_turn_every_batch_is_made_once_also_across_epochs(dataset, loads):
    batches = make(dataset, workers=2)
    for _ in range(3):
        list(batches)
        batches.on_epoch_end()
    assert len(loads) == len(set(loads))
    assert {(epoch, index) for epoch in range(3) for index in range(4)} <= set(loads)
    assert len(loads) <= 3 * 4 + batching._AHEAD


def test_out_of_turn_nothing_else_is_made(dataset, loads):
    batches = make(dataset, workers=2)
    for index in (3, 1, 3):
        batches[index]
    assert loads == [(0, 3), (0, 1), (0, 3)]


def test_waiting_is_small_when_the_step_takes_longer(dataset, monkeypatch):
    monkeypatch.setattr(DetectionBatches, "load", lambda *_: time.sleep(0.02))
    batches = make(dataset, steps=20, workers=2)
    batches[0]
    batches.waited, started = 0.0, time.perf_counter()
    for index in range(1, 20):
        time.sleep(0.03)  # the step; without reading ahead 40% would be waiting
        batches[index]
    assert batches.waited < 0.2 * (time.perf_counter() - started)


def test_waiting_is_counted_when_batches_are_slow(dataset, monkeypatch):
    monkeypatch.setattr(DetectionBatches, "load", lambda *_: time.sleep(0.03))
    for workers in (0, 1):
        batches = make(dataset, workers=workers)
        list(batches)
        assert batches.waited > 0.1


class Model(keras.Model):
    """Learns nothing and notes what it was fed."""

    def __init__(self):
        super().__init__()
        self.weight = self.add_weight(shape=(), initializer="zeros")

    def call(self, inputs):
        return self.weight * keras.ops.mean(keras.ops.cast(inputs["images"], "float32"))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.abs(y_pred) + 0 * keras.ops.sum(keras.ops.cast(y["labels"], "float32"))


@pytest.mark.parametrize("initial", [0, 2])
def test_fit_sees_every_epoch_and_resumes_in_the_right_one(dataset, monkeypatch, initial):
    batches = make(dataset, batch_size=2, transforms=RANDOM)
    asked, get = [], DetectionBatches.__getitem__

    def noted(self, index):
        asked.append((self.epoch, index))
        return get(self, index)

    monkeypatch.setattr(DetectionBatches, "__getitem__", noted)
    model = Model()
    model.compile(optimizer="sgd")
    model.fit(
        batches, epochs=4, initial_epoch=initial, shuffle=False, verbose=0,
        callbacks=[FollowEpochs(batches)],
    )  # fmt: skip
    trained = asked[-(4 - initial) * len(batches) :]
    assert trained == [(e, i) for e in range(initial, 4) for i in range(len(batches))]


def test_wait_share_on_real_data(real_data):
    dataset = open_dataset(real_data("bccd"), "val").subset(range(40))
    batches = make(dataset, 4, 320, 533, transforms=(HorizontalFlip(), Photometric()), steps=20)
    batches[0]
    batches.waited, started = 0.0, time.perf_counter()
    for index in range(1, 20):
        time.sleep(0.1)  # a step far faster than any on a CPU
        x, _ = batches[index]
    assert x["images"].shape == (4, 320, 448, 3)
    assert batches.waited < 0.05 * (time.perf_counter() - started)
