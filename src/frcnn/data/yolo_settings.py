"""What is told of a YOLO data set as a whole: ``data.yaml``, and lists of class names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from frcnn.data.faults import DataError
from frcnn.files import read_file

SUFFIXES = (".yaml", ".yml")
NAME_LISTS = ("classes.txt", "obj.names", "classes.names", "_darknet.labels")

MOST_CLASSES = 1_000_000

_MOST_NAMES = 1 << 24  # bytes
_LIMIT = 1 << 18  # bytes; ten thousand class names take half of it
_NOTHING = ("", "~", "null", "none")
# Keys of data.yaml whose values are no pictures; any other may name a split.
NO_SPLIT = ("path", "names", "nc", "download", "kpt_shape", "flip_idx", "channels", "roboflow")


@dataclass(frozen=True)
class Settings:
    """What a ``data.yaml`` says.

    Args:
        root: the folder its paths start from (``path``), None if it states none.
        splits: by the key, the folders or lists of pictures as they are written.
        names: class names by number, None if there are none.
        keypoints: the labels are keypoints (``kpt_shape``).
    """

    root: str | None = None
    splits: dict[str, list[str]] = field(default_factory=dict)
    names: dict[int, str] | None = None
    keypoints: bool = False


def read_settings(file: Path) -> Settings:
    """Read a ``data.yaml``.

    Raises:
        DataError: not YAML, too large, with aliases, or not what a YOLO data set's file holds.
    """
    content = _load(file)
    if not isinstance(content, dict):
        raise DataError(f"{file}: is no YOLO data set: expected keys such as train, val and names")
    splits = {}
    for key, value in content.items():
        paths = value if isinstance(value, list) else [value]
        if key not in NO_SPLIT and all(isinstance(path, str) for path in paths):
            paths = [path for path in paths if path.lower() not in _NOTHING]
            splits |= {key: paths} if paths else {}
    root = content.get("path")
    return Settings(
        root if isinstance(root, str) and root.lower() not in _NOTHING else None,
        splits,
        _names(file, content),
        "kpt_shape" in content,
    )


def read_names(file: Path) -> dict[int, str]:
    """Read a list of class names, one a line; the first is class 0.

    Raises:
        DataError: not UTF-8 text, or no name in it.
    """
    return _checked(file, enumerate(read_text(file, _MOST_NAMES).rstrip().splitlines()))


def read_text(file: Path, most: int) -> str:
    """Read a text file of at most so many bytes.

    Raises:
        DataError: it cannot be read, or is not UTF-8 text.
    """
    try:
        return read_file(file, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from None


class _Loader(yaml.BaseLoader):
    """YAML of plain lists, mappings and texts: ``no`` is a class name here, not a boolean."""

    def compose_node(self, parent, index):
        """Refuse aliases: a few of them, nested, unfold into gigabytes."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it uses aliases (*), which are not read")
        return super().compose_node(parent, index)


def _load(file: Path) -> Any:
    try:
        return yaml.load(read_file(file, _LIMIT), _Loader)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from None
    except RecursionError:
        raise DataError(f"{file}: is nested too deeply for a data.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError, OverflowError) as error:
        raise DataError(f"{file}: is not YAML ({' '.join(str(error).split())})") from None


def _names(file: Path, content: dict) -> dict[int, str] | None:
    """Class names by number, from a list or a mapping; checked against ``nc``."""
    given = content.get("names")
    if isinstance(given, str) and given.lower() in _NOTHING:
        given = None
    if isinstance(given, list):
        names = _checked(file, enumerate(given))
    elif isinstance(given, dict):
        try:
            numbered = {int(key): name for key, name in given.items()}
        except (ValueError, TypeError):
            raise DataError(f"{file}: names has a key that is not a whole number") from None
        names = _checked(file, numbered.items())
    elif given is None:
        return None
    else:
        raise DataError(f"{file}: names is text; expected a list, or a mapping from 0, 1, ...")
    count = content.get("nc")
    if isinstance(count, str) and count.lower() not in _NOTHING and count != str(len(names)):
        raise DataError(f"{file}: nc is {count}, but names has {len(names)}")
    return names


def _checked(file: Path, names: Iterable[tuple[int, Any]]) -> dict[int, str]:
    found: dict[int, str] = {}
    for number, name in names:
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{file}: class {number} has no name")
        if not 0 <= number < MOST_CLASSES:
            raise DataError(f"{file}: numbers a class outside 0 to {MOST_CLASSES - 1:,}")
        found[number] = name.strip()
    if not found:
        raise DataError(f"{file}: names no class")
    return found
