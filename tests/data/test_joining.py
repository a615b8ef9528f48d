"""Several files on the same pictures are read as one."""

import json

import numpy as np
import pytest

from frcnn.data.dataset import open_dataset

BOXES = {"cat": (1, 2, 30, 40), "dog": (5, 5, 20, 20)}


def csv(folder):
    for name, corners in BOXES.items():
        rows = [f"a.jpg,{','.join(map(str, corners))},{name}", "b.jpg,2,2,9,9,cat", "c.jpg,,,,,"]
        (folder / f"{name}.csv").write_text("\n".join(rows))
    return folder


def coco(folder):
    (folder / "annotations").mkdir()
    for name, (x1, y1, x2, y2) in BOXES.items():
        categories = [{"id": 1, "name": name}, {"id": 2, "name": "cat"}][: 1 + (name == "dog")]
        boxes = [(1, (x1, y1, x2 - x1, y2 - y1), 1), (2, (2, 2, 7, 7), len(categories))]
        records = [
            {"id": n, "image_id": image, "bbox": bbox, "category_id": category}
            for n, (image, bbox, category) in enumerate(boxes)
        ]
        images = [{"id": n, "file_name": f"{letter}.jpg"} for n, letter in enumerate("abc", 1)]
        value = {"images": images, "annotations": records, "categories": categories}
        (folder / "annotations" / f"{name}.json").write_text(json.dumps(value))
    return folder


@pytest.mark.parametrize("write", [csv, coco])
def test_a_file_for_each_class(tmp_path, write_image, write):
    for name in "abc":
        write_image(tmp_path / f"{name}.jpg", seed=ord(name))
    dataset = open_dataset(write(tmp_path), strict=True)
    assert dataset.classes == ("cat", "dog")
    one, same, none = dataset
    np.testing.assert_array_equal(one.boxes, list(BOXES.values()))
    assert one.labels.tolist() == [0, 1]
    assert (len(same.labels), len(none.labels)) == (1, 0)  # what both have is one object
    (note,) = dataset.faults
    assert "1 picture in several files with other boxes" in str(note)
    assert "as a.jpg of cat" in str(note)
    assert open_dataset(tmp_path, "dog", classes=("cat", "dog"))[0].labels.tolist() == [1]
