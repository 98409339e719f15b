"""The element types of the library, their order of promotion, and their codes in the native
extension.

Arrays and variables are of the first six types. The halves "float16" and "bfloat16" are types of
tensors inside a program: a GPU stores these in two bytes, elsewhere they are float32 rounded to
what a half can hold (dlcore/program/widen.py). Arithmetic is in float32 everywhere.
"""

import numpy as np

from dlcore import config

# The position is the code of csrc/kernel.h's DType.
NAMES = ("float32", "float64", "int32", "int64", "uint8", "bool", "bfloat16", "float16")
CODES = {name: code for code, name in enumerate(NAMES)}
HALVES = ("float16", "bfloat16")
ARRAYS = tuple(name for name in NAMES if name not in HALVES)
SIZES = dict(zip(NAMES, (4, 8, 4, 8, 1, 1, 2, 2), strict=True))
FLOATS = ("float32", "float64", *HALVES)

# A pair of types promotes to the later one; so int64 with float32 stays float32, as in Keras.
_ORDER = {
    name: i
    for i, name in enumerate(("bool", "uint8", "int32", "int64", *HALVES, "float32", "float64"))
}
# Types that arrays may have, and the one they are converted to.
_CONVERTED = {
    "int8": "int32", "int16": "int32", "uint16": "int32", "uint32": "int64", "uint64": "int64",
    "float16": "float32", "longdouble": "float64",
}  # fmt: skip


def standardize(dtype, who="dtype", halves=False):
    """Name of `dtype` (a name, a NumPy dtype or type) among those that arrays have, or with
    `halves` among those of tensors; float32 stands for halves otherwise."""
    if dtype is None or dtype is float:
        return config.floatx()
    if dtype.__class__ is str and dtype in _ORDER:
        return dtype if halves else array_type(dtype)
    try:
        name = np.dtype(dtype).name
    except TypeError:
        raise ValueError(f"{who}: expected one of {', '.join(NAMES)}, got {dtype!r}") from None
    name = _CONVERTED.get(name, name) if name != "float16" or not halves else name
    if name not in _ORDER:
        raise TypeError(f"{who}: expected one of {', '.join(NAMES)}, got {dtype!r}")
    return name


def array_type(dtype):
    """The type of the arrays that hold a tensor's values."""
    return "float32" if dtype in HALVES else dtype


# Binary digits of a half, the exponent of its least bit, and its largest number.
_FORMATS = {"bfloat16": (8, -133, float.fromhex("0x1.fep127")), "float16": (11, -24, 65504.0)}


def round_to_half(xp, x, dtype):
    """Floats of the array `x` as the half `dtype` stores them, in their own type: to the nearest,
    halves to even, infinite beyond the largest."""
    digits, least, largest = _FORMATS[dtype]
    last = xp.maximum(xp.frexp(x)[1] - digits, least)
    y = xp.ldexp(xp.rint(xp.ldexp(x, -last)), last)
    return xp.where(xp.abs(y) > largest, xp.copysign(x.dtype.type(np.inf), y), y)


def promote(*dtypes):
    """The type that holds all of `dtypes`; None stands for a Python float, which takes its
    partner's float type."""
    known = [d for d in dtypes if d is not None]
    best = max(known, key=_ORDER.__getitem__) if known else config.floatx()
    if best == "bfloat16" and "float16" in known:
        return "float32"
    if len(known) < len(dtypes) and best not in FLOATS:
        return config.floatx()
    return best


def is_float(dtype):
    return dtype in FLOATS


def as_float(dtype):
    return dtype if dtype in FLOATS else config.floatx()
