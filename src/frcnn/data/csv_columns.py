"""What the columns of a CSV file are: told by its header, or by its first row."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from frcnn.data.faults import DataError

HEADER = ("path", "x1", "y1", "x2", "y2", "class")
DIFFICULT = "difficult"
_SIDES = ("box width", "box height")

# What columns are called, in small letters without spaces, dots, hyphens and underscores. Where
# a header has several for one meaning, the first here counts.
_WORDS = {
    "path": (
        *("path", "filename", "filepath", "file", "imagepath", "imagename", "imagefile"),
        *("imgpath", "image", "img", "imageid"),
    ),
    "x1": ("x1", "xmin", "left", "bboxxmin", "bboxx"),
    "y1": ("y1", "ymin", "top", "bboxymin", "bboxy"),
    "x2": ("x2", "xmax", "right", "bboxxmax"),
    "y2": ("y2", "ymax", "bottom", "bboxymax"),
    "class": ("class", "classname", "label", "labelname", "category", "categoryname", "name"),
    DIFFICULT: ("difficult", "isdifficult", "iscrowd", "isgroupof"),
    "height": ("height", "imageheight", "imgheight"),
    "width": ("width", "imagewidth", "imgwidth"),
    _SIDES[0]: ("bboxwidth",),
    _SIDES[1]: ("bboxheight",),
}

_CORNERS = HEADER[1:5]
_NEEDED = "a picture (path, filename), corners (x1 or xmin, ...) and a class (class, label)"


@dataclass(frozen=True)
class Columns:
    """Where in a row is what.

    Args:
        places: index by meaning, as in ``_WORDS``; those of ``HEADER`` are all there.
        names: all columns, for messages.
        is_stem: pictures may be named without their suffix.
        is_share: corners are shares of the picture's width and height, not pixels.
        has_sides: in place of the second corner are the box's width and height.
    """

    places: dict[str, int]
    names: tuple[str, ...] = HEADER
    is_stem: bool = False
    is_share: bool = False
    has_sides: bool = False


_PLAIN = Columns({name: index for index, name in enumerate(HEADER)})
_MAKESENSE = Columns(
    dict(zip(("class", *_CORNERS, "path", "width", "height"), range(8), strict=True)),
    ("label", "x", "y", *_SIDES, "image", "image width", "image height"),
    has_sides=True,
)


def columns_of(file: Path, row: list[str]) -> tuple[Columns, bool]:
    """The columns as the first row tells them, and whether it is a header.

    Raises:
        DataError: it is a header, but a column is missing.
    """
    words = [re.sub(r"[\s._-]+", "", cell).casefold() for cell in row]
    found = {
        meaning: words.index(next(word for word in known if word in words))
        for meaning, known in _WORDS.items()
        if not set(known).isdisjoint(words)
    }
    if found.keys().isdisjoint(_CORNERS) and not _is_unknown_header(row):
        return _MAKESENSE if _is_of_makesense(row) else _PLAIN, False
    has_sides = found.keys().isdisjoint(("x2", "y2")) and found.keys() >= set(_SIDES)
    if has_sides:
        found["x2"], found["y2"] = (found[side] for side in _SIDES)
    missing = [name for name in HEADER if name not in found]
    if missing:
        shown = ",".join(row) if len(",".join(row)) <= 200 else f"of {len(row)} columns"
        raise DataError(
            f"{file}: its header {shown} has no column that is known for {', '.join(missing)}; "
            f"needed are {_NEEDED}"
        )
    # Open Images' files are those with a LabelName; Kaggle's with an image_id are in pixels.
    is_stem = words[found["path"]] == "imageid"
    is_share = is_stem and words[found["class"]] == "labelname"
    return Columns(found, tuple(row), is_stem, is_share, has_sides), True


def _is_unknown_header(row: list[str]) -> bool:
    """Whether a row without a known corner is still a header: several words and no number."""
    texts = [cell for cell in row if cell]
    is_row = len(row) == len(HEADER) and not any(row[1:5])
    return len(texts) > 1 and not is_row and not any(map(_is_number, texts))


def _is_of_makesense(row: list[str]) -> bool:
    """Whether a row is of makesense.ai's, told from its numbers, as it writes no header."""
    are_numbers = [*map(_is_number, row)]
    return are_numbers == [False, True, True, True, True, False, True, True]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
