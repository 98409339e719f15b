"""More pointwise ops and statistics, held to NumPy and SciPy's values."""

import math

import numpy as np
import pytest
from numpy_cases import Case, check_gradient, check_values

import dlcore
from dlcore import ops
from dlcore.ops import elementary


def _unary(*names, low=-2.0, high=2.0, gradient=True):
    return [
        Case(n, lambda m, x, n=n: getattr(m, n)(x), ((7, 5),), None, gradient, (), low, high)
        for n in names
    ]


def _binary(*names, gradient=True, dtypes=()):
    return [
        Case(n, lambda m, x, y, n=n: getattr(m, n)(x, y), ((7, 5), (5,)), None, gradient, dtypes)
        for n in names
    ]


def _reduced(*names, gradient=True):
    return [
        Case(
            f"{n} {axis}",
            lambda m, x, n=n, axis=axis: (
                getattr(m, n)(m.where(x > 1.2, m.nan, x), axis=axis)
                if m is np
                else getattr(m, n)(m.where(x > 1.2, math.nan, x), axis=axis)
            ),
            ((7, 5),),
            None,
            gradient,
        )
        for n in names
        for axis in (None, 0, 1)
    ]


_erfc = np.vectorize(math.erfc, otypes=[float])

CASES = [
    *_unary("arctan", "arcsinh", "cbrt", "exp2", "deg2rad", "rad2deg", "fabs", "sinc", low=-9),
    *_unary("arcsin", "arccos", "arctanh", low=-0.9, high=0.9),
    *_unary("arccosh", low=1.1, high=20.0),
    *_unary("signbit", "isposinf", "isneginf", "isreal", "i0", "angle", "imag", gradient=False),
    *_binary("arctan2", "hypot", "logaddexp", "logaddexp2", "fmax", "fmin", "fmod"),
    *_binary("heaviside", "isclose", gradient=False),
    *_binary("bitwise_and", "bitwise_or", "bitwise_xor", "gcd", "lcm", gradient=False,
             dtypes=("i60", "i60")),
    *_binary("left_shift", "right_shift", gradient=False, dtypes=("i60", "i5")),
    *_binary("logical_xor", gradient=False, dtypes=("i2", "i2")),
    *_binary("ldexp", dtypes=(None, "i5")),
    Case("bitwise_not", lambda m, x: m.bitwise_not(x), ((7,),), None, False, ("i60",)),
    Case("erfc", lambda m, x: m.erfc(x), ((7, 5),), _erfc, low=-3, high=5),
    Case("erfinv", lambda m, x: m.erfinv(m.erf(x)), ((7, 5),), lambda x: x, rtol=1e-5),
    Case(
        "divide_no_nan",
        lambda m, x, y: m.divide_no_nan(x, y),
        ((7, 5), (5,)),
        lambda x, y: np.where(y == 0, 0, x / np.where(y == 0, 1, y)),
        dtypes=(None, "i3"),
    ),
    Case(
        "nan_to_num",
        lambda m, x: m.nan_to_num(m.log(x - 0.2), nan=7.0, neginf=3.0),
        ((7, 5),),
    ),
    Case(
        "select",
        lambda m, x, y: m.select([x > 1, x > 0], [y, x * y], 3.0),
        ((7, 5), (5,)),
    ),
    Case(
        "squareplus",
        lambda m, x: m.squareplus(x),
        ((9,),),
        lambda x: (x + np.sqrt(x * x + 4)) / 2,
    ),
    Case(
        "sparse_plus",
        lambda m, x: m.sparse_plus(x),
        ((9,),),
        lambda x: np.where(x < -1, 0, np.where(x > 1, x, (x + 1) ** 2 / 4)),
    ),
    Case(
        "sparse_sigmoid",
        lambda m, x: m.sparse_sigmoid(x),
        ((9,),),
        lambda x: np.clip((x + 1) / 2, 0, 1),
    ),
    *(
        Case(
            f"sparsemax {axis}",
            lambda m, x, axis=axis: m.sparsemax(x, axis),
            ((4, 6),),
            lambda x, axis=axis: np.apply_along_axis(_simplex, axis, x),
        )
        for axis in (-1, 0)
    ),
    *_reduced("nansum", "nanprod", "nanmax", "nanmin", "nanmean", "nanvar", "nanstd"),
    *_reduced("nanargmax", "nanargmin", gradient=False),
    *(
        Case(f"{n} {axis}", lambda m, x, n=n, axis=axis: getattr(m, n)(x, axis=axis), ((5, 7),))
        for n in ("cumsum", "cumprod", "average", "ptp")
        for axis in (None, 0, 1)
    ),
    Case("nancumsum", lambda m, x: m.nancumsum(x, axis=1), ((5, 7),)),
    Case("nancumprod", lambda m, x: m.nancumprod(x, axis=1), ((5, 7),)),
    *(Case(f"diff {n}", lambda m, x, n=n: m.diff(x, n, 0), ((4, 3),)) for n in (0, 1, 2, 5)),
    Case("average by", lambda m, x, w: m.average(x, None, w), ((4, 3), (4, 3)), low=0.5),
    Case(
        "average along",
        lambda m, x, w: m.average(x, 0, w) if m is ops else np.average(x, 0, w),
        ((4, 3), (4,)),
        low=0.5,
    ),
    Case("trapezoid", lambda m, y: m.trapezoid(y, dx=0.5, axis=0), ((4, 3),)),
    Case("trapezoid at", lambda m, y, x: m.trapezoid(y, x), ((4, 3), (3,))),
    Case("corrcoef", lambda m, x: m.corrcoef(x), ((3, 6),)),
    Case(
        "cdist",
        lambda m, x, y: m.cdist(x, y),
        ((3, 4), (2, 4)),
        lambda x, y: np.linalg.norm(x[:, None] - y, axis=-1),
    ),
    Case("isin", lambda m, a, b: m.isin(a, b), ((9,), (3,)), None, False, ("i9", "i9")),
    *(
        Case(f"searchsorted {s}", lambda m, a, v, s=s: m.searchsorted(m.cumsum(a), v, s),
             ((9,), (3, 2)), None, False, ("i3", "i15"))
        for s in ("left", "right")
    ),
    Case("digitize", lambda m, x: m.digitize(x, np.array([-1.0, 0.0, 1.0])), ((9,),), None, False),
]  # fmt: skip


def _simplex(x):
    """Sparsemax by sorting."""
    z = np.sort(x)[::-1]
    k = np.arange(1, len(x) + 1)
    inside = 1 + k * z > np.cumsum(z)
    t = (np.cumsum(z)[inside][-1] - 1) / k[inside][-1]
    return np.maximum(x - t, 0)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_value(case, dtype):
    check_values(case, dtype)


@pytest.mark.parametrize("case", [c for c in CASES if c.gradient], ids=lambda c: c.name)
def test_gradient(case):
    check_gradient(case)


# Errors in units in the last place that inverse functions may have (NumPy's own cbrt has 3).
ULPS = {"arctan": 3, "arctan2": 3.5, "arcsin": 4.5, "arccos": 4.5, "arcsinh": 2.5, "arccosh": 3.5,
        "arctanh": 2.5, "cbrt": 3.5, "hypot": 2.5, "erfc": 8, "erfinv": 9}  # fmt: skip


def _domain(name):
    rng = np.random.default_rng(0)
    u = rng.uniform(-1, 1, 5000)
    near = np.sign(u) * (1 - 10 ** rng.uniform(-7, 0, 5000))
    wide = np.sign(u) * 10 ** rng.uniform(-10, 10, 5000)
    if name in ("arcsin", "arccos", "arctanh", "erfinv"):
        return [np.concatenate([u, near, wide[abs(wide) < 1]])]
    if name in ("arctan2", "hypot"):
        return [wide, rng.permutation(wide)]
    return [{"arccosh": 1 + abs(wide), "erfc": 9 * u}.get(name, wide)]


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("name", ULPS)
def test_accuracy(name, dtype):
    xs = [x.astype(dtype) for x in _domain(name)]
    kind = "longdouble" if dtype == "float64" and not name.startswith("erf") else "float64"
    with np.errstate(all="ignore"):
        expected = elementary._TABLE[name][0](np, *(x.astype(kind) for x in xs))
    unit = np.spacing(np.abs(expected.astype(dtype))).astype("longdouble")
    y = getattr(ops, name)(*xs)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    assert np.nanmax(np.abs(y - expected) / unit) <= ULPS[name]


@pytest.mark.parametrize("name", sorted(elementary._TABLE))
def test_extremes(name):
    x = np.array([0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e30, 1e-30, 2, -2], "float32")
    xs = [x] if name in ULPS and len(_domain(name)) == 1 else [x.repeat(11), np.tile(x, 11)]
    if name == "hypot":  # NumPy passes infinities beside NaN
        keep = ~(np.isnan(xs[0]) | np.isnan(xs[1]))
        xs = [x[keep] for x in xs]
    y = getattr(ops, name)(*xs)
    with np.errstate(all="ignore"):
        expected = elementary._TABLE[name][0](np, *(x.astype("float64") for x in xs))
    np.testing.assert_allclose(y, expected.astype("float32"), rtol=2e-6)
    kept = ~np.isnan(y)
    np.testing.assert_array_equal(np.signbit(y)[kept], np.signbit(expected)[kept])


def test_inverse_functions_are_native():
    f = dlcore.function(lambda x: ops.arctan(x) * 2.0 + ops.erfinv(x))
    program = f.compiled(np.ones(3, "float32"))
    if hasattr(program, "native"):
        assert {i["kernel"] for i in program.instructions} == {"pointwise"}


def test_numbers_are_saturated():
    x = np.array([-1e20, -3.7, 300.0, 3e9], "float32")
    np.testing.assert_array_equal(ops.saturate_cast(x, "uint8"), [0, 0, 255, 255])
    np.testing.assert_array_equal(ops.saturate_cast(x, "int32"), [-(2**31), -3, 300, 2**31 - 1])
    np.testing.assert_array_equal(ops.saturate_cast(np.array([-5, 999]), "uint8"), [0, 255])


def test_counts_and_orders():
    x = np.array([[3.0, 1.0, 2.0], [9.0, 7.0, 8.5]], "float32")
    assert ops.median(x).item() == np.median(x) and ops.median(x).dtype == "float32"
    np.testing.assert_allclose(
        ops.quantile(x, [0.2, 0.9], axis=1), np.quantile(x, [0.2, 0.9], axis=1)
    )
    assert ops.percentile(x, 50, method="lower") == 3.0
    assert ops.nanmedian(np.array([1.0, np.nan, 3.0], "float32")) == 2.0
    counts, edges = ops.histogram(x, 4)
    np.testing.assert_array_equal(counts, np.histogram(x, 4)[0])
    np.testing.assert_allclose(edges, np.histogram(x, 4)[1])
    np.testing.assert_array_equal(ops.bincount([1, 3, 3], minlength=6), [0, 1, 0, 2, 0, 0])
    np.testing.assert_array_equal(ops.bincount([1, 3], weights=[0.5, 2.0]), [0, 0.5, 0, 2])
    np.testing.assert_array_equal(ops.bincount([[0, 1], [2, 2]]), [[1, 1, 0], [0, 0, 2]])
    np.testing.assert_array_equal(ops.nonzero(x > 2.5)[1], np.nonzero(x > 2.5)[1])
    assert ops.argpartition(np.array([3, 1, 2]), 0)[0] == 1
    np.testing.assert_allclose(ops.correlate(x[0], x[1], "full"), np.correlate(x[0], x[1], "full"))
    assert bool(ops.allclose(x, x + 1e-9)) and not bool(ops.allclose(x, x + 1))
    assert ops.nanargmax(np.array([[np.nan, np.nan], [1, 2]], "float32"), axis=1).tolist() == [
        -1,
        1,
    ]


def test_orders_in_traces_are_those_of_arrays():
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("float32")
    x[0, 1, 2] = np.nan
    calls = [lambda x: ops.median(x), lambda x: ops.median(x, [0, 2], keepdims=True)]
    for method in ("linear", "lower", "higher", "midpoint", "nearest"):
        for q in (0.3, [[0.0, 0.25], [0.7, 1.0]]):
            for axis in (None, 1, (0, -1)):
                for keep in (False, True):
                    calls.append(lambda x, a=(q, axis, method, keep): ops.quantile(x, *a))
    calls.append(lambda x: ops.percentile(x, 30, axis=-1))
    for f in calls:
        got = dlcore.function(f)(x)
        np.testing.assert_allclose(got, f(x), rtol=1e-6, atol=1e-6)
        assert got.dtype == f(x).dtype
    grad = dlcore.grad(lambda x: ops.median(x))(np.array([5.0, 1.0, 2.0], "float32"))
    np.testing.assert_array_equal(grad, [0, 0, 1])


def test_models_with_orders_are_saved(tmp_path):
    x = dlcore.layers.Input((5,))
    y = ops.concatenate([ops.sort(x), ops.quantile(x, [[0.5]], axis=-1)[0, 0][:, None]], -1)
    model = dlcore.Model(x, ops.top_k(y, 3)[0])
    model.save(tmp_path / "model.safetensors")
    values = np.array([[5, 1, 2, 4, 9.0]], "float32")
    loaded = dlcore.models.load_model(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict(values), [[9, 5, 4]])


def test_lists_of_tensors_are_stacked():
    def f(x, y):
        return ops.add([[x, y], [y, x]], 1.0) * ops.maximum([x, y], 2)

    np.testing.assert_array_equal(dlcore.function(f)(1.0, 2.0), [[4, 6], [6, 4]])


def test_what_depends_on_values_is_refused_in_a_trace():
    for name in ("nonzero", "nanmedian", "bincount", "histogram"):
        with pytest.raises(TypeError, match=f"{name}: expected a concrete array"):
            dlcore.function(lambda x, name=name: getattr(ops, name)(x))(np.ones(3, "float32"))


def test_bits_of_floats_are_refused():
    with pytest.raises(TypeError, match="bitwise_and: expected integers, got float32"):
        ops.bitwise_and(np.ones(3, "float32"), 1)


def test_the_next_float():
    x = np.array([1.0, -1.0, 0.0], "float32")
    for f in (ops.nextafter, dlcore.function(ops.nextafter)):
        np.testing.assert_array_equal(f(x, x * 0 + 2), np.nextafter(x, np.float32(2)))
    assert ops.conj(x) is x or (ops.conj(x) == x).all()


SIZES = [1, 7, 64, 96, 101, 400]


@pytest.mark.parametrize("n", SIZES)
def test_fourier_transforms_in_programs(n):
    rng = np.random.default_rng(n)
    re, im = rng.normal(size=(2, 3, n))
    for f in (lambda x: ops.fft(x), lambda x: ops.irfft(x, n), lambda x: ops.irfft(x, 2 * n - 1)):
        for a, b in zip(dlcore.function(f)((re, im)), f((re, im)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(ops.fft((re, im))[0], np.fft.fft(re + 1j * im).real, atol=1e-10)
    for length in (None, n + 3, max(n - 2, 1)):
        got = dlcore.function(lambda x, length=length: ops.rfft(x, length))(re)
        for a, b in zip(got, ops.rfft(re, length), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-10)
    # Parseval: the energy is the same, and so is its slope, up to the size.
    energy = dlcore.grad(lambda x: sum(ops.sum(ops.square(y)) for y in ops.fft((x, x * 0))))(re)
    np.testing.assert_allclose(energy, 2 * n * re, rtol=1e-9, atol=1e-9)


def test_fourier_transforms_over_two_axes():
    re, im = np.random.default_rng(0).normal(size=(2, 2, 6, 5))
    for f in (ops.fft2, dlcore.function(ops.fft2)):
        z = np.fft.fft2(re + 1j * im)
        np.testing.assert_allclose(f((re, im)), (z.real, z.imag), atol=1e-10)
    for f in (ops.ifft2, dlcore.function(ops.ifft2)):
        np.testing.assert_allclose(f(ops.fft2((re, im))), (re, im), atol=1e-10)
    for name, x in (("fft", re), ("fft2", (re, im[0])), ("irfft", (re,))):
        with pytest.raises(ValueError, match=f"{name}: expected a pair"):
            getattr(ops, name)(x)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize(("length", "stride", "size"), [(16, 8, 16), (16, 4, 20), (15, 5, 21)])
def test_spectra_of_windows(length, stride, size, center):
    x = np.random.default_rng(0).normal(size=(2, 100))

    def there(x):
        return ops.stft(x, length, stride, size, "hamming", center)

    re, im = there(x)
    padded = np.pad(x, ((0, 0), (size // 2,) * 2), "reflect") if center else x
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(length) / length)
    window = np.pad(window, ((size - length) // 2, size - length - (size - length) // 2))
    third = np.fft.rfft(padded[:, 2 * stride : 2 * stride + size] * window)
    np.testing.assert_allclose(re[:, 2] + 1j * im[:, 2], third, atol=1e-10)
    np.testing.assert_allclose(dlcore.function(there)(x), (re, im), atol=1e-10)
    back = ops.istft((re, im), length, stride, size, window="hamming", center=center)
    inside = slice(size, back.shape[-1] - size)
    np.testing.assert_allclose(back[:, inside], x[:, : back.shape[-1]][:, inside], atol=1e-10)
    assert ops.istft((re, im), length, stride, size, 50, "hamming", center).shape == (2, 50)
    model_input = dlcore.Input((100,))
    spectra = ops.stft(model_input, length, stride, size)[0]
    assert dlcore.Model(model_input, spectra).predict(x, verbose=0).shape[0] == 2
    with pytest.raises(ValueError, match="stft: expected window 'hann' or 'hamming', got 'flat'"):
        ops.stft(x, length, stride, size, "flat")
