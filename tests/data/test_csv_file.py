import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faults import only_fault
from frcnn.data.dataset import available_splits, open_dataset
from frcnn.data.faults import DataError, Kind


@pytest.fixture
def folder(tmp_path, write_image):
    for number, name in enumerate("abc"):
        write_image(tmp_path / "images" / f"{name}.jpg", seed=number)
    return tmp_path


def written(folder, *rows, name="data.csv", end="\n", encoding="utf-8"):
    path = folder / name
    path.write_bytes("".join(f"{row}{end}" for row in rows).encode(encoding))
    return path


def test_rows_are_gathered_by_picture_and_corners_taken_as_they_are(folder):
    path = written(
        folder,
        "images/b.jpg,0,0,64,48,cat",
        "images/a.jpg,1.5,2,30,40.25,dog",
        "./images/b.jpg,10,10,20,20,dog",
    )
    dataset = open_dataset(path, strict=True)
    assert dataset.classes == ("cat", "dog")
    assert [sample.image.stem for sample in dataset] == ["b", "a"]
    np.testing.assert_array_equal(dataset[0].boxes, [[0, 0, 64, 48], [10, 10, 20, 20]])
    np.testing.assert_array_equal(dataset[1].boxes, [[1.5, 2, 30, 40.25]])
    assert dataset[0].size == (48, 64)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("header", [(), ("path,x1,y1,x2,y2,class",)])
def test_headers_line_ends_and_byte_order_marks(folder, encoding, end, header):
    rows = (*header, 'images/a.jpg,1,2,30,40,"tabby, grey"', "", " images/b.jpg , 1, 2,3,4,chaï")
    path = written(folder, *rows, end=end, encoding=encoding)
    dataset = open_dataset(path, strict=True)
    assert dataset.classes == ("chaï", "tabby, grey")
    assert len(dataset) == 2


def test_bg_and_empty_cells_are_pictures_without_objects(folder):
    path = written(
        folder,
        "images/a.jpg,1,2,30,40,bg",
        "images/b.jpg,,,,,",
        "images/c.jpg,1,2,30,40,cat",
        "images/c.jpg,,,,,bg",
    )
    dataset = open_dataset(path, strict=True)
    assert [len(sample.labels) for sample in dataset] == [0, 0, 1]
    assert dataset.classes == ("cat",)


@pytest.mark.parametrize("classes", ["cat,0\ndog,1\n", "ClassName,ID\ncat,0\n", "/m/01yrx,cat\n"])
def test_a_list_of_classes_beside_them_is_no_split(folder, classes):
    path = written(folder, "images/a.jpg,1,2,30,40,cat")
    (folder / "classes.csv").write_text(classes)
    assert available_splits(folder) == (path.stem,)
    assert [len(open_dataset(each, strict=True)) for each in (folder, path)] == [1, 1]
    with pytest.raises(DataError, match="classes.csv"):
        open_dataset(folder / "classes.csv")


def test_absolute_paths_are_taken(folder, tmp_path):
    path = written(folder, f"{tmp_path}/images/a.jpg,1,2,30,40,cat")
    assert open_dataset(path, strict=True)[0].image == tmp_path / "images/a.jpg"


@pytest.mark.parametrize(
    "row, problem",
    [
        ("images/a.jpg,1,2,30,cat", "line 2 has 5 cells instead of 6"),
        ("images/a.jpg,1,2,30,40,cat,1", "line 2 has 7 cells instead of 6"),
        ("images/a.jpg,1,2,thirty,40,cat", "line 2 has corners '1,2,thirty,40', which are not"),
        ("images/a.jpg,,2,30,40,cat", "line 2 has corners ',2,30,40', which are not"),
        ("images/a.jpg,1,2,30,40,", "line 2 names no class"),
        (",1,2,30,40,cat", "line 2 names no picture"),
        ("images/a.jpg,1,2,1,40,cat", "line 2 (cat) has a box without area: (1, 2, 1, 40)"),
        ("images/a.jpg,9,2,1,40,cat", "line 2 (cat) has its corners the wrong way round"),
        ("images/a.jpg,nan,2,1,40,cat", "line 2 (cat) has a coordinate that is not a finite"),
        ("images/a.jpg,64,2,90,40,cat", "line 2 (cat) lies outside its picture of 64x48"),
        ("images/a.jpg,9,2,67,40,cat", "line 2 (cat) reaches beyond its picture of 64x48"),
        ("../a.jpg,1,2,30,40,cat", "line 2 has '../a.jpg', a path that leaves the data set"),
        ("images\\..\\..\\a.jpg,1,2,30,40,cat", "line 2 has 'images\\\\..\\\\..\\\\a.jpg', a path"),
        ("/x/../a.jpg,1,2,30,40,cat", "line 2 has '/x/../a.jpg', a path that leaves"),
        ("images/none.jpg,1,2,30,40,cat", "does not exist"),
        ("images,1,2,30,40,cat", "is not a file"),
        ("images/\0,1,2,30,40,cat", "does not exist"),
        ("path,x1,y1,x2,y2,class", "line 2 has corners 'x1,y1,x2,y2'"),
    ],
)
def test_a_bad_row_is_left_out(folder, row, problem):
    path = written(folder, "images/b.jpg,1,2,30,40,cat", row)
    dataset, fault = only_fault(path)
    assert fault.problem.startswith(problem)
    assert fault.images + fault.boxes == 1
    assert sum(len(sample.labels) for sample in dataset) == 1


def test_files_that_are_no_csv(folder):
    for data, problem in {
        b"images/a.jpg,1,2,3,4,\xff": "is not UTF-8 text",
        b"a" * 200_000 + b",1,2,3,4,cat": "is not a CSV file",
        b"": "has no usable picture",
    }.items():
        path = folder / "data.csv"
        path.write_bytes(data)
        with pytest.raises(DataError, match=f"data.csv: {problem}"):
            open_dataset(path)


def test_a_split_is_a_file_beside_it(folder):
    path = written(folder, "images/a.jpg,1,2,30,40,cat", name="train.csv")
    written(folder, "images/b.jpg,1,2,30,40,cat", name="test.csv")
    assert available_splits(path) == ("test", "train")
    for split in ("test", "test.csv"):
        assert open_dataset(path, split)[0].image.stem == "b"
    assert open_dataset(path, "train")[0].image.stem == "a"
    with pytest.raises(DataError, match=r"train.csv: has no split 'val'; it has test, train"):
        open_dataset(path, "val")


def test_a_text_file_will_do(folder):
    path = written(folder, "images/a.jpg,1,2,30,40,cat", name="annotate.txt")
    assert len(open_dataset(path)) == 1


TENSORFLOW = "filename,width,height,class,xmin,ymin,xmax,ymax"
RETINANET = "image_path,xmin,ymin,xmax,ymax,label"
OPEN_IMAGES = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
    "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
)


@pytest.mark.parametrize(
    "header, row",
    [
        (TENSORFLOW, "images/a.jpg,64,48,cat,1,2,30,40"),
        (RETINANET, "images/a.jpg,1,2,30,40,cat"),
        ("Path, X1, Y1, X2, Y2, Class", "images/a.jpg,1,2,30,40,cat"),
        ("x_min,x_max,y_min,y_max,Class Name,File-Name,note", '1,30,2,40,cat,images/a.jpg,"x, y"'),
        ("image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max", "a,cat,3,R1,1,2,30,40"),
        ("category,left,top,right,bottom,image,label", "cat,1,2,30,40,images/a.jpg,cat"),
        (OPEN_IMAGES, f"a,xclick,cat,1,{1 / 64},{30 / 64},{2 / 48},{40 / 48},0,0,0,0,0"),
    ],
    ids=[
        "tensorflow",
        "retinanet",
        "ours",
        "any order",
        "vinbig",
        "corners by side",
        "open images",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_headers_of_exports(folder, header, row, end):
    dataset = open_dataset(written(folder, header, row, "", end=end), strict=True)
    np.testing.assert_allclose(dataset[0].boxes, [[1, 2, 30, 40]], atol=1e-5)
    assert dataset.classes == ("cat",) and dataset[0].image == folder / "images" / "a.jpg"


def test_the_better_name_of_a_column_counts(folder):
    path = written(folder, "image_id,filename,label,class,x1,y1,x2,y2", "7,a.jpg,3,cat,1,2,30,40")
    assert open_dataset(path, strict=True).classes == ("cat",)


@pytest.mark.parametrize("name", ["difficult", "iscrowd", "IsGroupOf"])
def test_flags_of_difficult_objects(folder, name):
    flags = ("0", "1", "", "true", "False", "yes")
    rows = [f"a.jpg,1,2,30,40,cat,{flag}" for flag in flags]
    path = written(folder, f"path,x1,y1,x2,y2,class,{name}", *rows)
    assert open_dataset(path)[0].difficult.tolist() == [False, True, False, True, False, True]


def test_negatives_with_a_header(folder):
    path = written(
        folder, TENSORFLOW, "a.jpg,64,48,cat,1,2,30,40", "b.jpg,64,48,,,,,", "c.jpg,,,,,,,"
    )
    assert [len(sample.labels) for sample in open_dataset(path, strict=True)] == [1, 0, 0]


def test_boxes_of_a_resized_picture_are_not_taken(folder):
    rows = ["a.jpg,128,96,cat,2,4,60,40", "b.jpg,64,48,cat,1,2,30,40", "c.jpg,48,64,cat,1,2,30,40"]
    dataset = open_dataset(written(folder, TENSORFLOW, *rows))
    assert [sample.image.stem for sample in dataset] == ["b"]
    assert [fault.kind for fault in dataset.faults] == [Kind.SIZE, Kind.TURNED]
    assert dataset.faults[0].problem == "states 128x96 pixels, but a.jpg has 64x48"


@pytest.mark.parametrize("size", [",", "wide,48", "nan,inf", "0,0", "-64,48", "1e999,48", "29,38"])
def test_a_size_that_is_none_or_the_boxs_own_is_passed_over(folder, size):
    path = written(folder, TENSORFLOW, f"a.jpg,{size},cat,1,2,30,40")
    assert len(open_dataset(path, strict=True)) == 1


def test_shares_hold_whatever_size_the_picture_had(folder):
    path = written(folder, OPEN_IMAGES + ",Width,Height", "a,x,cat,1,0,0.5,0,1,0,0,0,0,0,640,480")
    np.testing.assert_allclose(open_dataset(path, strict=True)[0].boxes, [[0, 0, 32, 48]])


@pytest.mark.parametrize("header", [(), (TENSORFLOW,)])
def test_corners_from_0_to_1_are_shares(folder, header):
    size = "640,480," if header else ""
    rows = [f"a.jpg,{size}0.25,0.5,0.75,1,cat", f"b.jpg,{size}0,-0.01,1,1.02,cat"]
    if header:
        rows = [",".join([*row.split(",")[:3], "cat", *row.split(",")[3:7]]) for row in rows]
    dataset = open_dataset(written(folder, *header, *rows), strict=True)
    assert dataset[0].boxes.tolist() == [[16, 24, 48, 48]]
    assert dataset[1].boxes.tolist() == [[0, 0, 64, 48]]
    (remark,) = dataset.faults
    assert remark.kind == Kind.READING and "read as shares of the picture" in str(remark)


@pytest.mark.parametrize(
    "rows",
    [
        ["a.jpg,0,0,1,1,cat"],
        ["a.jpg,0,0,1,1,cat", "b.jpg,0.5,0.5,1,2,cat"],
        ["a.jpg,0,0.5,1,1,cat", "b.jpg,nan,0,1,1,cat", "c.jpg,5,5,20,20,cat"],
    ],
    ids=["a pixel", "two pixels", "a larger one"],
)
def test_small_boxes_in_pixels_are_no_shares(folder, rows):
    dataset = open_dataset(written(folder, *rows))
    assert dataset[0].boxes.max() == 1 and not any(f.is_remark for f in dataset.faults)


@pytest.mark.parametrize(
    "header, missing",
    [
        ("filename,width,height,class,xmin,ymin,xmax", "y2"),
        ("filename,class,x,y,w,h", "x1, y1, x2, y2"),
        ("image_id,width,height,bbox,source", "x1, y1, x2, y2, class"),
        ("xmin,ymin,xmax,ymax", "path, class"),
        ("foo,bar", "path, x1, y1, x2, y2, class"),
        ("a" * 90 + "," + "b" * 190, "path, x1, y1, x2, y2, class"),
    ],
)
def test_a_header_that_lacks_a_column_is_one_sentence(folder, header, missing):
    path = written(folder, header, "images/a.jpg,1,2,3,4,5,6,7")
    with pytest.raises(DataError) as caught:
        open_dataset(path)
    shown = f"of {header.count(',') + 1} columns" if len(header) > 200 else header
    assert str(caught.value) == (
        f"{path}: its header {shown} has no column that is known for {missing}; needed are a "
        "picture (path, filename), corners (x1 or xmin, ...) and a class (class, label)"
    )


def test_a_row_is_measured_by_its_header(folder):
    path = written(folder, TENSORFLOW, "a.jpg,64,48,cat,1,2,30,40", "a.jpg,1,2,30,40,cat")
    _, fault = only_fault(path)
    assert fault.problem == f"line 3 has 6 cells instead of 8 ({TENSORFLOW})"


def test_a_first_row_is_no_header_where_it_has_numbers_or_no_objects(folder):
    path = written(folder, "images/a.jpg,1,two,3,4,cat", "images/b.jpg,1,2,30,40,cat")
    assert only_fault(path)[1].problem.startswith("line 1 has corners '1,two,3,4'")
    path = written(folder, "images/a.jpg,,,,,bg", "images/b.jpg,1,2,30,40,cat")
    assert len(open_dataset(path, strict=True)) == 2


def test_shares_of_the_picture_are_checked_in_pixels(folder):
    rows = ["a,x,cat,1,0.1,0.5,0.1,0.5,0,0,1,0,0", "a,x,cat,1,0.9,1.3,0.1,0.5,0,0,0,0,0"]
    dataset, fault = only_fault(written(folder, OPEN_IMAGES, *rows))
    assert dataset[0].difficult.tolist() == [True]
    assert "line 3 (cat) reaches beyond its picture of 64x48 pixels: (57.6, 4.8" in str(fault)


def test_a_name_longer_than_any_file_can_have(folder):
    path = written(folder, "images/b.jpg,1,2,30,40,cat", f"{'a' * 5000},1,2,30,40,cat")
    assert only_fault(path)[1].problem == "does not exist"


def test_pictures_are_also_looked_for_in_folders_of_the_split(folder, write_image):
    write_image(folder / "images" / "val" / "d.jpg")
    write_image(folder / "valid" / "e.jpg")
    rows = [f"{name}.jpg,1,2,30,40,cat" for name in "ade"]
    dataset = open_dataset(written(folder, *rows, name="valid_labels.csv"), strict=True)
    assert [sample.image.parent.name for sample in dataset] == ["images", "val", "valid"]


def test_a_folder_of_files(folder):
    for name in ("train", "test"):
        written(
            folder, "images/a.jpg,1,2,30,40,cat", f"images/{name[1:]}.jpg,,,,,", name=f"{name}.csv"
        )
    assert available_splits(folder) == ("test", "train")
    assert open_dataset(folder, "train").split == "train"
    assert [sample.image.stem for sample in open_dataset(folder)] == ["a"]


def test_the_export_of_roboflow(tmp_path, write_image):
    for split in ("train", "valid"):
        write_image(tmp_path / split / f"{split}.jpg")
        row = f"{split}.jpg,64,48,cat,1,2,30,40"
        written(tmp_path / split, TENSORFLOW, row, name="_annotations.csv")
    for path in (tmp_path, tmp_path / "train" / "_annotations.csv"):
        assert available_splits(path) == ("train", "valid")
        assert open_dataset(path, "val", strict=True)[0].image.name == "valid.jpg"
    assert len(open_dataset(tmp_path)) == 2
    assert open_dataset(tmp_path / "train" / "_annotations.csv")[0].image.name == "train.jpg"


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.one_of(
    st.binary(max_size=200),
    st.lists(st.lists(st.sampled_from(
        ["images/a.jpg", "", "1", "-1", "1e400", "nan", "7.5", "\0", '"', "bg", "cat", "..", "/",
         "path", "x1", "y1", "x2", "y2", "class", "imageid", "labelname", "difficult"]
    ), max_size=7).map(",".join), max_size=8).map(lambda rows: "\n".join(rows).encode()),
))  # fmt: skip
def test_random_content_never_gives_another_error(folder, data):
    path = folder / "data.csv"
    path.write_bytes(data)
    try:
        dataset = open_dataset(path)
    except DataError:
        return
    for sample in dataset:
        assert (sample.boxes[:, 2:] > sample.boxes[:, :2]).all()
        assert (sample.boxes >= 0).all() and (sample.boxes <= [64, 48, 64, 48]).all()


def test_paths_of_windows(folder, write_image):
    write_image(folder / "images" / "deep" / "d.jpg")
    (folder / "images\\a.jpg").write_bytes((folder / "images" / "b.jpg").read_bytes())
    names = ("images\\deep\\d.jpg", "deep\\d.jpg", "images\\a.jpg", ".\\images\\c.jpg")
    path = written(folder, *(f"{name},1,2,30,40,cat" for name in names))
    dataset = open_dataset(path, strict=True)
    assert [str(sample.image.relative_to(folder)) for sample in dataset] == [
        "images/deep/d.jpg",
        "images\\a.jpg",  # as written comes first
        "images/c.jpg",
    ]
    assert len(dataset[0].labels) == 2 and not dataset.faults


@pytest.mark.parametrize("start", ["/content/data/images/", "C:\\Users\\me\\images\\", "data/"])
def test_paths_of_another_machine_are_found_by_their_ends(folder, start):
    path = written(folder, *(f"{start}{name}.jpg,1,2,30,40,cat" for name in "abn"))
    dataset = open_dataset(path)
    assert [sample.image for sample in dataset] == [folder / f"images/{name}.jpg" for name in "ab"]
    remark, fault = dataset.faults
    assert remark.is_remark and "names 2 pictures by paths that are not there" in str(remark)
    assert fault.images == 1 and fault.problem == "does not exist"


def test_pictures_beside_the_folder_of_the_file(folder, write_image):
    write_image(folder / "images" / "train" / "d.jpg")
    (folder / "data").mkdir()
    rows = ("d.jpg,64,48,cat,1,2,30,40", "a.jpg,64,48,cat,1,2,30,40")
    for name in ("train_labels.csv", "test_labels.csv"):
        written(folder / "data", TENSORFLOW, *rows, name=name)
    for path in (folder / "data", folder / "data" / "train_labels.csv"):
        dataset = open_dataset(path, "train_labels", strict=True)
        assert [sample.image.parent.name for sample in dataset] == ["train", "images"]
    (folder / "data").rename(folder / "tables")
    with pytest.raises(DataError, match="has no usable picture"):
        open_dataset(folder / "tables")


@pytest.mark.parametrize("header", [(), ("filename", "xmin", "ymin", "xmax", "ymax", "class")])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_divides_cells_is_seen_from_the_first_line(folder, header, delimiter):
    cells = [header] if header else []
    cells += [("images/a.jpg", "1", "2", "30", "40", '"cat, dog; both"'), ("b.jpg", *5 * [""])]
    path = written(folder, *map(delimiter.join, cells))
    dataset = open_dataset(path, strict=True)
    assert dataset.classes == ("cat, dog; both",) and len(dataset) == 2
    assert dataset[0].boxes.tolist() == [[1, 2, 30, 40]]


def test_decimal_commas_between_semicolons(folder):
    row = "images/a.jpg;1,5;2;30;40,25;1,5 mm"
    dataset = open_dataset(written(folder, row), strict=True)
    assert dataset[0].boxes.tolist() == [[1.5, 2, 30, 40.25]] and dataset.classes == ("1,5 mm",)
    path = written(folder, "images/b.jpg,1,2,3,4,cat", 'images/a.jpg,"1,500",2,30,40,cat')
    assert only_fault(path)[1].problem.startswith("line 2 has corners '1,500,2,30,40'")


MAKESENSE = "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height"


@pytest.mark.parametrize("header", [(), (MAKESENSE,)])
def test_the_export_of_makesense(folder, header):
    rows = ("cat,1,2,29,38,a.jpg,64,48", "dog,0,0,64,48,b.jpg,64,48", "cat,1,2,3,4,c.jpg,640,480")
    dataset = open_dataset(written(folder, *header, *rows))
    assert [sample.boxes.tolist() for sample in dataset] == [[[1, 2, 30, 40]], [[0, 0, 64, 48]]]
    assert dataset.classes == ("cat", "dog")
    (fault,) = dataset.faults
    assert fault.kind == Kind.SIZE


@pytest.mark.parametrize(
    "row", ["cat,1,2,29,38,a.jpg,64", "3,1,2,29,38,a.jpg,64,48", "cat,1,2,29,wide,a.jpg,64,48"]
)
def test_rows_that_are_not_of_makesense(folder, row):
    fault = only_fault(written(folder, row, "images/b.jpg,1,2,3,4,cat"))[1]
    assert fault.problem.startswith("line 1 has ") and "cells instead of 6" in fault.problem
