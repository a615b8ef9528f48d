import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faults import only_fault
from frcnn.data.dataset import available_splits, open_dataset
from frcnn.data.faults import DataError
from frcnn.data.yolo import labels_without_picture

NAMES = "names: [cat, dog]\n"


def test_centres_and_sides_are_shares_of_the_picture(yolo):
    yolo.add("images/a.jpg", "1 0.5 0.5 1 1", "", "0 0.25 0.5 0.125 0.25", " 0.0 .5 5e-1 .5 .5 ")
    yolo.yaml("train: images\n" + NAMES)
    (sample,) = open_dataset(yolo.root, strict=True)
    np.testing.assert_allclose(
        sample.boxes, [[0, 0, 64, 48], [12, 18, 20, 30], [16, 12, 48, 36]], atol=1e-5
    )
    assert sample.labels.tolist() == [1, 0, 0] and sample.size == (48, 64)


def test_polygons_become_the_boxes_around_them(yolo):
    yolo.add("images/a.jpg", "0 0.25 0.5 0.5 0.25 0.75 0.75", "1 0 0 1 0 1 0.5 0 0.5")
    yolo.yaml("train: images\n" + NAMES)
    (sample,) = open_dataset(yolo.root, strict=True)
    np.testing.assert_allclose(sample.boxes, [[16, 12, 48, 36], [0, 0, 64, 24]], atol=1e-5)


def test_keypoints_behind_the_box_are_passed_over(yolo):
    yolo.add("images/a.jpg", "0 0.5 0.5 0.5 0.5 0.1 0.1 0.2 0.2", "0 0.5 0.5 0.5 0.5 0.1 0.1 2")
    yolo.yaml("train: images\nkpt_shape: [2, 2]\nnames: [person]\n")
    (sample,) = open_dataset(yolo.root, strict=True)
    np.testing.assert_allclose(sample.boxes, [[16, 12, 48, 36]] * 2)


@pytest.mark.parametrize("suffix", [".txt", ".TXT", ".Txt"])
@pytest.mark.parametrize("folder", ["labels", "images"])
def test_labels_are_found_whatever_the_case_of_their_suffix(one, folder, suffix):
    for name in ("b.jfif", "c.JPE"):
        one.write_image(one.root / "any.jpg").rename(one.root / "images/train" / name)
    (one.root / f"{folder}/train/c{suffix}").write_text("1 0.5 0.5 1 1\n")
    dataset = open_dataset(one.root, strict=True)
    counts = {sample.image.name: len(sample.labels) for sample in dataset}
    assert counts == {"a.jpg": 1, "b.jfif": 0, "c.JPE": 1}


def test_labels_of_no_picture_are_found_and_lists_are_not(one):
    for name, text in {
        "train/b.txt": "0 0.5 0.5 1 1",
        "train/deep/c.TXT": "",
        "train/a.txt": "0 0.5 0.5 1 1",
        "classes.txt": "0\n",
        "train.txt": "./images/train/a.jpg",
        "train/notes.md": "1",
        "other/d.txt": "0 0.5 0.5 1 1",
        "train/e.txt": "\xff",
    }.items():
        file = one.root / "labels" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode("latin-1"))
    one.write_image(one.root / "images/other/d.jpg")  # in no split, but there
    lost = labels_without_picture([sample.image for sample in open_dataset(one.root)])
    assert [str(path.relative_to(one.root / "labels")) for path in lost] == [
        "train/b.txt",
        "train/deep/c.TXT",
    ]
    assert not labels_without_picture([one.root / "a.jpg", one.root / "images/none.jpg"])


def test_pictures_without_labels_show_nothing(one):
    one.add("images/train/b.jpg", "")
    one.add("images/train/deep/c.JPG")
    one.add("images/train/.hidden.jpg")
    dataset = open_dataset(one.root, strict=True)
    assert [sample.image.name for sample in dataset] == ["a.jpg", "b.jpg", "c.JPG"]
    assert [len(sample.labels) for sample in dataset] == [1, 0, 0]


def test_a_split_without_any_label_file_is_refused(one):
    one.add("images/test/b.jpg")
    one.yaml("train: images/train\ntest: images/test\n" + NAMES)
    expected = r"images.test: none of its 1 picture has labels; .*labels.test.b.txt"
    with pytest.raises(DataError, match=expected):
        open_dataset(one.root, "test")


def test_labels_beside_the_pictures(yolo):
    yolo.add("obj/a.jpg", "0 0.5 0.5 0.25 0.5")
    yolo.add("images/b.jpg", "1 0.5 0.5 0.25 0.5", label="images/b.txt")
    yolo.yaml("train: [obj, images]\n" + NAMES)
    dataset = open_dataset(yolo.root, strict=True)
    assert [sample.labels.tolist() for sample in dataset] == [[0], [1]]


@pytest.mark.parametrize(
    "names",
    [
        "names: [cat, dog]",
        "names:\n  - cat\n  - dog",
        "names:\n  0: cat\n  1: dog",
        "names: {1: dog, 0: ' cat '}\nnc: 2",
        "names: [cat, 'dog']\nnc:",
    ],
)
def test_names_as_a_list_or_a_mapping(one, names):
    one.yaml(f"train: images/train\n{names}\n")
    assert open_dataset(one.root, strict=True).classes == ("cat", "dog")


def test_names_are_text_whatever_yaml_makes_of_them(one):
    one.yaml("train: images/train\nnames: [no, 1, 1.50, null, ~, 2024-01-01, ünï]\n")
    assert open_dataset(one.root).classes == ("no", "1", "1.50", "null", "~", "2024-01-01", "ünï")


def test_classes_counted_from_1_are_refused(one):
    """Else each name would stand for the class behind its own, and the last have no box."""
    box = ".5 .5 .2 .2"
    one.add("images/train/a.jpg", f"1 {box}", f"2 {box}")
    with pytest.raises(DataError, match="each class from 1 to 2 and never 0.*2 names.*'cat'"):
        open_dataset(one.root)
    for numbers in ([1], [0, 1, 2], [2]):
        one.add("images/train/a.jpg", *(f"{number} {box}" for number in numbers))
        assert open_dataset(one.root).classes == ("cat", "dog")


def test_numbers_of_classes_may_have_gaps(one):
    one.add("images/train/b.jpg", "90 0.5 0.5 0.25 0.5", "7 0.5 0.5 0.25 0.5")
    one.yaml("train: images/train\nnames: {90: dog, 0: cat}\n")
    dataset, fault = only_fault(one.root)
    assert dataset.classes == ("cat", "dog") and dataset[1].labels.tolist() == [1]
    assert fault.problem == "line 2 has class 7, but classes are named for 0 to 90 only"


@pytest.mark.parametrize("place", ["classes.txt", "obj.names", "labels/classes.txt"])
def test_names_from_a_list(yolo, place):
    yolo.add("images/train/a.jpg", "1 0.5 0.5 0.25 0.5")
    (yolo.root / place).write_text("\ufeffcat\ndog\n\n", "utf-8")
    dataset = open_dataset(yolo.root, strict=True)
    assert dataset.classes == ("cat", "dog") and dataset[0].labels.tolist() == [1]


def test_without_names_classes_are_called_by_their_numbers(yolo):
    rows = [f"{number} 0.5 0.5 0.25 0.5" for number in (10, 2, 0)]
    yolo.add("images/train/a.jpg", *rows)
    yolo.add("images/val/b.jpg", "3 0.5 0.5 0.25 0.5", "2 0.5 0.5 0.25 0.5")
    dataset = open_dataset(yolo.root, "train", strict=True)
    assert dataset.classes == ("0", "2", "10")
    (note,) = dataset.faults
    assert "has no class names (names in data.yaml, or classes.txt): the classes are" in str(note)
    validation = open_dataset(yolo.root, "val", classes=dataset.classes)
    assert validation.unknown == ("3",) and validation[0].labels.tolist() == [1]


@pytest.mark.parametrize(
    "layout", [("images/{}/a.jpg", "{}"), ("{}/images/a.jpg", "{}/images")], ids=["inner", "outer"]
)
def test_folders_without_a_yaml_file(yolo, layout):
    for split in ("train", "valid"):
        yolo.add(layout[0].format(split), "0 0.5 0.5 0.25 0.5")
    yolo.yaml("site_name: a page about something else\n", "mkdocs.yml")
    assert available_splits(yolo.root) == ("train", "valid")
    assert open_dataset(yolo.root, "val").split == "valid"
    assert len(open_dataset(yolo.root)) == 2


def test_one_folder_without_splits(yolo):
    yolo.add("images/a.jpg", "0 0.5 0.5 0.25 0.5")
    yolo.add("images/deep/b.jpg", "0 0.5 0.5 0.25 0.5")
    yolo.yaml(NAMES)
    assert available_splits(yolo.root) == ()
    assert [len(sample.labels) for sample in open_dataset(yolo.root, strict=True)] == [1, 1]
    with pytest.raises(DataError, match="has no split 'train'; it has none"):
        open_dataset(yolo.root, "train")


def test_the_export_of_roboflow(yolo):
    for split in ("train", "valid"):
        yolo.add(f"{split}/images/{split}.jpg", "0 0.5 0.5 0.25 0.5")
    file = yolo.yaml(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\n"
        "names: ['cat', 'dog']\n\nroboflow:\n  license: MIT\n  project: x\n  url: http://x\n"
    )
    for path in (yolo.root, file):
        assert available_splits(path) == ("train", "val")
        dataset = open_dataset(path, "valid", strict=True)
        assert dataset[0].image == yolo.root / "valid/images/valid.jpg" and dataset.split == "val"
        (note,) = dataset.faults
        assert "test is '../test/images', which does not exist" in str(note)


def test_an_export_is_read_and_not_the_one_beside_it(yolo):
    yolo.add("train/images/theirs.jpg", "0 0.5 0.5 0.5 0.5")
    yolo.add("mine/train/images/ours.jpg", "0 0.5 0.5 0.5 0.5")
    yolo.add("valid/images/beside.jpg", "0 0.5 0.5 0.5 0.5")
    yolo.yaml("train: ../train/images\nval: ../valid/images\n" + NAMES, "mine/data.yaml")
    dataset = open_dataset(yolo.root / "mine", "train", strict=True)
    assert [sample.image.name for sample in dataset] == ["ours.jpg"]
    (note,) = dataset.faults
    ours, theirs = (yolo.root / part / "train/images" for part in ("mine", "mine/.."))
    assert note.problem == f"train is '../train/images': {ours} is read, not {theirs}"
    (sample,) = open_dataset(yolo.root / "mine", "val", strict=True)
    assert sample.image.name == "beside.jpg"


@pytest.mark.parametrize("root", ["..", "/content/datasets/mine", "../data", "datasets/x"])
def test_the_root_may_be_another_machines(one, root):
    one.yaml(f"path: {root}\ntrain: images/train\nval:\ntest: null\n{NAMES}")
    assert len(open_dataset(one.root, "train", strict=True)) == 1
    assert available_splits(one.root) == ("train",)


def test_the_root_is_used(one, tmp_path):
    file = tmp_path / "configs" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(f"path: ../data\ntrain: images/train\n{NAMES}")
    assert len(open_dataset(file, strict=True)) == 1
    assert len(open_dataset(file.parent, strict=True)) == 1  # the only YAML file there
    file.write_text(f"path: {one.root}\ntrain: images/train\n{NAMES}")
    assert len(open_dataset(file, strict=True)) == 1


def test_lists_of_pictures(one, tmp_path):
    one.add("images/val/b.jpg", "1 0.5 0.5 0.25 0.5")
    lines = ["./images/train/a.jpg", "", "images/val/b.jpg ", f"{one.root}/images/val/b.jpg"]
    one.yaml("\n".join(lines), "lists/all.txt")
    one.yaml("train: lists/all.txt\nval: [images/val, images/train]\nminival: images/val\n" + NAMES)
    assert available_splits(one.root) == ("minival", "train", "val")
    assert [s.labels.tolist() for s in open_dataset(one.root, "train", strict=True)] == [[0], [1]]
    assert [s.labels.tolist() for s in open_dataset(one.root, "val", strict=True)] == [[1], [0]]
    assert len(open_dataset(one.root, "minival", strict=True)) == 1
    assert len(open_dataset(one.root, strict=True)) == 2


@pytest.mark.parametrize(
    "line, problem",
    [
        ("../a.jpg", "line 2 has '../a.jpg', a path that leaves the data set"),
        ("/x/../a.jpg", "line 2 has '/x/../a.jpg', a path that leaves the data set"),
        ("none.jpg", "line 2 names 'none.jpg', which is not in "),
        ("\0", "line 2 names '\\x00', which is not in "),
        ("/none.jpg", "does not exist"),
    ],
)
def test_a_bad_line_of_a_list_is_left_out(one, line, problem):
    one.yaml(f"images/train/a.jpg\n{line}\n", "all.txt")
    one.yaml("train: all.txt\n" + NAMES)
    dataset, fault = only_fault(one.root)
    assert len(dataset) == 1 and fault.images == 1 and fault.problem.startswith(problem)


@pytest.mark.parametrize(
    "row, problem",
    [
        ("0 0.5 0.5 0.25", "has 4 numbers; expected 5 (class, centre x and y, width, height), or"),
        ("0", "has 1 number; expected 5"),
        ("0 0.5 0.5 0.25 0.5 0.9", "has 6 numbers; expected 5"),
        ("0 0.1 0.2 0.3 0.4 0.5 0.6 0.7", "has 8 numbers; expected 5"),
        ("cat 0.5 0.5 0.25 0.5", "has 'cat', which is not a number"),
        ("0 0.5 half 0.25 0.5", "has 'half', which is not a number"),
        ("0 0.5 nan 0.25 0.5", "has 'nan', which is not a number"),
        ("0 0.5 inf 0.25 0.5", "has 'inf', which is not a number"),
        ("0 0.5 1e999 0.25 0.5", "has '1e999', which is not a number"),
        ("0,0.5,0.5,0.25,0.5", "has '0,0.5,0.5,0.25,0.5', which is not a number"),
        ("0 " + "x" * 500, "has 'xxx"),
        ("-1 0.5 0.5 0.25 0.5", "has class '-1', not a whole number from 0"),
        ("0.5 0.5 0.5 0.25 0.5", "has class '0.5', not a whole number from 0"),
        ("1e99 0.5 0.5 0.25 0.5", "has class '1e99', not a whole number from 0"),
        ("2 0.5 0.5 0.25 0.5", "has class 2, but classes are named for 0 to 1 only"),
        ("0 320 240 64 48", "has 320, which is no share of the picture (0 to 1)"),
        ("0 0.5 0.5 0 0.5", "has a box without area, width 0 and height 0.5"),
        ("0 0.5 0.5 -0.2 0.5", "has a box without area, width -0.2 and height 0.5"),
        ("0 0.1 0.1 0.2 0.1 0.3 0.1", "(cat) has a box without area"),
        ("0 0.1 0.5 0.5 0.5", "(cat) reaches beyond its picture of 64x48 pixels: (-9.6, 12,"),
        ("0 1.4 0.5 0.1 0.5", "(cat) lies outside its picture of 64x48 pixels"),
    ],
)
def test_a_bad_row_is_left_out(one, row, problem):
    one.add("images/train/a.jpg", "0 0.5 0.5 0.25 0.5", row)
    dataset, fault = only_fault(one.root)
    assert fault.file == one.root / "labels/train/a.txt" and fault.boxes == 1
    assert fault.problem.startswith(f"line 2 {problem}") and len(fault.problem) < 200
    assert len(dataset[0].labels) == 1


def test_a_little_overhang_is_clipped(one):
    one.add("images/train/a.jpg", "0 0.5 0.5 1.04 1")
    np.testing.assert_array_equal(open_dataset(one.root, strict=True)[0].boxes, [[0, 0, 64, 48]])


def test_a_label_file_that_is_no_text_leaves_its_picture_out(one):
    one.add("images/train/b.jpg", "0 0.5 0.5 0.25 0.5")
    (one.root / "labels/train/b.txt").write_bytes(b"0 0.5 \xff")
    dataset, fault = only_fault(one.root)
    assert fault.problem == "is not UTF-8 text (byte 6)" and fault.images == 1
    assert [sample.image.name for sample in dataset] == ["a.jpg"]


BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text, problem",
    [
        ("", "is no YOLO data set: expected keys such as train, val and names"),
        ("just text", "is no YOLO data set"),
        ("- a\n- b", "is no YOLO data set"),
        ("train: [", "is not YAML"),
        ("a: b: c", "is not YAML"),
        ("\0", "is not YAML"),
        ("? {a: b}\n: c", "is not YAML"),
        ('names: ["\\UFFFFFFFF"]', "is not YAML"),
        (BOMB, r"is not YAML \(it uses aliases"),
        ("[" * 50_000, "is nested too deeply for a data.yaml"),
        ("a: " + "x" * (1 << 20), "has 1,048,579 bytes, more than the limit of 262,144"),
        ("names: [a]", "it names no train, val or test pictures; looked in"),
        ("train: nowhere\nnames: [a]", "train is 'nowhere', which does not exist; looked in"),
        ("train: " + "x" * 9999, "does not exist"),
        ('train: "\\0"', "does not exist"),
        ("train: data.yaml", "does not exist"),
        ("train: images/train\nnames: cats.txt", "names is text; expected a list, or a mapping"),
        ("train: images/train\nnames: []", "names no class"),
        ("train: images/train\nnames: [a, [b]]", "class 1 has no name"),
        ("train: images/train\nnames: [a, '']", "class 1 has no name"),
        ("train: images/train\nnames: {a: b}", "names has a key that is not a whole number"),
        ("train: images/train\nnames: {-1: b}", "numbers a class outside 0 to 999,999"),
        ("train: images/train\nnames: {1000000000: b}", "numbers a class outside 0 to 999,999"),
        ("train: images/train\nnames: [a, b]\nnc: 3", "nc is 3, but names has 2"),
    ],
)
def test_what_is_no_data_yaml(yolo, text, problem):
    yolo.add("pictures/a.jpg", "0 0.5 0.5 0.25 0.5")
    yolo.add("images/train/a.jpg", label="elsewhere/a.txt")
    yolo.yaml(text)
    began = time.perf_counter()
    with pytest.raises(DataError, match=problem) as caught:
        open_dataset(yolo.root)
    assert time.perf_counter() - began < 5
    assert str(yolo.root) in str(caught.value) and "\n" not in str(caught.value)


def test_no_object_is_made_from_a_yaml_file(one, tmp_path):
    one.yaml(
        "train: images/train\nnames: [cat]\n"
        f'x: !!python/object/apply:os.mkdir ["{tmp_path / "made"}"]\n'
    )
    open_dataset(one.root)
    assert not (tmp_path / "made").exists()


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.one_of(
        st.binary(max_size=80),
        st.lists(st.sampled_from([
            "train", "val", "names", "nc", "path", ": ", "images/train", "[", "]", "{", "}", ", ",
            "\n", "  ", "- ", "cat", "0", "*a", "&a ", "..", "/", "!!int ", "|", "'",
        ]), max_size=14).map(lambda parts: "".join(parts).encode()),
    ),
    st.one_of(
        st.binary(max_size=60),
        st.lists(st.lists(st.sampled_from(
            ["0", "1", "7", "0.5", "0.25", "-1", "nan", "1e400", "x", "\0"]
        ), max_size=9).map(" ".join), max_size=4).map(lambda rows: "\n".join(rows).encode()),
    ),
)  # fmt: skip
def test_random_content_never_gives_another_error(one, settings_data, label):
    (one.root / "data.yaml").write_bytes(settings_data)
    (one.root / "labels/train/a.txt").write_bytes(label)
    try:
        dataset = open_dataset(one.root)
    except DataError as error:
        assert "\n" not in str(error)
        return
    for sample in dataset:
        assert (sample.boxes[:, 2:] > sample.boxes[:, :2]).all()
        assert (sample.boxes >= 0).all() and (sample.boxes <= [64, 48, 64, 48]).all()


@pytest.mark.parametrize("names", ["classes.txt", "obj.names"])
@pytest.mark.parametrize("split", ["", "train/"])
def test_labels_beside_their_pictures_with_a_list_of_classes(yolo, names, split):
    (yolo.root / split).mkdir(exist_ok=True)
    yolo.add(f"{split}a.jpg", "1 0.5 0.5 0.25 0.5")
    yolo.add(f"{split}b.jpg")
    with pytest.raises(DataError, match="is no data set"):
        open_dataset(yolo.root)
    (yolo.root / names).write_text("cat\ndog\n")
    data = open_dataset(yolo.root, split.strip("/") or None, strict=True)
    assert available_splits(yolo.root) == (("train",) if split else ())
    assert [len(sample.boxes) for sample in data] == [1, 0]
    assert data.classes == ("cat", "dog") and data[0].labels.tolist() == [1]


@pytest.mark.parametrize("folder", [".ipynb_checkpoints", "@eaDir/a.jpg", "__MACOSX"])
def test_copies_in_hidden_folders_and_in_those_of_systems_are_no_pictures(one, folder):
    one.add(f"images/train/{folder}/a.jpg", "0 0.5 0.5 0.25 0.5")
    (sample,) = open_dataset(one.root, strict=True)
    assert sample.image == one.root / "images/train/a.jpg"
    (one.root / f"images/train/{folder}/a.jpg").unlink()
    assert not labels_without_picture([sample.image])


def test_the_confidences_of_a_detector_are_passed_over(one):
    one.add("images/train/a.jpg", "0 0.5 0.5 0.25 0.5 0.75", "1 0.5 0.5 1 1.0001 1", "")
    one.add("images/train/b.jpg", "")
    dataset = open_dataset(one.root, strict=True)
    assert dataset[0].boxes.tolist() == [[24, 12, 40, 36], [0, 0, 64, 48]]
    (note,) = dataset.faults
    assert note.problem == "has labels whose rows end in a confidence, which is passed over"


@pytest.mark.parametrize(
    "row",
    [
        "0 0.5 0.5 0.25 0.5",
        "0 0.5 0.5 0.25 0.5 1.5",
        "0 0.5 0.5 0.25 0.5 -0.5",
        "0 0.9 0.5 0.25 0.5 0.5",
        "0 0.5 0.5 0.25 half 0.5",
        "0 0.1 0.1 0.2 0.2 0.3 0.3",
    ],
)
def test_a_sixth_number_is_no_confidence_unless_all_rows_are_so(one, row):
    one.add("images/train/a.jpg", "0 0.5 0.5 0.25 0.5 0.75")
    one.add("images/train/b.jpg", row)
    assert "line 1 has 6 numbers; expected 5" in open_dataset(one.root).faults[0].problem


def test_whole_numbers_behind_boxes_are_no_confidences(one):
    one.add("images/train/a.jpg", "0 0.5 0.5 0.25 0.5 1", "0 0.5 0.5 0.25 0.5 0")
    (one.root / "data.yaml").write_text("train: images/train\n")
    with pytest.raises(
        DataError, match="no class to learn; the first fault is .*a.txt: line 1 has"
    ):
        open_dataset(one.root)
