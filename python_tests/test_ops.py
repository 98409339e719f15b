"""Everything with each row of cases.py: value, gradient, finite differences, layouts, sizes,
extremes, errors."""

import numpy as np
import pytest

import dlcore
from dlcore import backends, ops
from dlcore.check import cases, oracle
from dlcore.program import dtypes

FLOATS = ("float32", "float64")


def close(actual, expected, dtype, ulps, context=""):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, context
    if actual.dtype.kind in "bi":
        np.testing.assert_array_equal(actual, expected, err_msg=context)
        return
    eps = np.finfo(dtype).eps
    scale = np.max(np.abs(expected), initial=1.0, where=np.isfinite(expected))
    np.testing.assert_allclose(
        actual, expected, rtol=4 * ulps * eps, atol=ulps * eps * scale, err_msg=context
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("row", cases.ROWS, ids=str)
def test_value(row, dtype):
    xs = row.inputs(dtype)
    ys = oracle.as_list(row.function()(*xs))
    expected = oracle.run(row.function(), [oracle.wide(x) for x in xs])
    for y, e in zip(ys, expected, strict=True):
        if any(x.dtype.kind == "f" for x in xs) and y.dtype.kind == "f":
            halves = row.attrs.get("dtype") in dtypes.HALVES  # leave as float32
            assert y.dtype == ("float32" if halves else dtype)
        close(y, e, dtype, row.ulps)


GRADIENT_ROWS = [row for row in cases.ROWS if row.gradient]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("row", GRADIENT_ROWS, ids=str)
def test_gradient(row, dtype):
    xs = row.inputs(dtype)
    wide = [oracle.wide(x) for x in xs]
    loss = oracle.weighted(row.function(), wide)
    floats = tuple(i for i, x in enumerate(xs) if x.dtype.kind == "f")
    value, dxs = dlcore.value_and_grad(loss, floats)(*xs)
    expected_value, expected = oracle.gradient(loss, wide)
    close(value, expected_value, dtype, 8 * row.ulps)
    for dx, e in zip(dxs, expected, strict=True):
        close(dx, e, dtype, 4 * row.ulps)


@pytest.mark.parametrize("row", GRADIENT_ROWS, ids=str)
def test_formula_gradient_against_finite_differences(row):
    xs = [oracle.wide(x) for x in row.inputs("float64", seed=3)]
    loss = oracle.weighted(row.function(), xs)
    _, dxs = oracle.gradient(loss, xs)
    floats = [i for i, x in enumerate(xs) if x.dtype.kind == "f"]
    if row.op == "softmax_cross_entropy":
        floats, dxs = floats[:1], dxs[:1]  # targets are data: no gradient flows to them
    by_input = dict(zip(floats, dxs, strict=True))
    checked = [r for r in oracle.finite_differences(loss, xs) if r[0] in by_input]
    assert checked or not any(xs[i].size for i in floats)
    for i, at, slope in checked:
        assert by_input[i].flat[at] == pytest.approx(slope, rel=2e-5, abs=2e-5)


def sliced(x):
    """The same values with gaps between the elements."""
    wide = np.zeros(tuple(2 * n + 1 for n in x.shape), x.dtype)
    wide[tuple(slice(1, 2 * n + 1, 2) for n in x.shape)] = x
    return wide[tuple(slice(1, 2 * n + 1, 2) for n in x.shape)]


def misaligned(x):
    raw = np.zeros(x.nbytes + 1, "u1")[1:]
    y = raw.view(x.dtype).reshape(x.shape)
    y[...] = x
    return y


LAYOUTS = {
    "sliced": sliced,
    "fortran": np.asfortranarray,
    "reversed": lambda x: x[tuple(slice(None, None, -1) for _ in x.shape)].copy()[
        tuple(slice(None, None, -1) for _ in x.shape)
    ],
    "misaligned": misaligned,
    "big endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "read-only": lambda x: (x.setflags(write=False), x)[1],
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(
    "row", [r for i, r in enumerate(cases.ROWS) if i % 3 == 0 or r in cases.MATMUL], ids=str
)
def test_layout_does_not_matter(row, layout):
    xs = row.inputs("float32")
    plain = oracle.as_list(row.function()(*[x.copy() for x in xs]))
    other = oracle.as_list(row.function()(*map(LAYOUTS[layout], xs)))
    for a, b in zip(plain, other, strict=True):
        close(b, a, "float32", row.ulps)


@pytest.mark.parametrize("n", cases.SIZES)
@pytest.mark.parametrize("op", ("exp", "tanh", "relu", "gelu", "softplus", "square"))
def test_every_size_gives_the_same_bits(op, n):
    """An element's result does not depend on where it lies in a vector."""
    x = np.random.default_rng(1).uniform(-3, 3, 1000).astype("float32")
    np.testing.assert_array_equal(getattr(ops, op)(x[:n]), getattr(ops, op)(x)[:n])


EXTREMES = np.array(
    [0.0, -0.0, 1e20, -1e20, 1e38, -1e38, 1e-45, -1e-45, 1e-38, np.inf, -np.inf, np.nan], "float32"
)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "op",
    ("negative", "abs", "square", "exp", "expm1", "log", "log1p", "sqrt", "tanh", "sigmoid", "erf",
     "relu", "floor", "sign", "softplus", "elu", "isnan", "isfinite", "isinf", "reciprocal"),
)  # fmt: skip
def test_extremes(op, dtype):
    x = EXTREMES.astype(dtype)
    y = getattr(ops, op)(x)
    with np.errstate(all="ignore"):
        expected = oracle.run(getattr(ops, op), [x.astype("float64")])[0].astype(y.dtype)
    if y.dtype.kind == "b":
        np.testing.assert_array_equal(y, expected)
    else:
        tiny = np.finfo(dtype).tiny
        np.testing.assert_allclose(y, expected, rtol=2e-6, atol=tiny)


@pytest.mark.parametrize("op", ("maximum", "minimum", "add", "multiply"))
def test_nan_passes_on(op):
    x = np.array([np.nan, 1.0, np.nan], "float32")
    y = np.array([1.0, np.nan, np.nan], "float32")
    assert np.isnan(getattr(ops, op)(x, y)).all()


WRONG = [
    ("add", ((3,), (4,)), {}, "add: expected shapes that broadcast together"),
    ("matmul", ((3, 4), (5, 6)), {}, "matmul: expected x2 with 4 rows"),
    ("matmul", ((), (5, 6)), {}, "matmul: expected at least one axis each"),
    ("reshape", ((3, 4),), {"newshape": (5, 5)}, "reshape: expected a shape of 12 elements"),
    ("sum", ((3, 4),), {"axis": 2}, "sum: expected axis in -2..1"),
    ("max", ((0,),), {}, "max: expected at least one element"),
    ("argmax", ((0, 3),), {"axis": 0}, "argmax: expected at least one element"),
    ("transpose", ((3, 4),), {"axes": (0, 0)}, "transpose: expected a permutation"),
    ("broadcast_to", ((3,),), {"shape": (4,)}, "broadcast_to: expected a shape"),
    ("softmax", ((),), {}, "softmax: expected at least one axis"),
    ("squeeze", ((3, 4),), {"axis": 0}, "squeeze: expected size 1 on axis 0"),
    ("sparse_softmax_cross_entropy", ((3, 4), (5,)), {}, "softmax_cross_entropy: expected logits"),
    ("glu", ((3,),), {}, "glu: expected an even size"),
]


@pytest.mark.parametrize(("op", "shapes", "attrs", "message"), WRONG, ids=lambda x: str(x)[:30])
def test_wrong_arguments_are_explained(op, shapes, attrs, message):
    xs = [np.ones(s, "float32") for s in shapes]
    if op == "sparse_softmax_cross_entropy":
        xs[1] = xs[1].astype("int32")
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        getattr(ops, op)(*xs, **attrs)


def test_objects_are_refused():
    with pytest.raises(TypeError, match="expected numbers"):
        ops.exp(["a", "b"])


def test_labels_out_of_range_give_nan():
    logits = np.zeros((3, 4), "float32")
    loss = ops.sparse_softmax_cross_entropy(logits, np.array([0, 4, -1]))
    np.testing.assert_array_equal(np.isnan(loss), [False, True, True])


def test_python_scalars_do_not_widen():
    x = np.ones(3, "float32")
    assert ops.multiply(x, 2.0).dtype == "float32"
    assert ops.add(np.ones(3, "int32"), 1).dtype == "int32"
    assert ops.add(np.ones(3, "int32"), 1.5).dtype == "float32"
    assert ops.divide(np.ones(3, "int32"), 2).dtype == "float32"


def test_concatenate_stack_split():
    a, b = np.arange(6.0).reshape(2, 3), np.arange(4.0).reshape(2, 2)
    np.testing.assert_array_equal(ops.concatenate([a, b], 1), np.concatenate([a, b], 1))
    np.testing.assert_array_equal(ops.stack([a, a], 1), np.stack([a, a], 1))
    for x, y in zip(ops.split(a, [1], 1), np.split(a, [1], 1), strict=True):
        np.testing.assert_array_equal(x, y)


def test_gradient_through_concatenate_and_slices():
    def f(a, b):
        c = ops.concatenate([a, b * b], axis=0)
        return ops.sum(c[1:5:2] * c[2]) + ops.sum(c[::-1][0])

    xs = [np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(4, 3) / 7]
    _, dxs = dlcore.value_and_grad(f, (0, 1))(*xs)
    for i, at, slope in oracle.finite_differences(f, xs):
        assert dxs[i].flat[at] == pytest.approx(slope, rel=1e-5, abs=1e-5)


@pytest.mark.skipif(backends.active() != "cpu", reason="the dispatcher is the CPU's")
@pytest.mark.parametrize("f", [ops.relu, ops.add, ops.matmul])
def test_ops_on_arrays_seen_before_go_past_python(f, monkeypatch):
    x = np.full((37, 37), 2.0, "float32")  # of sizes that no other test has
    arguments = (x,) * (1 if f is ops.relu else 2)
    expected = f(*arguments)

    def slow(*_args):
        raise AssertionError("expected the native dispatcher, got Python's way")

    monkeypatch.setattr("dlcore.ops.calling.run_eagerly", slow)
    np.testing.assert_array_equal(f(*arguments), expected)
    with pytest.raises(AssertionError, match="dispatcher"):
        f(*(a[:31, :31].copy() for a in arguments))
