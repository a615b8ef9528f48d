"""Read the data out of a pickle without running the program that a pickle is.

``pickle.Unpickler`` imports and calls what the file names, and a file can make it fill the memory
or overflow the stack before its first name is asked for. The reader here knows the few opcodes
that dicts of numbers and tensors are written with, and makes nothing but plain values. Names in
the file are looked up by the caller among its own functions; nothing is ever imported.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO

# What may be a key. A tuple is hashed item by item, however deep it is nested.
_KEYS = (str, int, float, bytes, type(None))
_MAX_ARGUMENTS = 16


def read_pickle(
    file: BinaryIO,
    find: Callable[[str, str], Any],
    refer: Callable[[Any], Any],
) -> Any:
    """Read one pickle; the file is left at the byte after it.

    Args:
        file: whose ``read`` allocates no more than there is, such as ``io.BytesIO``.
        find: (module, name) -> what stands for it: a function, which is called with the
            arguments that the file gives, or a value. Raises ValueError to refuse the name.
        refer: the persistent id of an object kept outside the pickle -> what stands for it.

    Returns:
        None, bool, int, float, str, bytes, list, tuple, dict, and what the two functions gave.

    Raises:
        ValueError: truncated, malformed, or with an opcode that such data does not need.
    """
    reader = _Reader(find, refer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of backslashes in a name
        for opcode, argument, _ in pickletools.genops(file):
            step = _STEPS.get(opcode.name)
            if step is None:
                raise ValueError(f"it has the pickle opcode {opcode.name}, which no weights need")
            try:
                step(reader, argument)
            except (LookupError, TypeError) as error:
                raise ValueError(f"its pickle is malformed at {opcode.name}") from error
    return reader.stack[-1]


class _Reader:
    """The stacks and the memo of the pickle machine."""

    def __init__(self, find, refer):
        self.find, self.refer = find, refer
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below the marks
        self.memo: dict[int, Any] = {}

    def push(self, value):
        self.stack.append(value)

    def mark(self, _):
        self.outer.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def wrap(self, count: int):
        """Make a tuple of the last items."""
        if len(self.stack) < count:
            raise LookupError
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def extend(self, items):
        if not isinstance(self.stack[-1], list):
            raise TypeError
        self.stack[-1].extend(items)

    def update(self, items):
        """Add keys and values, which alternate, to the dict on the stack."""
        if not isinstance(self.stack[-1], dict) or len(items) % 2:
            raise TypeError
        self.stack[-1].update(pairs_to_dict(zip(items[::2], items[1::2], strict=True)))

    def memorize(self, index):
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def name(self, argument):
        if argument is None:  # STACK_GLOBAL
            name, module = self.stack.pop(), self.stack.pop()
        else:
            module, _, name = argument.partition(" ")
        if not (isinstance(module, str) and isinstance(name, str)):
            raise TypeError
        self.push(self.find(module, name))

    def call(self, _):
        """Call what ``find`` gave; nothing else on the stack is ever callable."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(arguments, tuple) or len(arguments) > _MAX_ARGUMENTS:
            raise TypeError
        self.push(function(*arguments))


def pairs_to_dict(pairs) -> dict[Any, Any]:
    """A dict of (key, value) pairs out of a pickle.

    Raises:
        ValueError: a key is no plain value.
    """
    plain: dict[Any, Any] = {}
    for key, value in pairs:
        if not isinstance(key, _KEYS):
            raise ValueError(f"a key in it is a {type(key).__name__}")
        plain[key] = value
    return plain


def _skip(reader: _Reader, _):
    pass


# An opcode's name -> what it does with the reader and the opcode's argument.
_STEPS: dict[str, Callable[[_Reader, Any], Any]] = {
    "PROTO": _skip,
    "FRAME": _skip,
    "STOP": lambda reader, _: reader.stack[-1],
    "MARK": _Reader.mark,
    "NONE": lambda reader, _: reader.push(None),
    "NEWTRUE": lambda reader, _: reader.push(True),
    "NEWFALSE": lambda reader, _: reader.push(False),
    "EMPTY_TUPLE": lambda reader, _: reader.push(()),
    "EMPTY_LIST": lambda reader, _: reader.push([]),
    "EMPTY_DICT": lambda reader, _: reader.push({}),
    "TUPLE": lambda reader, _: reader.push(tuple(reader.since_mark())),
    "TUPLE1": lambda reader, _: reader.wrap(1),
    "TUPLE2": lambda reader, _: reader.wrap(2),
    "TUPLE3": lambda reader, _: reader.wrap(3),
    "APPEND": lambda reader, _: reader.extend([reader.stack.pop()]),
    "APPENDS": lambda reader, _: reader.extend(reader.since_mark()),
    "SETITEM": lambda reader, _: reader.update([reader.stack.pop(), reader.stack.pop()][::-1]),
    "SETITEMS": lambda reader, _: reader.update(reader.since_mark()),
    "BINGET": lambda reader, index: reader.push(reader.memo[index]),
    "LONG_BINGET": lambda reader, index: reader.push(reader.memo[index]),
    "BINPUT": _Reader.memorize,
    "LONG_BINPUT": _Reader.memorize,
    "MEMOIZE": _Reader.memorize,
    "GLOBAL": _Reader.name,
    "STACK_GLOBAL": _Reader.name,
    "REDUCE": _Reader.call,
    "NEWOBJ": _Reader.call,
    "BINPERSID": lambda reader, _: reader.push(reader.refer(reader.stack.pop())),
    # The state of an object: what a state dict or a Namespace is given beside its items.
    "BUILD": lambda reader, _: reader.stack.pop(),
}
_STEPS |= dict.fromkeys(
    ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINBYTES", "SHORT_BINBYTES"),
    _Reader.push,
)
_STEPS |= dict.fromkeys(
    ("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"), _Reader.push
)
