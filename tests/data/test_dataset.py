from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frcnn.data.dataset import Dataset, available_splits, hold_out, open_dataset
from frcnn.data.faults import DataError
from frcnn.structures import Sample


@pytest.fixture
def dataset(tmp_path, write_image):
    rows = []
    for number in range(20):
        write_image(tmp_path / f"{number}.png", size=(20, 30 + number))
        rows += [f"{number}.png,1,1,9,9,{name}" for name in "ab"[: number % 3]]
        rows += [f"{number}.png,,,,,"]
    path = tmp_path / "all.csv"
    path.write_text("\n".join(rows))
    return open_dataset(path)


def names(dataset):
    return [sample.image.stem for sample in dataset]


def test_sizes_items_and_iteration(dataset):
    sizes = dataset.sizes()
    assert sizes.dtype == np.int32 and sizes.shape == (20, 2)
    assert sizes[3].tolist() == [20, 33]
    assert dataset[3] is list(dataset)[3] and len(dataset) == 20


def test_subsets_keep_labels_and_drop_faults(dataset):
    some = dataset.subset([5, 2])
    assert names(some) == ["5", "2"] and some.classes == dataset.classes
    assert names(dataset.subset(np.array([1]))) == ["1"]
    both = dataset.subset(lambda sample: len(sample.labels) == 2)
    assert len(both) == 6 and both.box_counts() == {"a": 6, "b": 6}
    assert dataset.subset([]).sizes().shape == (0, 2)
    assert dataset.subset([]).box_counts() == {"a": 0, "b": 0}


def test_classes_given_set_the_labels(dataset):
    again = open_dataset(dataset.root, classes=("z", "b", "a"))
    assert again.classes == ("z", "b", "a")
    assert again[2].labels.tolist() == [2, 1]
    assert again.box_counts() == {"z": 0, "b": 6, "a": 13}


def test_unknown_classes_are_left_out_and_named_once(dataset):
    fewer = open_dataset(dataset.root, classes=("b",))
    (fault,) = fewer.faults
    assert fault.problem == "has class 'a', not among the 1 class expected (13 boxes in all)"
    assert fault.boxes == 13 and fewer.box_counts() == {"b": 6}
    assert len(fewer) == 20
    with pytest.raises(DataError, match="has class 'a'"):
        open_dataset(dataset.root, classes=("b",), strict=True)


def test_summary_names_ten_faults_then_counts(dataset):
    lines = [f"none{number}.png,1,1,2,2,a" for number in range(13)]
    dataset.root.write_text("\n".join(["1.png,1,1,9,9,a", "1.png,5,5,5,5,a", *lines]))
    summary = open_dataset(dataset.root).summary().splitlines()
    assert summary[0] == f"{dataset.root}: 1 image, 1 box"
    assert summary[1].split() == ["a", "1"]
    assert summary[2] == "Left out: 13 images and 1 box."
    assert len(summary) == 3 + 10 + 1
    assert summary[-1].strip() == "and 4 more faults"


def test_a_path_that_is_no_data_set(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full" / "pictures").mkdir(parents=True)
    for number in range(9):
        (tmp_path / "full" / f"{number}.txt").touch()
    for path, state, contents in [
        (tmp_path / "none", "does not exist", ""),
        (tmp_path / "none.csv", "does not exist", ""),
        (tmp_path / "full" / "0.pdf", "does not exist", ""),
        (tmp_path / "empty", "is no data set", "; the folder is empty"),
        (tmp_path / "full", "is no data set", "5.txt, 6.txt, 7.txt and 2 more"),
    ]:
        for opened in (open_dataset, available_splits):
            with pytest.raises(
                DataError, match=f"{path}: {state}; expected a VOC folder"
            ) as caught:
                opened(path)
            message = str(caught.value)
            assert "VOC2007 or VOC2012" in message and ".csv" in message
            assert "instances_*.json" in message and "data.yaml" in message
            assert message.endswith(contents)


def test_a_folder_in_several_formats_is_read_as_the_first_that_fits(voc):
    voc.add("a", "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
                 "<ymax>9</ymax></bndbox></object>")  # fmt: skip
    (voc.root / "annotations.json").write_text("{}")
    (voc.root / "data.yaml").write_text("{}")
    assert open_dataset(voc.root).classes == ("cat",)


def test_a_class_spelled_otherwise_is_told(dataset):
    other = open_dataset(dataset.root, classes=("A", "b"))
    (fault,) = other.faults
    assert fault.problem.endswith("(13 boxes in all); is 'A' meant?")
    assert other.unknown == ("a",)


def test_another_list_of_classes(dataset):
    wider = dataset.with_classes(("z", "b", "a"))
    assert wider.box_counts() == {"z": 0, "b": 6, "a": 13}
    for before, after in zip(dataset, wider, strict=True):
        names = [dataset.classes[label] for label in before.labels]
        assert [wider.classes[label] for label in after.labels] == names
    with pytest.raises(ValueError, match="Expected classes with 'a'"):
        dataset.with_classes(("z", "b"))
    assert dataset.subset([0]).with_classes(("x",)).classes == ("x",)  # 0 has no boxes


def test_hold_out_parts_and_repeats(dataset):
    rest, held = hold_out(dataset, 0.25, seed=3)
    assert len(held) == 5 and len(rest) == 15
    assert sorted(names(rest) + names(held)) == sorted(names(dataset))
    assert names(hold_out(dataset, 0.25, seed=3)[1]) == names(held)
    assert names(hold_out(dataset, 0.25, seed=4)[1]) != names(held)


def test_the_rest_keeps_the_faults(dataset):
    with_faults = open_dataset(dataset.root, classes=("b",))
    rest, held = hold_out(with_faults, 0.25)
    assert rest.faults == with_faults.faults != () and held.faults == ()


def test_hold_out_does_not_depend_on_where_pictures_are_named_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [Path("/zz/a.png"), Path("b.png"), Path("c.png"), Path("d.png")]
    parts = [
        hold_out(Dataset(tuple(map(Sample, each)), (), tmp_path), 0.5, seed)[1]
        for seed in range(4)
        for each in (files, [file.absolute() for file in files])
    ]
    held = [[sample.image.name for sample in part] for part in parts]
    assert held[::2] == held[1::2]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.permutations(range(20)), st.floats(0.01, 0.99), st.integers(0, 100))
def test_hold_out_does_not_depend_on_the_order(dataset, order, fraction, seed):
    rest, held = hold_out(dataset, fraction, seed)
    shuffled_rest, shuffled_held = hold_out(dataset.subset(order), fraction, seed)
    assert set(names(held)) == set(names(shuffled_held))
    assert set(names(rest)) == set(names(shuffled_rest))
    assert len(held) and len(rest)


def test_hold_out_refuses_what_it_cannot_do(dataset):
    for fraction in (0, 1, -0.5, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            hold_out(dataset, fraction)
    with pytest.raises(DataError, match="1 image, too few"):
        hold_out(dataset.subset([0]), 0.5)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.one_of(
    st.binary(max_size=100),
    st.lists(st.sampled_from([
        "<annotation>", "</annotation>", "<object>", "</object>", "<name>cat</name>", "<name>",
        "<bndbox>", "</bndbox>", "<xmin>1</xmin>", "<ymin>1</ymin>", "<xmax>9</xmax>",
        "<ymax>1e999</ymax>", "<ymax>9</ymax>", "<difficult>x</difficult>", "&lt;", "&x;",
        "<size><width>nan</width></size>", "<filename>../x</filename>", "<!DOCTYPE a>",
    ]), max_size=14).map(lambda parts: "".join(parts).encode()),
))  # fmt: skip
def test_random_annotations_never_give_another_error(voc, data):
    (voc.root / "Annotations").mkdir(exist_ok=True)
    voc.add("a")
    (voc.root / "Annotations" / "a.xml").write_bytes(data)
    try:
        dataset = open_dataset(voc.root)
    except DataError:
        return
    assert all((sample.boxes[:, 2:] > sample.boxes[:, :2]).all() for sample in dataset)


def test_bccd(real_data):
    root = real_data("bccd")
    assert available_splits(root) == ("test", "train", "trainval", "val")
    parts = {split: open_dataset(root, split) for split in available_splits(root)}
    assert {split: len(part) for split, part in parts.items()} == {
        "test": 72, "train": 205, "trainval": 292, "val": 87,
    }  # fmt: skip
    everything = open_dataset(root)
    assert everything.classes == ("Platelets", "RBC", "WBC")
    assert sum(everything.box_counts().values()) == 4886
    assert {fault.file.stem for fault in everything.faults} == {
        "BloodImage_00343", "BloodImage_00338",
    }  # fmt: skip
    assert all("without area" in fault.problem for fault in everything.faults)
    assert set(map(tuple, everything.sizes().tolist())) == {(480, 640)}


def test_pcb(real_data):
    train = open_dataset(real_data("pcb") / "train.csv", strict=True)
    test = open_dataset(train.root, "test", classes=train.classes, strict=True)
    assert (len(train), len(test)) == (300, 120)
    assert train.classes == ("copper", "mousebite", "open", "pin-hole", "short", "spur")
    assert not {sample.image for sample in train} & {sample.image for sample in test}


def test_the_first_fault_says_why_there_is_no_class(dataset):
    dataset.root.write_text("1.png,5,5,5,5,a\n")
    with pytest.raises(
        DataError, match=r"no class to learn; the first fault is .*line 1 \(a\) has"
    ):
        open_dataset(dataset.root)
