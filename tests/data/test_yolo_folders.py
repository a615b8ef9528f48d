import pytest

from frcnn.data.dataset import available_splits, open_dataset
from frcnn.data.faults import DataError

ROW = "1 0.5 0.5 0.25 0.5"


@pytest.mark.parametrize("name", ["classes.txt", "_darknet.labels"])
@pytest.mark.parametrize(
    "picture, list_",
    [
        ("{}/a.jpg", "{}"),
        ("images/{}/a.jpg", "labels/{}"),
        ("{}/images/a.jpg", "{}/labels"),
        ("{}/images/a.jpg", "{}/images"),
    ],
)
def test_a_list_of_the_classes_in_each_split(yolo, picture, list_, name):
    for split in ("train", "valid"):
        yolo.add(picture.format(split), ROW)
        (yolo.root / list_.format(split) / name).write_text("cat\ndog\n")
    assert available_splits(yolo.root) == ("train", "valid")
    for split in ("train", "val"):
        dataset = open_dataset(yolo.root, split, strict=True)
        assert dataset.classes == ("cat", "dog") and dataset[0].labels.tolist() == [1]
        assert not dataset.faults
    (yolo.root / list_.format("valid") / name).write_text("cat\ndog\ncow\n")  # it goes on
    assert open_dataset(yolo.root, "train").classes == ("cat", "dog", "cow")
    (yolo.root / list_.format("valid") / name).write_text("dog\ncat\n")
    with pytest.raises(
        DataError, match=f"{name}: calls class 0 'dog', but .*{name} calls it 'cat'"
    ):
        open_dataset(yolo.root)
    (yolo.root / "classes.txt").write_text("one\ntwo\n")  # that of the whole comes first
    assert open_dataset(yolo.root, "train").classes == ("one", "two")


def test_a_split_may_lack_the_list_but_not_the_labels(yolo):
    for split in ("train", "val"):
        yolo.add(f"{split}/a.jpg", ROW)
    yolo.add("plots/a.jpg")
    (yolo.root / "train/classes.txt").write_text("cat\ndog\n")
    assert available_splits(yolo.root) == ("train", "val")
    assert len(open_dataset(yolo.root, strict=True)) == 2


def test_folders_of_pictures_and_classes_without_labels_are_no_data_set(yolo):
    yolo.add("train/a.jpg")
    (yolo.root / "train/classes.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match="is no data set"):
        open_dataset(yolo.root)
    (yolo.root / "train/classes.txt").rename(yolo.root / "classes.txt")
    (yolo.root / "train/a.jpg").unlink()
    yolo.add("train/cat/a.jpg")
    with pytest.raises(DataError, match="is no data set"):
        open_dataset(yolo.root)


def test_the_export_of_cvat_for_a_task_with_folders(yolo):
    for number in range(2):
        yolo.add(f"obj_train_data/{number}/a.jpg", ROW)
    yolo.add("other/1/a.jpg")
    (yolo.root / "obj.names").write_text("cat\ndog\n")
    assert available_splits(yolo.root) == ("obj_train_data",)
    dataset = open_dataset(yolo.root, strict=True)
    assert len(dataset) == 2 and dataset.classes == ("cat", "dog")


def test_annotations_of_voc_come_before_labels_beside_pictures(yolo):
    yolo.add("train/a.jpg", ROW)
    (yolo.root / "train/classes.txt").write_text("cat\ndog\n")
    (yolo.root / "train/a.xml").write_text(
        "<annotation><object><name>cow</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
        "<ymax>9</ymax></bndbox></object></annotation>"
    )
    assert open_dataset(yolo.root).classes == ("cow",)
