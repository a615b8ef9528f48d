"""Boxes, names and scores on pictures; contact sheets; saving a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from frcnn.errors import UserError
from frcnn.structures import Detections

# Okabe and Ito's palette, told apart by colour-blind readers; their black comes last.
_OKABE_ITO = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (0, 0, 0),
)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def colours(count: int) -> list[tuple[int, int, int]]:
    """``count`` RGB colours, 0..255: first Okabe and Ito's eight, then evenly spread hues."""
    palette = list(_OKABE_ITO[:count])
    for index in range(len(palette), count):
        # Steps of the golden angle never come close to an earlier hue for long.
        hue = (index * 0.618034) % 1.0
        value = (255, 190, 140)[index % 3]
        pixel = np.array([[[hue * 180, 200, value]]], np.uint8)
        palette.append(tuple(cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].tolist()))
    return palette


def draw_detections(image: np.ndarray, detections: Detections) -> np.ndarray:
    """A copy of the picture with every detection's box, name and score; a colour a class.

    Args:
        image: uint8 (H, W, 3), RGB.
        detections: boxes in pixels of this picture.

    Raises:
        ValueError: a picture that is not uint8 (H, W, 3).
    """
    texts = [
        f"{name} {score:.2f}"
        for name, score in zip(detections.names, detections.scores, strict=True)
    ]
    return draw_boxes(image, detections.boxes, texts, detections.labels)


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    texts: Sequence[str] | None = None,
    labels: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
    """A copy of the picture with boxes and, where given, a text on each.

    Line width and text size follow the picture's size. Texts stay inside the picture and, where
    there is room, off each other; the first boxes choose first.

    Args:
        image: uint8 (H, W, 3), RGB.
        boxes: (N, 4), xyxy in pixels of this picture; parts outside it are not seen.
        texts: N texts; an empty one is not drawn.
        labels: N numbers from 0 that choose the colours; default all 0.

    Raises:
        ValueError: a picture that is not uint8 (H, W, 3), or lengths that disagree.
    """
    canvas = _checked(image).copy()
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    labels = np.asarray([0] * len(boxes) if labels is None else labels, np.int64).reshape(-1)
    texts = [""] * len(boxes) if texts is None else list(texts)
    if not len(boxes) == len(texts) == len(labels):
        raise ValueError(
            f"Expected as many texts and labels as boxes. Received: {len(boxes)} boxes, "
            f"{len(texts)} texts, {len(labels)} labels."
        )
    palette = colours(int(labels.max(initial=-1)) + 1)
    thickness = line_width(canvas)
    corners = _pixels(boxes, canvas.shape[0], canvas.shape[1])
    # The least confident first, so that the most confident end up on top.
    for corner, label in reversed(list(zip(corners, labels, strict=True))):
        _frame(canvas, corner, palette[label], thickness)
    _draw_texts(canvas, corners, texts, [palette[label] for label in labels])
    return canvas


def line_width(image: np.ndarray) -> int:
    """Width in pixels of a line that is well seen on a picture of this size."""
    return -(-min(image.shape[:2]) // 200)


def _checked(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            "Expected a uint8 RGB picture of shape (H, W, 3). "
            f"Received: {image.dtype} of shape {image.shape}."
        )
    return image


def _pixels(boxes: np.ndarray, height: int, width: int) -> list[list[int]]:
    # Continuous edges to the outermost pixels covered; clipped, so that far-off corners cannot
    # overflow and an edge outside the picture is drawn along its border.
    first = np.floor(boxes[:, :2])
    last = np.maximum(np.ceil(boxes[:, 2:]) - 1, first)
    corners = np.concatenate([first, last], axis=1)  # (N, 4)
    return np.clip(corners, 0, [width - 1, height - 1] * 2).astype(int).tolist()


def _frame(
    canvas: np.ndarray, corners: list[int], colour: tuple[int, int, int], thickness: int
) -> None:
    # The line lies inside the box, so that its outer edge is the box exactly.
    x1, y1, x2, y2 = corners
    canvas[y1 : min(y1 + thickness, y2 + 1), x1 : x2 + 1] = colour
    canvas[max(y2 + 1 - thickness, y1) : y2 + 1, x1 : x2 + 1] = colour
    canvas[y1 : y2 + 1, x1 : min(x1 + thickness, x2 + 1)] = colour
    canvas[y1 : y2 + 1, max(x2 + 1 - thickness, x1) : x2 + 1] = colour


def _draw_texts(
    canvas: np.ndarray,
    corners: list[list[int]],
    texts: Sequence[str],
    fills: Sequence[tuple[int, int, int]],
) -> None:
    scale = min(2.4, max(0.36, min(canvas.shape[:2]) / 900))
    thickness = max(1, round(1.4 * scale))
    taken = np.zeros((len(corners), 4), np.int64)  # by labels; nothing by those to come
    for row, (box, text, fill) in enumerate(zip(corners, texts, fills, strict=True)):
        if not text:
            continue
        (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
        margin = max(1, round(3 * scale))
        size = (text_width + 2 * margin, text_height + baseline + 2 * margin)
        place = _free_place(box, size, canvas.shape[1], canvas.shape[0], taken[:row])
        taken[row] = place
        x1, y1, x2, y2 = place
        canvas[y1:y2, x1:x2] = fill
        cv2.putText(
            canvas,
            text,
            (x1 + margin, y1 + margin + text_height),
            _FONT,
            scale,
            _ink(fill),
            thickness,
            cv2.LINE_AA,
        )


def _ink(fill: tuple[int, int, int]) -> tuple[int, int, int]:
    # Black or white, by the relative luminance of the ground (Rec. 709 on sRGB, gamma 2.2).
    red, green, blue = ((value / 255) ** 2.2 for value in fill)
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else (255, 255, 255)


def _free_place(
    box: Sequence[int],
    size: tuple[int, int],
    width: int,
    height: int,
    taken: np.ndarray,
) -> tuple[int, int, int, int]:
    """Where a label goes: the place round its box that covers least of others, int (T, 4)."""
    x1, y1, x2, y2 = box
    wide, high = size
    wishes = [
        (x1, y1 - high),  # above, the usual place
        (x1, y1),  # inside, at the top
        (x1, y2 + 1),  # below
        (x1, y2 + 1 - high),  # inside, at the bottom
        (x2 + 1 - wide, y1 - high),
        (x2 + 1 - wide, y2 + 1),
        (x2 + 1, y1),
        (x1 - wide, y1),
    ]
    places = []
    for x, y in wishes:
        x = max(0, min(x, width - wide))
        y = max(0, min(y, height - high))
        places.append((x, y, min(x + wide, width), min(y + high, height)))
    mine = np.array(places)[:, None]  # [8,1,4]
    sides = np.minimum(mine[..., 2:], taken[:, 2:]) - np.maximum(mine[..., :2], taken[:, :2])
    covered = sides.clip(0).prod(axis=2).sum(axis=1)
    # argmin keeps the earliest of equals, so the order of the wishes is the preference.
    return places[int(covered.argmin())]


def side_by_side(images: Sequence[np.ndarray], gap: int = 8) -> np.ndarray:
    """Pictures in one row, as `contact_sheet`."""
    return contact_sheet(images, columns=len(images), gap=gap)


def contact_sheet(images: Sequence[np.ndarray], columns: int = 4, gap: int = 8) -> np.ndarray:
    """Pictures in rows on white, each as it is, in cells of the largest width and height.

    Args:
        images: uint8 (H, W, 3) RGB each, of any sizes; at least one.
        columns: pictures in a row.
        gap: white pixels between pictures and round them.

    Raises:
        ValueError: no picture, one that is not uint8 (H, W, 3), or ``columns`` below 1.
    """
    if not images or columns < 1:
        raise ValueError(
            "Expected at least one picture and one column. "
            f"Received: {len(images)} pictures, {columns} columns."
        )
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    high = max(_checked(image).shape[0] for image in images) + gap
    wide = max(image.shape[1] for image in images) + gap
    sheet = np.full((rows * high + gap, columns * wide + gap, 3), 255, np.uint8)
    for index, image in enumerate(images):
        y, x = gap + index // columns * high, gap + index % columns * wide
        sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
    return sheet


def can_write(path: Path) -> bool:
    """Whether the suffix names a picture format that ``save_image`` writes."""
    return bool(path.suffix) and cv2.haveImageWriter(path.name)


def save_image(path: str | Path, image: np.ndarray) -> Path:
    """Write a picture (uint8 (H, W, 3), RGB); its folder is made, the suffix names the format.

    Returns:
        the path written.

    Raises:
        ValueError: a picture that is not uint8 (H, W, 3), or a suffix OpenCV has no writer for.
        UserError: a picture too large for the format.
        OSError: the folder or the file cannot be written.
    """
    path = Path(path)
    bgr = cv2.cvtColor(_checked(image), cv2.COLOR_RGB2BGR)
    if not can_write(path):
        raise ValueError(
            f"Cannot write {path}: no picture format {path.suffix!r}. Use .jpg or .png."
        )
    try:
        done, data = cv2.imencode(path.suffix, bgr)
    except cv2.error:
        done = False
    if not done:
        height, width = bgr.shape[:2]
        raise UserError(
            f"{path} cannot be written: {path.suffix} holds no picture of {width}x{height} pixels. "
            "Use .png."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())
    return path
