"""The element types of the library, their order of promotion, and their codes in the native
extension."""

import numpy as np

from dlcore import config

# The position is the code of csrc/kernel.h's DType.
NAMES = ("float32", "float64", "int32", "int64", "uint8", "bool")
CODES = {name: code for code, name in enumerate(NAMES)}
SIZES = {"float32": 4, "float64": 8, "int32": 4, "int64": 8, "uint8": 1, "bool": 1}
FLOATS = ("float32", "float64")

# A pair of types promotes to the later one; so int64 with float32 stays float32, as in Keras.
_ORDER = {
    name: i for i, name in enumerate(("bool", "uint8", "int32", "int64", "float32", "float64"))
}
# Types that arrays may have, and the one they are converted to.
_CONVERTED = {
    "int8": "int32", "int16": "int32", "uint16": "int32", "uint32": "int64", "uint64": "int64",
    "float16": "float32", "longdouble": "float64",
}  # fmt: skip


def standardize(dtype, who="dtype"):
    """Name of `dtype` (a name, a NumPy dtype or type) among those the library computes with."""
    if dtype is None:
        return config.floatx()
    if dtype.__class__ is str and dtype in _ORDER:
        return dtype
    try:
        name = np.dtype(dtype).name
    except TypeError:
        raise ValueError(f"{who}: expected one of {', '.join(NAMES)}, got {dtype!r}") from None
    name = _CONVERTED.get(name, name)
    if name not in _ORDER:
        raise TypeError(f"{who}: expected one of {', '.join(NAMES)}, got {dtype!r}")
    return name


def promote(*dtypes):
    """The type that holds all of `dtypes`; None stands for a Python float, which takes its
    partner's float type."""
    known = [d for d in dtypes if d is not None]
    best = max(known, key=_ORDER.__getitem__) if known else config.floatx()
    if len(known) < len(dtypes) and best not in FLOATS:
        return config.floatx()
    return best


def is_float(dtype):
    return dtype in FLOATS


def as_float(dtype):
    return dtype if dtype in FLOATS else config.floatx()
