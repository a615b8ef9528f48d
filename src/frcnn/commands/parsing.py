"""How the words after a command become its settings, and what is said of those that cannot."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

_T = TypeVar("_T")
_NUMBERS = {int: "a whole number", float: "a number"}
_RULES = ConstructorRegistry()


def parse(kind: type[_T], name: str, arguments: Sequence[str]) -> _T:
    """The settings of a command; ends the process after help, and after words that do not fit.

    Args:
        kind: the dataclass of the settings; what it raises would be told as an error in parsing, so
            values are checked when they are used.
        name: of the command.
        arguments: the words after the name.
    """
    return tyro.cli(kind, prog=f"frcnn {name}", args=arguments, registry=_RULES)


@_RULES.primitive_rule
def _number_or_choice(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """The rule for numbers and choices; where they may be left out, None is no word for that."""
    union = get_origin(info.type) in (Union, UnionType)
    kinds = [kind for kind in (get_args(info.type) if union else [info.type])]
    kinds = [kind for kind in kinds if kind is not NoneType]
    numbers = [kind for kind in kinds if kind in _NUMBERS]
    choices = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if not kinds or len(kinds) != len(numbers) + bool(choices):
        return None
    wanted = " or ".join([*(_NUMBERS[kind] for kind in numbers), *choices])

    def read(words: list[str]) -> Any:
        if words[0] in choices:
            return words[0]
        try:
            return numbers[0](words[0])
        except ValueError:
            raise ValueError(f"expected {wanted}, not {words[0]!r}") from None

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="|".join([*(kind.__name__.upper() for kind in numbers), *choices]),
        instance_from_str=read,
        is_instance=lambda value: value in (None, *choices) or isinstance(value, tuple(numbers)),
        str_from_instance=lambda value: [str(value)],
        choices=None if numbers else tuple(choices),
    )
