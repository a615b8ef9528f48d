import time

import cv2
import numpy as np
import pytest

from frcnn.draw import colours, contact_sheet, draw_boxes, draw_detections, save_image, side_by_side
from frcnn.errors import UserError
from frcnn.structures import Detections

GREY = 90


def picture(height=120, width=160):
    return np.full((height, width, 3), GREY, np.uint8)


def changed(image):
    return (image != GREY).any(axis=2)


def test_the_first_colours_are_okabe_and_itos():
    assert colours(2) == [(230, 159, 0), (86, 180, 233)]
    assert colours(8)[7] == (0, 0, 0)
    assert colours(0) == []


def test_colours_are_distinct_and_do_not_depend_on_the_count():
    many = colours(90)
    assert len(set(many)) == 90
    assert many[:20] == colours(20)
    assert all(0 <= value <= 255 for colour in many for value in colour)


def test_a_box_is_drawn_on_its_outermost_pixels():
    # 10..50 and 20..60 are edges, so the pixels covered are 10..49 and 20..59.
    drawn = draw_boxes(picture(), np.array([[10, 20, 50, 60]]))
    rows, columns = np.nonzero(changed(drawn))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (10, 20, 49, 59)
    assert tuple(drawn[20, 30]) == colours(1)[0]
    assert not changed(drawn)[25:55, 15:45].any()


def test_a_box_round_the_whole_picture_is_seen_on_all_sides():
    seen = changed(draw_boxes(picture(), [[0, 0, 160, 120]]))
    assert seen[0].all() and seen[-1].all() and seen[:, 0].all() and seen[:, -1].all()


def test_the_picture_and_the_boxes_given_are_not_changed():
    image, boxes = picture(), np.array([[5.5, 5.5, 80, 70]], np.float32)
    before = boxes.copy()
    drawn = draw_boxes(image, boxes, ["a"], [0])
    assert not changed(image).any()
    np.testing.assert_array_equal(boxes, before)
    assert drawn is not image and changed(drawn).any()


def test_a_read_only_picture_is_drawn_on_a_copy():
    image = picture()
    image.setflags(write=False)
    assert changed(draw_boxes(image, [[5, 5, 50, 50]])).any()


def test_boxes_far_outside_do_not_fail():
    boxes = [[-1e9, -1e9, 1e9, 1e9], [500, 500, 600, 600], [-50, -50, -10, -10], [20, 20, 20, 20]]
    drawn = draw_boxes(picture(), boxes, ["a long name"] * 4, [0, 1, 2, 3])
    assert drawn.shape == (120, 160, 3)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (100, 100), (1500, 2000)])
def test_any_picture_size(size):
    drawn = draw_boxes(picture(*size), [[0, 0, size[1], size[0]]], ["person 0.99"], [1])
    assert drawn.shape == (*size, 3) and drawn.dtype == np.uint8
    assert changed(drawn).any()


def test_lines_are_wider_on_larger_pictures():
    def width(side):
        drawn = draw_boxes(picture(side, side), [[0.25 * side, 0.25 * side, 0.7 * side, side]])
        return int(changed(drawn)[side // 2, : side // 2].sum())

    assert width(100) < width(1000) < width(3000)


def fill_boxes(image, palette):
    """Extent of each colour's pixels, as (x1, y1, x2, y2)."""
    extents = []
    for colour in palette:
        rows, columns = np.nonzero((image == colour).all(axis=2))
        extents.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    return extents


def test_texts_do_not_cover_each_other_where_there_is_room():
    # Three boxes in one place: all labels would go to the same spot.
    count = 3
    image = picture(480, 640)
    plain = draw_boxes(image, [[200, 200, 400, 400]] * count, labels=range(count))
    drawn = draw_boxes(
        image, [[200, 200, 400, 400]] * count, ["one 0.9", "two 0.8", "six 0.7"], range(count)
    )
    new = (drawn != plain).any(axis=2)[..., None]
    labels = np.where(new, drawn, GREY).astype(np.uint8)
    extents = fill_boxes(labels, colours(count))
    for index, (x1, y1, x2, y2) in enumerate(extents):
        for a1, b1, a2, b2 in extents[:index]:
            assert min(x2, a2) <= max(x1, a1) or min(y2, b2) <= max(y1, b1)


def test_thousands_of_texts_find_their_places_in_a_moment():
    corners = np.random.default_rng(0).uniform(0, 1900, (2000, 2))
    boxes = np.concatenate([corners, corners + 60], axis=1)
    began = time.process_time()
    draw_boxes(np.zeros((2000, 2000, 3), np.uint8), boxes, ["cell 0.9"] * 2000)
    assert time.process_time() - began < 7  # counting them one by one takes twice that


def test_a_text_at_the_border_is_moved_inside():
    wide = draw_boxes(picture(), [[150, 0, 160, 10]], ["wide text"], [0])
    free = draw_boxes(picture(), [[60, 60, 70, 70]], ["wide text"], [0])
    # Of the same size as where there is room, so nothing was cut off.
    (a1, b1, a2, b2), (x1, y1, x2, y2) = fill_boxes(wide, colours(1)) + fill_boxes(free, colours(1))
    assert a2 - a1 == x2 - x1
    assert a2 == 160 and b1 == 0 and a1 > 0


def test_text_is_dark_on_a_light_ground_and_light_on_a_dark_one():
    light = draw_boxes(picture(), [[20, 50, 90, 100]], ["text"], [3])  # yellow
    dark = draw_boxes(picture(), [[20, 50, 90, 100]], ["text"], [7])  # black
    assert (light < 60).all(axis=2).any() and not (light > 200).all(axis=2).any()
    assert (dark > 200).all(axis=2).any()


def test_detections_show_their_names_and_scores_in_the_colour_of_their_class():
    found = Detections([[20, 40, 100, 100]], [0.5], [1], ("cat", "dog"))
    expected = draw_boxes(picture(), found.boxes, ["dog 0.50"], [1])
    np.testing.assert_array_equal(draw_detections(picture(), found), expected)
    np.testing.assert_array_equal(found.draw(picture()), expected)


def test_no_detections_give_a_copy():
    image = picture()
    drawn = draw_detections(image, Detections([], [], [], ("cat",)))
    np.testing.assert_array_equal(drawn, image)
    assert drawn is not image


@pytest.mark.parametrize(
    "image",
    [picture().astype(np.float32), picture()[..., 0], picture()[..., :2], picture(0, 5)],
    ids=["float", "grey", "two channels", "empty"],
)
def test_a_picture_of_another_kind_is_refused(image):
    with pytest.raises(ValueError, match="uint8 RGB picture"):
        draw_boxes(image, [])


def test_lengths_that_disagree_are_refused():
    with pytest.raises(ValueError, match="1 boxes, 2 texts"):
        draw_boxes(picture(), [[0, 0, 5, 5]], ["a", "b"])


def test_a_contact_sheet_keeps_every_picture_as_it_is():
    images = [np.full((10 + i, 20 - i, 3), i, np.uint8) for i in range(5)]
    sheet = contact_sheet(images, columns=2, gap=3)
    # 3 rows of cells 14 + 3 high, 2 columns of cells 20 + 3 wide, one gap more.
    assert sheet.shape == (3 * 17 + 3, 2 * 23 + 3, 3)
    np.testing.assert_array_equal(sheet[3 + 17 : 3 + 17 + 13, 3 + 23 : 3 + 23 + 17], images[3])
    assert (sheet[3 + 34 :, 26:] == 255).all()  # the cell that no picture fills


def test_side_by_side_is_one_row():
    sheet = side_by_side([picture(10, 20)] * 3, gap=1)
    assert sheet.shape == (12, 64, 3)


def test_few_pictures_do_not_leave_columns_empty():
    assert contact_sheet([picture(10, 20)], columns=4, gap=0).shape == (10, 20, 3)


@pytest.mark.parametrize("arguments", [([], 2), ([picture()], 0)])
def test_an_impossible_sheet_is_refused(arguments):
    with pytest.raises(ValueError, match="at least one picture and one column"):
        contact_sheet(*arguments)


def test_saving_makes_the_folder_and_keeps_red_red(tmp_path):
    red = np.zeros((4, 6, 3), np.uint8)
    red[..., 0] = 255
    path = save_image(tmp_path / "new folder" / "größe.png", red)
    bgr = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(bgr[..., ::-1], red)


@pytest.mark.parametrize("name", ["picture.docx", "picture"])
def test_a_format_that_cannot_be_written_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="Use .jpg or .png"):
        save_image(tmp_path / name, picture())
    assert not (tmp_path / name).exists()


def test_a_picture_too_large_for_its_format_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="a.jpg cannot be written: .jpg holds no .* 65501x1 pixels"):
        save_image(tmp_path / "a.jpg", picture(1, 65_501))
    assert not (tmp_path / "a.jpg").exists()


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        save_image(tmp_path / "file" / "picture.png", picture())
