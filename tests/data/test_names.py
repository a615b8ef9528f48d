import pytest

from frcnn.data.names import common_name, match_split, respelled, respellings


@pytest.mark.parametrize(
    "split, common",
    [("train", "train"), ("train2017", "train"), ("Train", "train"), ("val_2014", "val"),
     ("valid", "val"), ("validation", "val"), ("test-2012", "test"), ("trainval", "trainval"),
     ("2017", "2017"), ("fold3", "fold3"), ("run1000", "run1000"),
     ("training", "train"), ("testing", "test"), ("Training_2017", "train"),
     ("train_labels", "train"), ("test-annotations", "test"), ("validation_coco", "val"),
     ("instances_train2017", "train"), ("annotations_testing", "test"), ("labels_val", "val"),
     ("obj_train_data", "train"), ("obj_Validation_data", "val"), ("obj_test_data", "test"),
     ("lvis_v1_train", "train"), ("trainval_labels", "trainval"), ("train2017_labels", "train"),
     ("cat_train", "cat_train"), ("cats_labels", "cats_labels"), ("labels", "labels"),
     ("obj_data", "obj_data"), ("captions_train", "captions_train")],
)  # fmt: skip
def test_common_names(split, common):
    assert common_name(split) == common


def test_the_name_itself_comes_first():
    assert match_split("val", ("valid", "val")) == "val"
    assert match_split("valid", ("train", "val")) == "val"
    assert match_split("train", ("train2017", "val2017")) == "train2017"


def test_a_split_may_be_asked_for_in_any_spelling():
    for splits in (("train_labels", "test_labels"), ("training", "testing")):
        for wanted in ("train", "training", "train_labels"):
            assert match_split(wanted, splits) == splits[0]
        assert match_split("val", splits) is None


def test_two_of_one_common_name_are_not_chosen_between():
    assert match_split("train", ("train2014", "train2017")) is None
    assert match_split("train", ()) is None


def test_classes_spelled_otherwise():
    known = ("traffic light", "Cat")
    assert respelled("traffic_light", known) == respelled("TrafficLight", known) == "traffic light"
    assert respelled("cat ", known) == "Cat"
    assert respelled("Cat", known) is None and respelled("dog", known) is None


def test_pairs_of_classes_spelled_otherwise():
    assert respellings(("Cat", "dog", "cat", "ca-t")) == [("Cat", "cat"), ("Cat", "ca-t")]
    assert respellings(("cat", "dog")) == respellings(()) == []
