"""Batches that are begun before the results of earlier ones are asked for, as on a GPU."""

import numpy as np
import pytest

from frcnn.inference.pictures import PictureDetector
from frcnn.inference.preparation import Preparation


class Late(PictureDetector):
    """Finds, when asked for it, a box as wide as what each picture's pixels are."""

    classes = ("a",)
    preparation = Preparation(32, 64, ((32, 32),), "smooth")
    fills_batches = False

    def __init__(self, batches_ahead):
        self.ahead, self.log = batches_ahead, []

    @property
    def batches_ahead(self):
        return self.ahead

    def infer(self, images, sizes):
        name = int(images[0, 0, 0, 0])
        self.log.append(f"begin {name}")
        return Results(name, images, self.log)


class Results(dict):
    """Made when they are first looked at."""

    def __init__(self, name, images, log):
        boxes = np.zeros((len(images), 1, 4), np.float32)
        boxes[:, 0, 2:] = images[:, 0, 0, :1]
        ones = np.ones((len(images), 1))
        super().__init__(boxes=boxes, scores=ones, labels=0 * ones, count=ones[:, 0])
        self.name, self.log = f"finish {name}", log

    def __getitem__(self, key):
        if self.name not in self.log:
            self.log.append(self.name)
        return super().__getitem__(key)


def pictures(count):
    return [np.full((32, 32, 3), number, np.uint8) for number in range(1, count + 1)]


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_results_come_in_order(ahead):
    detector, progress = Late(ahead), []
    found = detector.detect(pictures(7), batch=2, progress=lambda: progress.append(1))
    assert [float(each.boxes[0, 2]) for each in found] == [1, 2, 3, 4, 5, 6, 7]
    assert len(progress) == 7
    assert sorted(detector.log) == sorted(f"{a} {b}" for a in ("begin", "finish") for b in "1357")
    for number, later in zip("1357", "357", strict=False):
        between = detector.log.index(f"finish {number}") - detector.log.index(f"begin {later}")
        assert (between > 0) == (ahead > 0)


def test_prepared_pictures_are_waited_for_at_once():
    detector = Late(1)
    (found,) = detector.detect_prepared([detector.prepare(pictures(5)[-1])], 1)
    assert detector.log == ["begin 5", "finish 5"] and found.boxes[0, 2] == 5
