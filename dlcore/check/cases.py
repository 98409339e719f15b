"""The rows: one line per op and situation. The tests do everything with each row, and `dlcore
check` holds every backend to them.

Row(op, shapes, attrs, low, high, ...): inputs are drawn evenly from low..high.  An "i<k>" in
`dtypes` makes that input integer in 0..k-1.  `ulps` is the error allowed in units of float32 eps
relative to the scale of the result.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Row:
    op: str
    shapes: tuple
    attrs: dict = field(default_factory=dict)
    low: float = -2.0
    high: float = 2.0
    dtypes: tuple = ()
    gradient: bool = True
    ulps: float = 8.0

    def inputs(self, dtype, seed=0):
        """Arrays to call the op with."""
        rng = np.random.default_rng(seed)
        result = []
        for i, shape in enumerate(self.shapes):
            kind = self.dtypes[i] if i < len(self.dtypes) else None
            if kind:
                result.append(rng.integers(0, int(kind[1:]), shape).astype("int32"))
            else:
                result.append(rng.uniform(self.low, self.high, shape).astype(dtype))
        return result

    def function(self):
        """The op with the row's attributes, of arrays or tensors."""
        from dlcore import ops

        f = getattr(ops, self.op)
        return lambda *xs: f(*xs, **self.attrs)

    def __str__(self):
        shown = ",".join("x".join(map(str, s)) or "()" for s in self.shapes)
        attrs = ",".join(f"{k}={v}" for k, v in self.attrs.items())
        return f"{self.op}({shown}{';' if attrs else ''}{attrs})"


# 0, 1, one less than, equal to and one more than the lanes of 16, 32 and 64 byte vectors, and odd
# sizes
SIZES = (0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 1000)

_UNARY = (
    "negative", "abs", "square", "exp", "expm1", "tanh", "sigmoid", "erf", "sin", "cos", "relu",
    "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "softplus", "softsign", "mish",
    "hard_sigmoid", "hard_silu", "log_sigmoid", "tanh_shrink", "sinh", "cosh", "hard_tanh",
)  # fmt: skip
_POSITIVE = ("sqrt", "rsqrt", "log", "log1p", "reciprocal", "log2", "log10", "tan")
_HALVES = ("bfloat16", "float16")
_FLAT = ("sign", "floor", "ceil", "round", "trunc")
_BINARY = ("add", "subtract", "multiply", "maximum", "minimum")
_COMPARE = (
    "less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "logical_and",
    "logical_or",
)  # fmt: skip

POINTWISE = [
    *(Row(op, ((37,),)) for op in _UNARY),
    *(Row(op, ((37,),), low=0.2, high=1.4) for op in _POSITIVE),
    *(Row(op, ((37,),), low=-9.0, high=9.0, gradient=False) for op in _FLAT),
    *(Row(op, ((5, 7), (5, 7))) for op in _BINARY),
    *(Row(op, ((5, 7), (7,))) for op in _BINARY),
    *(Row(op, ((5, 1), (7,))) for op in _BINARY),
    *(Row(op, ((3, 1, 7), (5, 1))) for op in _BINARY),
    *(Row(op, ((), (5, 7))) for op in _BINARY),
    *(Row(op, ((5, 7), (7,)), gradient=False) for op in _COMPARE),
    Row("divide", ((5, 7), (7,)), low=0.5),
    Row("power", ((5, 7), (7,)), low=0.5),
    Row("mod", ((5, 7), (7,)), low=0.7, high=0.9, gradient=False),
    Row("floor_divide", ((5, 7), (7,)), low=0.7, high=3.1, gradient=False),
    Row("where", ((5, 7), (5, 7), (7,)), dtypes=("i2",)),
    *(Row(op, ((37,),)) for op in ("arctan", "arcsinh", "cbrt", "erfc", "sparse_plus")),
    *(Row(op, ((37,),), low=-0.9, high=0.9) for op in ("arcsin", "arccos", "arctanh", "erfinv")),
    Row("arccosh", ((37,),), low=1.1, high=9.0),
    *(Row(op, ((5, 7), (7,))) for op in ("arctan2", "hypot", "logaddexp", "fmod")),
    Row("sparsemax", ((5, 7),)),
    Row("clip", ((37,),), {"x_min": -1.0, "x_max": 1.5}),
    Row("gelu", ((37,),), {"approximate": False}),
    Row("gelu", ((37,),), {"approximate": True}),
    Row("glu", ((5, 8),)),
    Row("glu", ((8, 5),), {"axis": 0}),
    Row("logical_not", ((37,),), dtypes=("i2",), gradient=False),
    Row("isnan", ((37,),), gradient=False),
    Row("isinf", ((37,),), gradient=False),
    Row("isfinite", ((37,),), gradient=False),
    Row("cast", ((37,),), {"dtype": "int32"}, low=-50, high=50, gradient=False),
    *(Row("cast", ((1000,),), {"dtype": h}, gradient=False, ulps=0) for h in _HALVES),
    Row("cast", ((1000,),), {"dtype": "float16"}, low=-8e4, high=8e4, gradient=False, ulps=0),
    Row("cast", ((1000,),), {"dtype": "float16"}, low=-1e-6, high=1e-6, gradient=False, ulps=0),
]

REDUCTIONS = [
    *(
        Row(op, ((4, 5, 6),), {"axis": axis, "keepdims": keep}, low=0.5)
        for op in ("sum", "mean", "max", "min", "prod")
        for axis in (None, 0, 1, 2, (0, 2), (0, 1), -1)
        for keep in (False, True)
    ),
    *(Row(op, ((4, 37),), {"axis": axis}) for op in ("var", "std") for axis in (None, 0, 1)),
    *(Row(op, ((4, 37),), {"axis": axis}) for op in ("logsumexp", "norm") for axis in (None, 0, 1)),
    *(
        Row(op, ((4, 37),), {"axis": axis}, gradient=False)
        for op in ("argmax", "argmin")
        for axis in (None, 0, 1)
    ),
    *(Row(op, ((4, 7),), {"axis": 1}, gradient=False, dtypes=("i2",)) for op in ("any", "all")),
    Row("sum", ((300, 1000),), {"axis": 0}),
    Row("sum", ((1000, 300),), {"axis": 1}),
    Row("sum", ((257, 1001),)),
    Row("max", ((257, 1001),), {"axis": 0}, gradient=False),
]

SOFTMAX = [
    *(
        Row(op, shape, {"axis": axis})
        for op in ("softmax", "log_softmax")
        for shape in (((4, 10),), ((3, 37),), ((2, 1000),), ((5, 1),))
        for axis in (-1, 0)
    ),
    *(
        Row("sparse_softmax_cross_entropy", ((n, c), (n,)), dtypes=(None, f"i{c}"))
        for n in (1, 5, 64)
        for c in (1, 2, 10, 37, 1000)
    ),
    *(
        Row("softmax_cross_entropy", ((n, c), (n, c)), low=0.0)
        for n, c in ((1, 1), (5, 10), (64, 37))
    ),
]

SHAPES = [
    Row("reshape", ((4, 6),), {"newshape": (3, -1)}),
    Row("transpose", ((4, 6),)),
    Row("transpose", ((4, 6, 5),), {"axes": (2, 0, 1)}),
    Row("transpose", ((70, 130),)),
    Row("swapaxes", ((4, 6, 5),), {"axis1": 0, "axis2": 2}),
    Row("expand_dims", ((4, 6),), {"axis": 1}),
    Row("squeeze", ((4, 1, 6),), {"axis": 1}),
    Row("broadcast_to", ((4, 1),), {"shape": (3, 4, 5)}),
    Row("ravel", ((4, 6),)),
    Row("flip", ((4, 6),), {"axis": 1}),
    Row("pad", ((4, 6),), {"pad_width": ((1, 2), (0, 3))}),
    Row("pad", ((4, 6),), {"pad_width": 1, "constant_values": 3.0}),
    Row("take", ((9, 6), (4,)), {"axis": 0}, dtypes=(None, "i9")),
    Row("take", ((9, 6), (4, 2)), {"axis": 1}, dtypes=(None, "i6")),
    Row("take", ((9, 6), (4,)), {"axis": None}, dtypes=(None, "i54")),
    Row("take_along_axis", ((4, 6), (4, 3)), {"axis": -1}, dtypes=(None, "i6")),
    Row("take_along_axis", ((4, 6, 2), (5, 1, 2)), {"axis": 0}, dtypes=(None, "i4")),
    Row("cumsum", ((4, 37),), {"axis": 1}, ulps=16),
    Row("cumprod", ((4, 9),), {"axis": 0}),
    Row("tile", ((4, 6),), {"repeats": (2, 1, 3)}),
    Row("roll", ((4, 6),), {"shift": 2, "axis": 1}),
    Row("tril", ((4, 6),)),
    Row("diag", ((6,),), {"k": -1}),
    Row("scatter_update", ((4, 6), (3, 1), (3, 6)), dtypes=(None, "i4")),
    Row("segment_sum", ((9, 3), (9,)), {"num_segments": 4}, dtypes=(None, "i4")),
    Row("one_hot", ((5,),), {"num_classes": 7}, dtypes=("i7",), gradient=False),
]

MATMUL = [
    *(
        Row("matmul", ((m, k), (k, n)), ulps=16)
        for m, k, n in (
            (1, 1, 1), (1, 7, 5), (5, 1, 7), (7, 5, 1), (8, 8, 8), (13, 17, 33), (32, 128, 10),
            (64, 65, 63), (1, 300, 257), (100, 10, 300),
        )
    ),
    Row("matmul", ((4, 5, 6), (6, 7))),
    Row("matmul", ((4, 5, 6), (4, 6, 7))),
    Row("matmul", ((2, 1, 5, 6), (3, 6, 7))),
    Row("matmul", ((5, 6), (4, 6, 7))),
    Row("matmul", ((6,), (6, 7))),
    Row("matmul", ((5, 6), (6,))),
    Row("matmul", ((6,), (6,))),
    Row("dot", ((5, 6), (6, 7))),
    Row("tensordot", ((4, 5, 6), (6, 5, 3)), {"axes": ((1, 2), (1, 0))}),
]  # fmt: skip

SAMPLING = [
    Row(
        "affine_sample", ((n, h, w, c), (n, 6)),
        {"shape": shape, "interpolation": how, "fill_mode": mode, "fill_value": 0.5},
        low=-0.9, high=0.9, gradient=False,
    )
    for n, h, w, c, shape in ((2, 5, 7, 3, (4, 9)), (1, 1, 1, 1, (3, 3)), (3, 4, 3, 17, (5, 2)))
    for how in ("nearest", "bilinear")
    for mode in ("constant", "nearest", "reflect", "wrap", "mirror")
]  # fmt: skip

CONVOLUTION = [
    *(
        Row("conv", ((n, *size, c), (*window, c // groups, k)), attrs, ulps=16)
        for n, size, c, window, groups, k, attrs in (
            (2, (13,), 5, (4,), 1, 7, {"strides": 2, "padding": "causal"}),
            (2, (13,), 8, (3,), 1, 16, {"padding": "same", "dilation_rate": 3}),
            (3, (9, 8), 3, (3, 3), 1, 33, {}),
            (2, (9, 8), 16, (3, 3), 1, 17, {"padding": "same"}),
            (2, (9, 8), 32, (3, 3), 1, 48, {}),  # minimal filtering
            (1, (7, 10), 256, (3, 3), 1, 16, {"padding": "same"}),
            (2, (9, 8), 6, (3, 2), 3, 9, {"strides": (2, 1), "padding": ((2, 0), (1, 3))}),
            (2, (9, 8), 32, (3, 3), 8, 32, {"padding": "same"}),  # lanes across groups
            (2, (9, 8), 24, (2, 3), 12, 36, {}),
            (2, (7, 7), 24, (1, 1), 1, 40, {}),
            (2, (7, 7), 24, (1, 1), 1, 8, {"strides": 2}),
            (2, (8, 9), 17, (3, 3), 17, 17, {"padding": "same"}),
            (2, (8, 9), 16, (3, 3), 16, 32, {"strides": 2}),
            (1, (5, 6, 7), 3, (2, 3, 3), 1, 5, {"padding": "same", "strides": (1, 2, 1)}),
        )
    ),
    Row("conv", ((2, 4, 9, 8), (3, 3, 4, 5)), {"data_format": "channels_first"}, ulps=16),
    Row("conv_transpose", ((2, 5, 6, 4), (3, 3, 8, 4)), {"strides": 2, "padding": "same"}, ulps=16),
    Row("conv_transpose", ((2, 7, 4), (4, 3, 4)), {"strides": 3, "output_padding": 1}, ulps=16),
    Row("depthwise_conv", ((2, 8, 9, 5), (3, 3, 5, 2)), {"padding": "same"}, ulps=16),
    Row("separable_conv", ((2, 8, 9, 5), (3, 3, 5, 2), (1, 1, 10, 7)), ulps=32),
]  # fmt: skip

UPDATES = [
    Row("adam_update", ((33,),) * 4 + ((),) * 4, low=0.1, high=0.9, gradient=False),
    Row("momentum_update", ((33,), (33,), (33,), (), ()), gradient=False),
]  # fmt: skip

NORMALIZATION = [
    *(
        Row("moments", (shape,), {"axes": axes, "keepdims": keep}, high=5.0)
        for shape, axes, keep in (
            ((5, 4, 3, 8), (0, 1, 2), False),
            ((5, 4, 3, 33), (1, 2), True),
            ((40, 70), 0, False),
            ((40, 70), (-1,), True),
            ((7, 6, 5), (0, 2), False),
            ((33, 3), (0, 1), False),
            ((3, 300, 1030), (0, 1), False),
            ((1, 5), 0, False),
        )
    ),
    *(
        Row(
            "batch_normalization",
            (shape, *((shape[axis],),) * n),
            {"axis": axis} | more,
            low=0.5,
        )
        for shape, axis, n, more in (
            ((4, 5, 6, 7), -1, 2, {}),
            ((4, 5, 6), 1, 2, {"epsilon": 0.1}),
            ((4, 33), 1, 2, {}),
        )
    ),
    *(
        Row(op, (shape, *(vectors,) * n), {"axis": axis, "epsilon": 1e-3})
        for op, n in (("layer_normalization", 2), ("rms_normalization", 1))
        for shape, axis, vectors in (
            ((5, 33), -1, (33,)),
            ((3, 4, 8), -1, (8,)),
            ((3, 4, 5), (1, 2), (4, 5)),
            ((3, 4, 5), 1, (4,)),
            ((70, 1000), -1, (1000,)),
            ((1, 2), -1, (2,)),
            ((0, 4), -1, (4,)),
        )
    ),
    Row("layer_normalization", ((5, 33),)),
    Row("rms_normalization", ((5, 33),)),
]

POOLING = [
    *(
        Row(op, (shape,), attrs)
        for op in ("max_pool", "average_pool")
        for shape, attrs in (
            ((2, 9, 3), {"pool_size": 2}),
            ((2, 9, 5), {"pool_size": 3, "strides": 2, "padding": "same"}),
            ((3, 6, 8, 16), {"pool_size": 2}),
            ((2, 7, 9, 33), {"pool_size": (3, 2), "strides": (2, 1), "padding": "same"}),
            ((2, 7, 7, 70), {"pool_size": 3, "strides": 2}),
            ((2, 3, 7, 5), {"pool_size": 2, "strides": 3, "data_format": "channels_first"}),
            ((2, 4, 5, 6, 7), {"pool_size": 2, "strides": 1}),
            ((1, 1, 1, 1), {"pool_size": 1}),
            ((2, 1, 1, 3), {"pool_size": 3, "padding": "same"}),
            ((2, 40, 40, 1), {"pool_size": (17, 16)}),
            ((0, 4, 4, 3), {"pool_size": 2}),
        )
    ),
]

ATTENTION = [
    Row("dot_product_attention", ((2, 3, 2, 4), (2, 5, 1, 4), (2, 5, 1, 3))),
    Row("dot_product_attention", ((1, 9, 2, 5),) * 3, {"is_causal": True}),
    Row("dot_product_attention", ((2, 4, 2, 3), (2, 3, 2, 3), (2, 3, 2, 3), (2, 4, 3))),
    Row("dot_product_attention", ((0, 3, 1, 2),) * 3),
]

ROWS = [
    *POINTWISE,
    *REDUCTIONS,
    *SOFTMAX,
    *SHAPES,
    *MATMUL,
    *CONVOLUTION,
    *UPDATES,
    *POOLING,
    *NORMALIZATION,
    *SAMPLING,
    *ATTENTION,
]
