import os

import pytest

from frcnn.data.lookup import by_trailing_parts, moved_remark, pictures_below


@pytest.fixture
def folders(tmp_path):
    """A data set's root, and ``images`` in it, with a picture in each and two in ``train``."""
    for name in ("root.jpg", "images/a.jpg", "images/train/a.jpg", "images/train/b.jpg"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    (tmp_path / "outer.jpg").touch()
    return [tmp_path / "data", tmp_path / "data" / "images"]


@pytest.mark.parametrize(
    "name, found",
    [
        ("/content/data/images/train/a.jpg", "images/train/a.jpg"),
        ("C:\\Users\\me\\images\\a.jpg", "images/a.jpg"),
        ("\\\\server\\share\\train\\b.jpg", "images/train/b.jpg"),
        ("data/images/train/b.jpg", "images/train/b.jpg"),
        ("deep/" * 50 + "train/b.jpg", "images/train/b.jpg"),
        ("/x/root.jpg", "root.jpg"),
        ("/x/images/none.jpg", None),
        ("/x/../images/a.jpg", None),
        ("x/../../outer.jpg", None),
        ("/x/outer.jpg", None),
        ("/x/images", None),
        ("/x/" + "y" * 5000 + ".jpg", None),
        ("/x/\0.jpg", None),
        ("/x/..", None),
        ("/", None),
        ("", None),
    ],
)
def test_pictures_by_the_ends_of_their_paths(folders, name, found):
    moved = by_trailing_parts([name], folders, {})
    assert moved == ({name: folders[0] / found} if found else {})


def test_an_end_in_two_folders_is_none(folders):
    (folders[0] / "a.jpg").touch()
    assert by_trailing_parts(["/x/a.jpg"], folders, {}) == {}
    (folders[0] / "a.jpg").unlink()
    (folders[0] / "a.jpg").symlink_to(folders[1] / "a.jpg")
    assert list(by_trailing_parts(["/x/a.jpg"], folders, {})) == ["/x/a.jpg"]


def test_a_picture_of_two_names_is_neither_s(folders):
    two = ["/cam1/b.jpg", "/cam2/b.jpg", "/x/train/a.jpg"]
    places = [folders[1] / "train"]
    assert list(by_trailing_parts(two, places, {})) == two[2:]
    found = {"train/a.jpg": folders[1] / "train" / "a.jpg"}
    assert by_trailing_parts(["/x/train/a.jpg"], folders, found) == {}


def test_what_is_missing_from_a_folder_that_is_there_stays_so(folders):
    (folders[0] / "c.jpg").touch()
    found = {"images/a.jpg": folders[1] / "a.jpg"}
    assert by_trailing_parts(["images/c.jpg", "images\\c.jpg"], folders, found) == {}
    assert by_trailing_parts(["images/c.jpg"], folders, {}) == {
        "images/c.jpg": folders[0] / "c.jpg"
    }


def test_each_folder_is_looked_for_once(folders, monkeypatch):
    looked = []
    isdir = os.path.isdir
    monkeypatch.setattr(os.path, "isdir", lambda path: looked.append(path) or isdir(path))
    names = [f"/content/data/images/train/{number}.jpg" for number in range(1000)]
    assert by_trailing_parts([*names, "/content/data/images/train/b.jpg"], folders, {})
    assert len(looked) == 10
    assert by_trailing_parts([], folders, {}) == {} and len(looked) == 10


def test_the_remark_names_one_of_them(folders):
    moved = by_trailing_parts(["/x/train/a.jpg", "/x/train/b.jpg"], folders, {})
    assert moved_remark(moved) == (
        "names 2 pictures by paths that are not there: found by the ends of these paths, "
        f"'/x/train/a.jpg' as {folders[1]}/train/a.jpg"
    )


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "@eaDir/a.jpg", "__MACOSX", "$RECYCLE.BIN"])
def test_hidden_folders_and_those_of_systems_hold_no_pictures(folders, name):
    (folders[1] / name).mkdir(parents=True)
    (folders[1] / name / "copy.jpg").touch()
    assert [picture.name for picture in pictures_below(folders[1])] == ["a.jpg", "a.jpg", "b.jpg"]
    inside = pictures_below(folders[1] / name)  # it is asked for itself
    assert [picture.name for picture in inside] == ["copy.jpg"]
