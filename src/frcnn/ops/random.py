"""Random numbers that are the same on every backend.

Each backend's own generator draws other numbers from the same seed, so a run could not be
compared between them. Here a number is a hash of the seed, of its row's running number and of its
column, in 32-bit integer arithmetic, which wraps round everywhere alike. A row belongs to an image,
so what is drawn for an image does not depend on how a batch is divided.
"""

from __future__ import annotations

from keras import ops

# Chris Wellons' "lowbias32" finaliser, found by searching for the least bias of output bits
# under changes of one input bit; the constants are the int32 that have the bits of the uint32.
_SHIFTS = (16, 15, 16)
_FACTORS = (0x7FEB352D, 0x846CA68B - 2**32)
_GOLDEN = 0x9E3779B9 - 2**32  # 2**32 over the golden ratio: spreads successive streams


def uniform(seed, shape, stream: int = 0):
    """Uniform float32 in [0, 1), 24 bits each.

    Args:
        seed: int ``[2]``, a seed and the running number of the first row.
        shape: ``(rows, columns)``; rows may be a scalar tensor.
        stream: tells draws apart that share a seed.

    Returns:
        float32 ``[rows, columns]``.
    """
    rows, columns = shape
    seed = ops.cast(seed, "int32")
    shift = (stream * _GOLDEN + 2**31) % 2**32 - 2**31  # an int32, as products wrap round
    key = _mix(_mix(seed[0]) + shift)
    row = seed[1] + ops.arange(rows, dtype="int32")[:, None]
    column = ops.arange(columns, dtype="int32")[None, :]
    # Hashed before the key is added: else the rows of two keys would be the same, shifted.
    bits = _mix(_mix(_mix(row) + key) + column)  # [rows, columns]
    return ops.cast(_shift(bits, 8), "float32") * 2.0**-24


def _mix(x):
    """A bijection of int32 that changes each output bit half of the time."""
    for shift, factor in zip(_SHIFTS, (*_FACTORS, 1), strict=True):
        x = ops.bitwise_xor(x, _shift(x, shift)) * factor
    return x


def _shift(x, bits: int):
    """Shift right as an unsigned number is: zeros come in from the left."""
    return ops.bitwise_and(ops.right_shift(x, bits), (1 << (32 - bits)) - 1)
