"""What can be computed, with the names of `keras.ops`: on NumPy (or CuPy) arrays at once, on
symbolic tensors inside a traced function. The backward kernels are here too."""

from typing import Any

import numpy as np

from dlcore.ops import (
    activations,
    creation,
    indexing,
    linalg,
    losses,
    pointwise,
    reduction,
    shaping,
)
from dlcore.ops.activations import *  # noqa: F403
from dlcore.ops.calling import traceable
from dlcore.ops.creation import *  # noqa: F403
from dlcore.ops.indexing import *  # noqa: F403
from dlcore.ops.linalg import dot, matmul
from dlcore.ops.losses import logits_of, softmax_cross_entropy, sparse_softmax_cross_entropy
from dlcore.ops.op import OPS, Op
from dlcore.ops.pointwise import *  # noqa: F403
from dlcore.ops.reduction import *  # noqa: F403
from dlcore.ops.shaping import *  # noqa: F403
from dlcore.program.graph import Operators, Tensor
from dlcore.program.symbol import Symbol
from dlcore.program.variable import Variable

# Loaded when first used, so that the import takes no longer than a small network needs.
_HOMES = {
    "adaptive": ("adaptive_average_pool", "adaptive_max_pool"),
    "arranging": (
        "append", "array", "array_split", "bartlett", "blackman", "copy", "depth_to_space", "diag",
        "diagflat", "diagonal", "dsplit", "dstack", "empty", "empty_like", "extract_sequences",
        "fliplr", "flipud", "geomspace", "hamming", "hanning", "hsplit", "hstack", "identity",
        "kaiser", "logspace", "meshgrid", "repeat", "roll", "rot90", "space_to_depth", "tile",
        "tri", "tril", "triu", "unravel_index", "vander", "vsplit", "vstack",
    ),
    "arithmetic": (
        "angle", "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_not", "bitwise_or",
        "bitwise_right_shift", "bitwise_xor", "conj", "conjugate", "deg2rad", "divide_no_nan",
        "exp2", "fabs", "fmax", "fmin", "fmod", "gcd", "heaviside", "i0", "imag", "isneginf",
        "isposinf", "isreal", "lcm", "ldexp", "left_shift", "logaddexp2", "logical_xor",
        "nan_to_num", "nextafter", "rad2deg", "real", "right_shift",
        "saturate_cast", "select", "signbit", "sinc", "sparse_plus", "sparse_sigmoid", "sparsemax",
        "squareplus",
    ),
    "attention": ("dot_product_attention",),
    "control": (
        "associative_scan", "cond", "custom_gradient", "fori_loop", "map", "scan", "switch",
        "vectorized_map", "while_loop",
    ),
    "convolution": (
        "conv", "conv_filter_grad", "conv_input_grad", "conv_transpose", "depthwise_conv",
        "separable_conv",
    ),
    "ctc": ("ctc_decode", "ctc_loss"),
    "decompositions": (
        "cholesky", "cholesky_inverse", "det", "eigh", "inv", "logdet", "lstsq", "matrix_rank",
        "pinv", "qr", "slogdet", "solve", "solve_triangular", "svd",
    ),
    "elementary": (
        "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "cbrt", "erfc",
        "erfinv", "hypot", "logaddexp",
    ),
    "fourier": ("fft", "fft2", "ifft2", "irfft", "istft", "rfft", "stft"),
    "normalization": ("batch_normalization", "layer_normalization", "rms_normalization"),
    "patches": ("fold", "unfold"),
    "patterns": ("rearrange",),
    "pooling": (
        "average_pool", "average_pool_grad", "max_pool", "max_pool_grad", "max_pool_with_index",
    ),
    "products": (
        "cross", "einsum", "inner", "kron", "outer", "tensordot", "trace", "vdot",
    ),
    "recurrent": ("gru", "lstm", "simple_rnn"),
    "row_moments": ("moments",),
    "sampling": ("affine_sample",),
    "statistics": (
        "allclose", "argpartition", "average", "bincount", "cdist", "corrcoef", "correlate",
        "diff", "digitize", "histogram", "isclose", "isin", "median", "nanargmax",
        "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmean", "nanmedian", "nanmin",
        "nanpercentile", "nanprod", "nanquantile", "nanstd", "nansum", "nanvar", "nonzero",
        "percentile", "ptp", "quantile", "searchsorted", "trapezoid",
    ),
    "targets": (
        "binary_crossentropy", "categorical_crossentropy", "multi_hot", "psnr",
        "sparse_categorical_crossentropy",
    ),
    "updating": (
        "scatter", "scatter_update", "segment_max", "segment_min", "segment_prod", "segment_sum",
        "slice", "slice_update",
    ),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name) -> Any:
    import importlib

    if name in ("image", "nn", "numpy"):
        return importlib.import_module(f"dlcore.ops.{name}")
    if name in _HOME_OF:
        value = getattr(importlib.import_module(f"dlcore.ops.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value
    from dlcore.lookup import no_attribute

    raise no_attribute("dlcore.ops", name, __all__)


def __dir__():
    return sorted(__all__)


def _equals(variable, other, compare):
    """Element by element with numbers and arrays; variables are themselves alone, or lists could
    not be searched for one."""
    if isinstance(other, (bool, int, float, np.generic, np.ndarray, Tensor)):
        return compare(variable, other)
    return (variable is other) is (compare is pointwise.equal)


def _install():
    """Give tensors and variables their operators."""

    def swapped(f):
        return lambda self, other: f(other, self)

    binary = {
        "add": pointwise.add, "sub": pointwise.subtract, "mul": pointwise.multiply,
        "truediv": pointwise.divide, "floordiv": pointwise.floor_divide, "mod": pointwise.mod,
        "pow": pointwise.power, "matmul": linalg.matmul,
    }  # fmt: skip
    for name, f in binary.items():
        setattr(Operators, f"__{name}__", lambda self, other, f=f: f(self, other))
        setattr(Operators, f"__r{name}__", swapped(f))
    Operators.__neg__ = lambda self: pointwise.negative(self)
    Operators.__abs__ = lambda self: pointwise.absolute(self)
    Operators.__lt__ = lambda self, other: pointwise.less(self, other)
    Operators.__le__ = lambda self, other: pointwise.less_equal(self, other)
    Operators.__gt__ = lambda self, other: pointwise.greater(self, other)
    Operators.__ge__ = lambda self, other: pointwise.greater_equal(self, other)
    Tensor.__eq__ = lambda self, other: pointwise.equal(self, other)
    Tensor.__ne__ = lambda self, other: pointwise.not_equal(self, other)
    Tensor.__getitem__ = lambda self, key: indexing.get_item(self, key)
    Symbol.__getitem__ = lambda self, key: self.record(indexing.get_item, (self, key), {})
    Variable.__eq__ = lambda self, other: _equals(self, other, pointwise.equal)
    Variable.__ne__ = lambda self, other: _equals(self, other, pointwise.not_equal)
    Variable.__getitem__ = lambda self, key: self.value[key]
    Operators.T = property(lambda self: shaping.transpose(self))


_install()

__all__ = [
    name
    for module in (activations, creation, indexing, linalg, losses, pointwise, reduction, shaping)
    for name, value in vars(module).items()
    if name in getattr(module, "__all__", vars(module))
    and not name.startswith("_")
    and getattr(value, "__module__", None) == module.__name__
]
__all__ += [*_HOME_OF, "OPS", "Op", "dot", "image", "matmul", "traceable"]  # noqa: F405
__all__ += ["logits_of", "softmax_cross_entropy", "sparse_softmax_cross_entropy"]
