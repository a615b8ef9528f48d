"""The rows of a CSV file, whatever divides its cells: commas, semicolons or tabs."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import TextIO

from frcnn.data.faults import DataError
from frcnn.files import open_file

_MOST_BYTES = 1 << 31  # the largest of Open Images has as many
_MOST_ROW = 1_000_000  # characters; a row has about a hundred
_DELIMITERS = (",", ";", "\t")  # where several divide the first line into as many, the first


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that have any text, with the numbers of their lines; cells without blanks around.

    Where semicolons divide them, as Excel writes them where a comma is the decimal point, ``0,5``
    becomes ``0.5``.

    Raises:
        DataError: the file is no UTF-8 text, or no CSV.
    """
    size = 0

    def lines(file: TextIO) -> Iterator[str]:
        nonlocal size
        while line := file.readline(_MOST_ROW):
            size += len(line)
            if size >= _MOST_ROW:  # quoted cells may go on over many lines
                raise DataError(f"{path}: has a row of more than {_MOST_ROW:,} characters")
            yield line

    try:
        with TextIOWrapper(open_file(path, _MOST_BYTES), encoding="utf-8-sig", newline="") as file:
            following = lines(file)
            first = next(following, "")
            delimiter = _delimiter(first)
            reader = csv.reader(chain([first], following), delimiter=delimiter)
            for row in reader:
                size = 0
                cells = [cell.strip() for cell in row]
                if delimiter == ";":
                    cells = [re.sub(r"^(-?\d+),(\d+)$", r"\1.\2", cell) for cell in cells]
                if any(cells):
                    yield reader.line_num, cells
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except csv.Error as error:
        raise DataError(f"{path}: is not a CSV file ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _delimiter(line: str) -> str:
    """What divides the first line into the most cells; what is in quotes does not."""
    bare = re.sub(r'"[^"]*"', "", line)
    return max(_DELIMITERS, key=bare.count)
