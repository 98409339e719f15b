"""Normalization by the moments of a batch, of groups and of rows: against the formulas, far from 0,
one pass over memory, threads, wrong arguments."""

import numpy as np
import pytest

import dlcore
from dlcore import layers, ops
from dlcore.check import oracle
from dlcore.ops.normalization import normalize_channels

RNG = np.random.default_rng(4)

native = pytest.mark.skipif(dlcore.isa() == "numpy", reason="about the kernels")

GEOMETRIES = [  # shape, axis, groups
    ((6, 5, 4, 8), -1, None),
    ((6, 5, 4, 33), -1, None),
    ((6, 70, 5), 1, None),
    ((300, 3), -1, None),
    ((5, 9, 9, 12), -1, 1),
    ((5, 9, 9, 12), -1, 4),
    ((5, 12, 7), 1, 12),
    ((3, 10, 1100), -1, 1100),
    ((3, 200, 6), -1, 2),
    ((1, 4), -1, None),
    ((4, 1, 1, 5), -1, 5),
]


def scalar(axis, groups, epsilon=1e-2):
    """A weighted sum of y, mean and variance, so that all three have gradients."""

    def loss(x, gamma, beta):
        results = normalize_channels("test", x, gamma, beta, axis, epsilon, groups)
        rng, total = np.random.default_rng(1), 0.0
        for t in results:
            total = total + ops.sum(t * ops.cast(rng.normal(size=t.shape), t.dtype))
        return total

    return loss


@pytest.mark.parametrize(("shape", "axis", "groups"), GEOMETRIES)
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_channels_against_the_formula(shape, axis, groups, dtype):
    channels = shape[axis]
    xs = [RNG.normal(1, 2, shape), RNG.normal(size=channels), RNG.normal(size=channels)]
    xs = [x.astype(dtype) for x in xs]
    eps = np.finfo(dtype).eps

    def outputs(x, gamma, beta):
        return normalize_channels("test", x, gamma, beta, axis, 1e-2, groups)

    wide = [oracle.wide(x) for x in xs]
    for y, e in zip(dlcore.function(outputs)(*xs), oracle.run(outputs, wide), strict=True):
        np.testing.assert_allclose(y, e, rtol=64 * eps, atol=64 * eps)
    loss = scalar(axis, groups)
    value, dxs = dlcore.value_and_grad(loss, (0, 1, 2))(*xs)
    expected_value, expected = oracle.gradient(loss, wide)
    assert value == pytest.approx(expected_value, rel=1e-3)
    for dx, e in zip(dxs, expected, strict=True):
        np.testing.assert_allclose(dx, e, atol=300 * eps * max(1, np.abs(e).max()))
    for i, at, slope in oracle.finite_differences(loss, wide, most=5):
        assert expected[i].flat[at] == pytest.approx(slope, rel=1e-4, abs=1e-4)


@native
@pytest.mark.parametrize("offset", (0.0, 1e3, 1e4))
def test_variance_far_from_zero(offset):
    """Mean and variance in one pass lose next to nothing where the mean is large, even after a
    jump."""
    x = RNG.normal(offset, 1, (64, 28, 28, 24)).astype("float32")
    for tolerance in (2e-6, 3e-5):
        mean, variance = ops.moments(x, (0, 1, 2))
        np.testing.assert_allclose(mean, x.mean((0, 1, 2), "float64"), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(variance, x.var((0, 1, 2), "float64"), rtol=tolerance)
        x[0, :2] = 0  # as the dark border of an image
    rows = x[2, 0] + np.zeros((28, 24), "float32")
    y = ops.layer_normalization(rows, epsilon=1e-3)
    wide = rows.astype("float64")
    centered = wide - wide.mean(1, keepdims=True)
    expected = centered / np.sqrt(wide.var(1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(y, expected, atol=1e-5 + 2e-7 * offset)


def test_nan_stays_in_its_channel_and_nothing_has_no_mean():
    x = RNG.normal(size=(4, 5, 5, 9)).astype("float32")
    x[1, 2, 3, 4] = np.nan
    mean, variance = ops.moments(x, (0, 1, 2))
    assert np.isnan(mean).nonzero()[0].tolist() == np.isnan(variance).nonzero()[0].tolist() == [4]
    assert np.isnan(ops.moments(np.zeros((0, 3), "float32"), 0)[0]).all()
    assert ops.layer_normalization(np.zeros((0, 3), "float32")).shape == (0, 3)


@pytest.mark.parametrize(("shape", "axis", "groups"), GEOMETRIES)
def test_any_number_of_threads_gives_the_same_bits(shape, axis, groups):
    shape = (29 * shape[0], *shape[1:])
    channels = shape[axis]
    xs = [RNG.normal(size=s).astype("float32") for s in (shape, (channels,), (channels,))]
    step = dlcore.value_and_grad(scalar(axis, groups), (0, 1, 2))
    rows = dlcore.value_and_grad(
        lambda x, gamma, beta: ops.sum(ops.square(ops.layer_normalization(x, gamma, beta, axis))),
        (0, 1, 2),
    )
    before, results = dlcore.get_num_threads(), []
    try:
        for n in (1, 2, 3, 7):
            dlcore.set_num_threads(n)
            parts = (*step(*xs)[1], *rows(*xs)[1])
            results.append(np.concatenate([np.ravel(p) for p in parts]))
    finally:
        dlcore.set_num_threads(before)
    for r in results[1:]:
        np.testing.assert_array_equal(r, results[0])


def test_rows_do_not_depend_on_the_batch():
    x = RNG.normal(size=(67, 50)).astype("float32")
    whole = ops.layer_normalization(x)
    for i in range(len(x)):
        np.testing.assert_array_equal(ops.layer_normalization(x[i : i + 1])[0], whole[i])


def test_rows_of_large_results_are_those_of_small_ones():
    x, dy = RNG.normal(size=(2, 2731, 768)).astype("float32")  # 8 MiB: results go past the caches
    scale, shift = RNG.normal(size=(2, 768)).astype("float32")

    def both(x, dy, scale, shift):
        y = ops.layer_normalization(x, scale, shift)
        return y, dlcore.gradients(ops.sum(y * dy), [x])[0]

    f, some = dlcore.function(both), slice(2725, 2731)
    for whole, part in zip(f(x, dy, scale, shift), f(x[some], dy[some], scale, shift), strict=True):
        np.testing.assert_array_equal(whole[some], part)
        assert np.isfinite(whole).all()


@native
def test_a_following_relu_rides_along():
    f = dlcore.function(lambda x: ops.relu(normalize_channels("test", x, None, None, -1, 1e-3)[0]))
    x = RNG.normal(size=(8, 6, 6, 16)).astype("float32")
    f(x)
    large = [i for i in f.compiled(x).instructions if i["bytes"] >= x.nbytes]
    assert [i["kernel"] for i in large] == ["moments", "pointwise"]


ROWS = np.ones((4, 6), "float32")
WRONG = [
    (lambda: ops.moments(ROWS, 2), "moments: expected axis in -2..1"),
    (lambda: ops.moments(ROWS, 0, synchronized=True), "moments: expected synchronized=False"),
    (
        lambda: ops.batch_normalization(ROWS, ROWS[0], ROWS[0, :5], -1),
        "batch_normalization: expected vectors of 6 channels, got (5,)",
    ),
    (
        lambda: ops.layer_normalization(ROWS, ROWS[0, :5]),
        "layer_normalization: expected gamma of shape (6,), got (5,)",
    ),
    (lambda: ops.rms_normalization(ROWS, axis=3), "rms_normalization: expected axis in -2..1"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_arguments_are_explained(call, message):
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value).startswith(message)


def test_the_slope_of_a_kernel_is_bounded():
    x = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    layer = layers.SpectralNormalization(layers.Dense(4), power_iterations=20)
    layer(x)
    start = layer.layer.kernel.numpy()
    np.testing.assert_array_equal(layer(x), layer.layer(x))
    layer(x, training=True)
    sigma = np.linalg.svd(start)[1][0]
    np.testing.assert_allclose(layer.layer.kernel.numpy(), start / sigma, rtol=1e-4, atol=1e-6)
    zero = layers.SpectralNormalization(layers.Conv2D(2, 3, kernel_initializer="zeros"))
    assert not zero(np.ones((1, 4, 4, 1), "float32"), training=True).any()
    model = dlcore.Sequential([layers.Input((5,)), layer, layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, x[:, :1], epochs=3, verbose=0)
    assert [tuple(w.shape) for w in layer.weights] == [(5, 4), (1, 4), (4,)]
    assert len(layer.trainable_weights) == 2
    with pytest.raises(ValueError, match="expected a layer with kernel or embeddings"):
        layers.SpectralNormalization(layers.Flatten())(x)
