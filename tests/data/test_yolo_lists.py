import pytest

from frcnn.data.dataset import open_dataset
from frcnn.data.faults import Kind

NAMES = "names: [cat, dog]\n"


@pytest.mark.parametrize(
    "start", ["/content/data/", "D:\\data\\", "data/", "data\\", "/content/", "x/y/z/"]
)
def test_paths_of_another_machine_are_found_by_their_ends(one, start):
    one.add("obj_train_data/b.jpg", "1 0.5 0.5 0.25 0.5")
    names = ("images/train/a.jpg", "obj_train_data/b.jpg", "images/train/none.jpg")
    one.yaml("\n".join(start + name for name in names), "lists/train.txt")
    one.yaml("train: lists/train.txt\n" + NAMES)
    dataset = open_dataset(one.root)
    assert [sample.image.name for sample in dataset] == ["a.jpg", "b.jpg"]
    assert [sample.labels.tolist() for sample in dataset] == [[0], [1]]
    remarks = [fault for fault in dataset.faults if fault.is_remark]
    assert len(remarks) == 1 and remarks[0].file == one.root / "lists/train.txt"
    assert "names 2 pictures by paths that are not there" in remarks[0].problem
    (fault,) = (fault for fault in dataset.faults if not fault.is_remark)
    assert fault.images == 1 and fault.kind == Kind.MISSING_PICTURE


def test_a_picture_missing_from_its_folder_is_not_looked_for_elsewhere(one):
    one.add("b.jpg")
    names = ("images/train/a.jpg", "images/train/b.jpg", f"{one.root}/images/train/b.jpg")
    one.yaml("\n".join(names), "train.txt")
    one.yaml("train: train.txt\n" + NAMES)
    dataset = open_dataset(one.root)
    assert [sample.image.name for sample in dataset] == ["a.jpg"]
    assert [fault.images for fault in dataset.faults] == [1, 1]
