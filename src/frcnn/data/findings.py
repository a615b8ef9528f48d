"""What an audit finds: faults that are counted by their kind, and remarks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from frcnn.data.faults import Fault, Kind, plural
from frcnn.errors import printable

MOST_FILES = 20  # named in a finding
_QUOTED = 3  # faults in its sentence

# What may be meant, or harms nothing; all other kinds are faults.
_NOTES = frozenset(
    {
        Kind.LISTED_TWICE,
        Kind.BLANKS,
        Kind.READING,
        Kind.WHOLE,
        Kind.NO_OBJECTS,
        Kind.NO_ANNOTATION,
        Kind.NO_SPLIT,
        Kind.SMALL,
        Kind.ANCHORS,
    }
)

# What to say of faults that a reader met, before the first of them is quoted: of the noun as many.
_READ = {
    Kind.SPLIT: ("split", "that cannot be used"),
    Kind.ANNOTATION: ("fault", "in annotations that cannot be read"),
    Kind.MISSING_ANNOTATION: ("picture", "listed without an annotation"),
    Kind.OBJECT: ("object", "that cannot be read"),
    Kind.PICTURE: ("picture", "that cannot be decoded"),
    Kind.MISSING_PICTURE: ("picture", "missing"),
    Kind.OUTER_PATH: ("path", "that leads out of the data set"),
    Kind.CROWDED: ("picture", "with too many boxes"),
    Kind.SIZE: ("picture", "of another size than its annotation states"),
    Kind.TURNED: (
        "picture",
        "with height and width swapped in its annotation (turned by an EXIF tag after labelling?)",
    ),
    Kind.NOT_FINITE: ("box", "with a coordinate that is no finite number"),
    Kind.REVERSED: ("box", "with its corners the wrong way round"),
    Kind.NO_AREA: ("box", "without area"),
    Kind.OUTSIDE: ("box", "outside the picture"),
    Kind.BEYOND: ("box", "reaching beyond the picture"),
    Kind.LISTED_TWICE: ("list", "with pictures more than once"),
    Kind.BLANKS: ("class name", "with blanks round it, which are left out"),
    Kind.UNKNOWN_CLASS: ("box", "of a class that is not declared"),
    Kind.READING: ("remark", "on how the data set is read"),
}


@dataclass(frozen=True)
class Finding:
    """One kind of thing that is wrong, or worth knowing.

    Args:
        kind: what, in words that do not change.
        severity: "fault", or "note" for what may be meant.
        count: how often.
        sentence: what it is, with the first place and what to do, on one line.
        files: where, the first twenty.
    """

    kind: Kind
    severity: Literal["fault", "note"]
    count: int
    sentence: str
    files: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, by the names of the arguments."""
        return {
            "kind": str(self.kind),
            "severity": self.severity,
            "count": self.count,
            "sentence": self.sentence,
            "files": list(self.files),
        }


def finding(
    kind: Kind, count: int, sentence: str, files: Iterable[Path | str] = (), note: bool = False
) -> Finding:
    """A finding of this kind, with as many of the files as are named; ``note`` makes it one."""
    named = tuple(dict.fromkeys(printable(str(file)) for file in files))[:MOST_FILES]
    severity = "note" if note or kind in _NOTES else "fault"
    return Finding(kind, severity, count, printable(sentence), named)


def of_faults(faults: Sequence[Fault]) -> list[Finding]:
    """What readers met, by kind, each fault once.

    Names of one split that are spelled alike are left to ``class_findings``, which sees them all.
    """
    by_kind: dict[Kind, list[Fault]] = {}
    for fault in dict.fromkeys(faults):
        by_kind.setdefault(fault.kind, []).append(fault)
    return [_of_kind(kind, by_kind[kind]) for kind in _READ if kind in by_kind]


def _of_kind(kind: Kind, faults: list[Fault]) -> Finding:
    noun, what = _READ[kind]
    count = sum(max(fault.images, fault.boxes, 1) for fault in faults)
    left_out = "" if all(fault.is_remark for fault in faults) else ", left out"
    quoted = "; ".join(map(str, faults[:_QUOTED])) + "; ..." * (len(faults) > _QUOTED)
    sentence = f"{plural(count, noun)} {what}{left_out}: {quoted}."
    return finding(kind, count, sentence, (fault.file for fault in faults))
