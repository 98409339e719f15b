"""Pooling: geometries filled with small integers, where float32 must be exact; NaN, ties, threads,
wrong arguments."""

import numpy as np
import pytest

import dlcore
from dlcore import ops
from dlcore.check import cases, oracle


def geometries(count=120):
    rng = np.random.default_rng(11)
    for i in range(count):
        rank = 1 + i % 3
        sizes = rng.integers(1, 9, rank)
        yield {
            "shape": (*map(int, (rng.integers(0, 4), *sizes, rng.choice([1, 3, 8, 17, 70]))),),
            "pool_size": tuple(int(min(rng.integers(1, 5), n)) for n in sizes),
            "strides": tuple(map(int, rng.integers(1, 5, rank))),
            "padding": str(rng.choice(["valid", "same"])),
            "data_format": str(rng.choice(["channels_last", "channels_first"])),
        }


@pytest.mark.parametrize("attrs", [*geometries()], ids=lambda a: "-".join(map(str, a["shape"])))
@pytest.mark.parametrize("op", ("max_pool", "average_pool"))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_small_integers_are_exact(op, attrs, dtype):
    attrs = dict(attrs)
    shape = attrs.pop("shape")
    if attrs["data_format"] == "channels_first":
        shape = (shape[0], shape[-1], *shape[1:-1])
    rng = np.random.default_rng(0)
    x = rng.integers(-8, 9, shape).astype(dtype)
    y = getattr(ops, op)(x, **attrs)
    dy = rng.integers(-4, 5, y.shape).astype(dtype)

    def loss(x):
        return ops.sum(getattr(ops, op)(x, **attrs) * ops.cast(dy, x.dtype))

    expected = oracle.run(lambda x: getattr(ops, op)(x, **attrs), [x.astype("float64")])[0]
    np.testing.assert_array_equal(y, expected.astype(dtype))
    dx = dlcore.grad(loss)(x)
    _, (expected,) = oracle.gradient(loss, [x.astype("float64")])
    if op == "max_pool":
        np.testing.assert_array_equal(dx, expected)
    else:  # thirds are not exact
        np.testing.assert_allclose(dx, expected, rtol=0, atol=64 * np.finfo(dtype).eps)


def test_nan_and_infinities_pass_on():
    x = np.arange(32, dtype="float32").reshape(1, 4, 4, 2)
    x[0, 0, 0, 0], x[0, 2, 2, 1], x[0, 2:, 2:, 0] = np.nan, np.inf, -np.inf
    y, index = ops.max_pool_with_index(x, 2)
    assert np.isnan(y[0, 0, 0, 0]) and index[0, 0, 0, 0] == 0
    assert y[0, 1, 1, 1] == np.inf and y[0, 1, 1, 0] == -np.inf
    assert np.isfinite(y[0, 0, 1]).all()
    assert np.isnan(ops.average_pool(x, 2)[0, 0, 0, 0])
    for tap in range(4):  # wherever in the window, and with 1 and 9 channels
        x = np.arange(36, dtype="float32").reshape(1, 2, 2, 9)
        x[0, tap // 2, tap % 2, 4] = np.nan
        y, index = ops.max_pool_with_index(x, 2)
        assert np.isnan(y[0, 0, 0, 4]) and np.isfinite(np.delete(y, 4, -1)).all()
        assert index[0, 0, 0, 4] == tap
        assert np.isnan(ops.max_pool(x[..., 4:5], 2)).all()


def test_the_first_of_equal_values_gets_the_gradient():
    dx = dlcore.grad(lambda x: ops.sum(ops.max_pool(x, 2)))(np.ones((1, 2, 2, 9), "float32"))
    np.testing.assert_array_equal(dx[0, :, :, 0], [[1, 0], [0, 0]])


def test_gradient_ops_on_arrays():
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype("float32")
    y, index = ops.max_pool_with_index(x, 3, 2, "same")
    assert index.dtype == np.uint8
    dx = ops.max_pool_grad(y, index, x.shape, 3, 2, "same")
    _, (expected,) = oracle.gradient(
        lambda x: ops.sum(ops.square(ops.max_pool(x, 3, 2, "same"))) * 0.5, [x]
    )
    np.testing.assert_allclose(dx, expected, rtol=1e-6)
    dx = ops.average_pool_grad(y, x.shape, 3, 2, "same")
    np.testing.assert_allclose(dx.sum(), y.sum(), rtol=1e-5)


@pytest.mark.parametrize("row", cases.POOLING, ids=str)
def test_threads_and_batch_size_do_not_change_bits(row):
    x = np.random.default_rng(0).normal(size=row.shapes[0]).astype("float32")
    x = np.concatenate([x] * 9) if x.size else x
    pool = getattr(ops, row.op)
    step = dlcore.value_and_grad(lambda x: ops.sum(ops.square(pool(x, **row.attrs))))
    before, results = dlcore.get_num_threads(), []
    try:
        for n in (1, 2, 3, 7):
            dlcore.set_num_threads(n)
            results.append(np.concatenate([np.ravel(r) for r in step(x)]))
    finally:
        dlcore.set_num_threads(before)
    for r in results[1:]:
        np.testing.assert_array_equal(r, results[0])
    whole = pool(x, **row.attrs)
    for i in range(len(x)):
        np.testing.assert_array_equal(pool(x[i : i + 1], **row.attrs)[0], whole[i])


IMAGES = np.zeros((2, 4, 4, 3), "float32")
WRONG = [
    ((IMAGES, 5), {}, "expected a window that fits into the padded input"),
    ((IMAGES, 0), {}, "expected pool_size as an int or 2 ints of 1"),
    ((IMAGES, (2, 2, 2)), {}, "expected pool_size as an int or 2 ints"),
    ((IMAGES, 2.5), {}, "expected pool_size"),
    ((IMAGES, 2, 0), {}, "expected strides as an int or 2 ints of 1"),
    ((IMAGES, 2, -1), {}, "expected strides"),
    ((IMAGES, 2, 2, "full"), {}, "expected padding 'valid', 'same'"),
    ((IMAGES, 2, 2, ((2, 0), (0, 0))), {}, "expected padding smaller than pool_size"),
    ((IMAGES, 2, 2, "valid", "nhwc"), {}, "expected data_format"),
    ((np.zeros((2, 4), "float32"), 2), {}, "1 to 3 spatial axes"),
    ((np.zeros((2, 0, 4, 3), "float32"), 2), {"padding": "same"}, "expected a window that fits"),
    ((IMAGES, 2**40), {}, "expected pool_size"),
]


@pytest.mark.parametrize("op", ("max_pool", "average_pool"))
@pytest.mark.parametrize(("args", "more", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_arguments_are_explained(op, args, more, message):
    with pytest.raises(ValueError, match=f"^{op}: .*{message}"):
        getattr(ops, op)(*args, **more)
