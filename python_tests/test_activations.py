"""Activations against scalar formulas in float64, their gradients by finite differences;
regularizers.
"""

import math

import numpy as np
import pytest

import dlcore
from dlcore import activations, backends, lookup, ops, regularizers


def sig(x):
    return 1 / (1 + math.exp(-x))


def phi(x):
    return 0.5 * math.erfc(-x / math.sqrt(2))


def sp(x):
    return math.log(1 + math.exp(x))


SELU = (1.0507009873554805, 1.6732632423543772)
# name, arguments, f(x)
ROWS = [
    ("linear", {}, lambda x: x),
    ("relu", {}, lambda x: max(x, 0)),
    ("relu", {"negative_slope": 0.1, "max_value": 2.0}, lambda x: min(x if x > 0 else 0.1 * x, 2)),
    ("relu", {"negative_slope": 0.1, "threshold": 0.5},
     lambda x: x if x >= 0.5 else 0.1 * (x - 0.5)),
    ("relu6", {}, lambda x: min(max(x, 0), 6)),
    ("leaky_relu", {}, lambda x: x if x > 0 else 0.2 * x),
    ("leaky_relu", {"negative_slope": 0.3}, lambda x: x if x > 0 else 0.3 * x),
    ("elu", {}, lambda x: x if x > 0 else math.expm1(x)),
    ("elu", {"alpha": 0.5}, lambda x: x if x > 0 else 0.5 * math.expm1(x)),
    ("selu", {}, lambda x: SELU[0] * (x if x > 0 else SELU[1] * math.expm1(x))),
    ("celu", {"alpha": 0.7}, lambda x: max(x, 0) + min(0, 0.7 * math.expm1(x / 0.7))),
    ("gelu", {}, lambda x: x * phi(x)),
    ("gelu", {"approximate": True},
     lambda x: x * sig(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ("silu", {}, lambda x: x * sig(x)),
    ("swish", {}, lambda x: x * sig(x)),
    ("sigmoid", {}, sig),
    ("log_sigmoid", {}, lambda x: math.log(sig(x))),
    ("tanh", {}, math.tanh),
    ("tanh_shrink", {}, lambda x: x - math.tanh(x)),
    ("softplus", {}, sp),
    ("softsign", {}, lambda x: x / (1 + abs(x))),
    ("soft_shrink", {}, lambda x: math.copysign(max(abs(x) - 0.5, 0), x)),
    ("hard_shrink", {}, lambda x: x if abs(x) > 0.5 else 0),
    ("squareplus", {}, lambda x: (x + math.sqrt(x * x + 4)) / 2),
    ("threshold", {"threshold": 1.0, "default_value": -3.0}, lambda x: x if x > 1 else -3),
    ("mish", {}, lambda x: x * math.tanh(sp(x))),
    ("hard_sigmoid", {}, lambda x: min(max(x / 6 + 0.5, 0), 1)),
    ("hard_silu", {}, lambda x: x * min(max(x / 6 + 0.5, 0), 1)),
    ("hard_tanh", {}, lambda x: min(max(x, -1), 1)),
    ("exponential", {}, math.exp),
    ("sparse_plus", {}, lambda x: x if x > 1 else max(x + 1, 0) ** 2 / 4),
    ("sparse_sigmoid", {}, lambda x: min(max((x + 1) / 2, 0), 1)),
]  # fmt: skip
IDS = [f"{r[0]}{i}" for i, r in enumerate(ROWS)]
X = np.random.default_rng(0).uniform(-4, 4, (5, 7))


@pytest.mark.parametrize(("dtype", "tol"), [("float32", 3e-6), ("float64", 1e-13)])
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_value(row, dtype, tol):
    name, kwargs, formula = row
    f = getattr(activations, name)
    x = X.astype(dtype)
    expected = np.vectorize(formula, otypes=[float])(x)
    for y in (f(x, **kwargs), dlcore.function(lambda a: f(a, **kwargs))(x)):
        assert str(y.dtype) == dtype
        np.testing.assert_allclose(y, expected, rtol=tol, atol=tol)
    np.testing.assert_allclose(f(x.tolist(), **kwargs), expected, rtol=3e-6, atol=3e-6)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_gradient(row):
    name, kwargs, formula = row
    f = getattr(activations, name)
    g = dlcore.grad(lambda a: ops.sum(f(a, **kwargs)))(X)
    h = 1e-6
    formula = np.vectorize(formula, otypes=[float])
    expected = (formula(X + h) - formula(X - h)) / (2 * h)
    np.testing.assert_allclose(g, expected, rtol=1e-5, atol=1e-7)


def test_over_an_axis():
    e = np.exp(X)
    np.testing.assert_allclose(activations.softmax(X), e / e.sum(1, keepdims=True), rtol=1e-13)
    np.testing.assert_allclose(activations.softmax(X, 0), e / e.sum(0), rtol=1e-13)
    np.testing.assert_allclose(
        activations.log_softmax(X), np.log(e / e.sum(1, keepdims=True)), rtol=1e-12
    )
    a, b = X[:, :3], X[:, 3:6]
    np.testing.assert_allclose(activations.glu(X[:, :6]), a / (1 + np.exp(-b)), rtol=1e-13)


@pytest.mark.parametrize("name", ["softplus", "mish", "log_sigmoid", "silu", "gelu", "elu", "tanh"])
def test_extremes(name):
    y = activations.get(name)(np.array([-1e4, 1e4], "float32"))
    assert np.isfinite(y).all()


@pytest.mark.skipif(backends.active() != "cpu", reason="the formula loses what is small beside 1")
def test_approximate_gelu_over_all_floats():
    """Every 4099th bit pattern: the argument t of the exponential is rounded, the rest is exact."""
    per_t = 2 if dlcore.isa() == "baseline" else 1.5  # without multiply-add
    x = np.arange(0, 2**32, 4099, dtype="uint64").astype("uint32").view("float32")
    x = np.concatenate([x, np.array([0, -0.0, np.inf, -np.inf, -10.8, 8], "float32")])
    y = activations.gelu(x, approximate=True)
    with np.errstate(all="ignore"):
        wide = np.clip(x.astype("float64"), -1e30, None)
        t = math.sqrt(8 / math.pi) * wide * (1 + 0.044715 * wide**2)
        exact = wide / (1 + np.exp(-t))
        rounding = np.spacing(np.abs(exact).astype("float32"))
        near = np.abs(y - exact) <= (3 + per_t * np.clip(-t, 0, 200)) * rounding
    assert (near | (y == exact) | (np.isnan(x) & np.isnan(y))).all()
    zero = y == 0
    np.testing.assert_array_equal(np.signbit(y[zero]), np.signbit(x[zero]))


def test_get_and_serialize():
    assert activations.get(None) is activations.linear
    assert activations.get("swish") is activations.silu
    own = lambda x: x  # noqa: E731
    assert activations.get(own) is own
    for row in ROWS:
        if row[0] != "threshold":
            f = activations.get(row[0])
            assert activations.deserialize(activations.serialize(f)) is f

    def wave(x):
        return ops.sin(x)

    assert activations.deserialize(activations.serialize(wave), {"wave": wave}) is wave
    with lookup.custom_object_scope({"wave": wave}):
        assert activations.get("wave") is wave
    with pytest.raises(ValueError, match=r"activation: expected a known name, got 'wave'"):
        activations.get("wave")
    with pytest.raises(ValueError, match="did you mean 'relu'"):
        activations.get("relue")
    with pytest.raises(ValueError, match="did you mean 'leaky_relu'"):
        activations.get("LeakyRelu")
    with pytest.raises(TypeError, match="a callable"):
        activations.get(3)
    with pytest.raises(ValueError, match="max_value >= 0"):
        activations.relu(X, max_value=-1.0)


W = np.random.default_rng(1).normal(size=(4, 3))
UNIT = W / np.linalg.norm(W, axis=1, keepdims=True)
COSINES = [abs(UNIT[i] @ UNIT[j]) for i in range(4) for j in range(i)]
PENALTIES = [
    (regularizers.L1(0.1), 0.1 * abs(W).sum()),
    (regularizers.L2(0.2), 0.2 * (W**2).sum()),
    (regularizers.L1L2(0.1, 0.2), 0.1 * abs(W).sum() + 0.2 * (W**2).sum()),
    (regularizers.L1L2(), 0.0),
    (regularizers.l1_l2(l1=0.3), 0.3 * abs(W).sum()),
    (regularizers.get("l2"), 0.01 * (W**2).sum()),
    (regularizers.get("L1"), 0.01 * abs(W).sum()),
    (regularizers.OrthogonalRegularizer(0.5), 0.5 * np.mean(COSINES)),
]


@pytest.mark.parametrize(("regularizer", "expected"), PENALTIES)
def test_regularizer(regularizer, expected):
    assert float(regularizer(W)) == pytest.approx(expected, rel=1e-12)
    assert float(regularizer(dlcore.Variable(W))) == pytest.approx(expected, rel=1e-12)
    copy = regularizers.get(regularizers.serialize(regularizer))
    assert type(copy) is type(regularizer)
    assert float(copy(W)) == float(regularizer(W))
    value, g = dlcore.value_and_grad(regularizer)(W)
    assert float(value) == pytest.approx(expected, rel=1e-12)
    h = np.zeros_like(W)
    h[1, 2] = 1e-6
    slope = (float(regularizer(W + h)) - float(regularizer(W - h))) / 2e-6
    assert g[1, 2] == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_regularizer_errors():
    for bad in (math.nan, math.inf, "0.1", True):
        with pytest.raises(ValueError, match="expected a finite number"):
            regularizers.L2(bad)
    with pytest.raises(ValueError, match="rows"):
        regularizers.OrthogonalRegularizer(mode="diagonal")
    assert regularizers.get(None) is None


@pytest.mark.parametrize("axis", [-1, 0])
def test_sparsemax(axis):
    """The nearest point of the simplex: it sums to 1, and what is above 0 is x less one number."""
    y = np.asarray(activations.sparsemax(X, axis=axis))
    np.testing.assert_allclose(y.sum(axis), 1, rtol=1e-12)
    cut = np.where(y > 0, X - y, -np.inf).max(axis, keepdims=True)
    np.testing.assert_allclose(y, np.maximum(X - cut, 0), atol=1e-12)
    assert activations.get("sparsemax") is activations.sparsemax and (y == 0).any()
