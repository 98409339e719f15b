"""Layers that add, remove, repeat or disturb positions, and resizing of images."""

import numpy as np
import pytest

import dlcore
from dlcore import layers, ops
from dlcore.check import oracle

RNG = np.random.default_rng(8)


def batch(*shape):
    return RNG.normal(size=shape).astype("float32")


PAIRS = (((1, 2),), ((1, 2), (0, 3)), ((1, 0), (2, 1), (0, 2)))


@pytest.mark.parametrize("rank", (1, 2, 3))
@pytest.mark.parametrize("data_format", ("channels_last", "channels_first"))
def test_padding_and_cropping_are_inverse(rank, data_format):
    x, pairs = batch(2, *(5, 4, 3, 3)[: rank + 1]), PAIRS[rank - 1]
    first = data_format == "channels_first"
    wide = [(0, 0), (0, 0), *pairs] if first else [(0, 0), *pairs, (0, 0)]
    given = pairs[0] if rank == 1 else pairs
    padding = getattr(layers, f"ZeroPadding{rank}D")(given, data_format=data_format)
    y = padding(x)
    np.testing.assert_array_equal(y, np.pad(x, wide))
    cropping = getattr(layers, f"Cropping{rank}D")(given, data_format=data_format)
    np.testing.assert_array_equal(cropping(y), x)
    assert padding.compute_output_shape((None, *x.shape[1:])) == (None, *y.shape[1:])
    weights = batch(*y.shape)
    dx = dlcore.grad(lambda x: ops.sum(padding(x) * weights))(x)
    np.testing.assert_array_equal(dx, cropping(weights))
    dy = dlcore.grad(lambda y: ops.sum(cropping(y) * x))(y)
    np.testing.assert_array_equal(dy, np.pad(x, wide))


def test_one_number_pads_all_sides():
    x = batch(1, 3, 4, 2)
    assert layers.ZeroPadding2D(2)(x).shape == (1, 7, 8, 2)
    assert layers.ZeroPadding2D((0, 1))(x).shape == (1, 3, 6, 2)
    assert layers.Cropping2D()(x).shape == x.shape
    assert layers.Cropping1D()(x[0]).shape == (3, 2, 2)


@pytest.mark.parametrize("rank", (1, 2, 3))
def test_up_sampling_repeats(rank):
    x, size = batch(2, *(3, 4, 2)[:rank], 5), (3, 2, 2)[:rank]
    layer = getattr(layers, f"UpSampling{rank}D")(size[0] if rank == 1 else size)
    expected = x
    for axis, n in enumerate(size, 1):
        expected = expected.repeat(n, axis)
    y = layer(x)
    np.testing.assert_array_equal(y, expected)
    weights = RNG.integers(-5, 5, y.shape).astype("float32")
    dx = dlcore.grad(lambda x: ops.sum(layer(x) * weights))(x)
    shape = sum(zip(x.shape[1:-1], size, strict=True), (2,))
    windows = weights.reshape(*shape, 5)
    np.testing.assert_array_equal(dx, windows.sum(tuple(range(2, 2 + 2 * rank, 2))))


def linear(x, n, axis):
    """x resized along one axis."""
    at = (np.arange(n) + 0.5) * (x.shape[axis] / n) - 0.5
    low = np.floor(at).astype(int)
    share = (at - low).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    last = x.shape[axis] - 1
    a, b = (x.take(np.clip(i, 0, last), axis) for i in (low, low + 1))
    return a * (1 - share) + b * share


@pytest.mark.parametrize("size", ((8, 6), (5, 9), (2, 3), (1, 1), (4, 3)))
@pytest.mark.parametrize("data_format", ("channels_last", "channels_first"))
def test_resize(size, data_format):
    x = batch(2, 4, 3, 5)
    given = np.moveaxis(x, -1, 1) if data_format == "channels_first" else x
    y = ops.image.resize(given, size, data_format=data_format)
    y = np.moveaxis(y, 1, -1) if data_format == "channels_first" else y
    np.testing.assert_allclose(y, linear(linear(x, size[0], 1), size[1], 2), atol=1e-5)
    y = ops.image.resize(x, size, "nearest")
    rows, columns = ((np.arange(n) + 0.5) * m // n for n, m in zip(size, (4, 3), strict=True))
    np.testing.assert_array_equal(y, x[:, rows.astype(int)][:, :, columns.astype(int)])
    loss = lambda x: ops.sum(ops.square(ops.image.resize(x, size)))  # noqa: E731
    _, (expected,) = oracle.gradient(loss, [x.astype("float64")])
    np.testing.assert_allclose(dlcore.grad(loss)(x), expected, atol=1e-5)


def filtered(x, n, filter, reach, antialias):
    """The first axis of x resized: the mean of pixels within `reach`, weighted pixel by pixel."""
    scale = len(x) / n
    width = max(scale, 1) if antialias else 1
    y = np.zeros((n, *x.shape[1:]))
    for i in range(n):
        weights = np.zeros(len(x))
        for h in range(len(x)):
            distance = abs(h - ((i + 0.5) * scale - 0.5)) / width
            weights[h] = filter(distance) if distance < reach else 0
        y[i] = np.tensordot(weights / weights.sum(), x, 1)
    return y


def cubic(t):
    if t <= 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2


FILTERS = {
    "bilinear": (lambda t: 1 - t, 1),
    "bicubic": (cubic, 2),
    "lanczos3": (lambda t: np.sinc(t) * np.sinc(t / 3), 3),
    "lanczos5": (lambda t: np.sinc(t) * np.sinc(t / 5), 5),
}


@pytest.mark.parametrize("size", ((8, 6), (2, 9), (3, 3), (6, 5)))
@pytest.mark.parametrize("antialias", (False, True))
@pytest.mark.parametrize("name", FILTERS)
def test_resize_by_filters(size, antialias, name):
    x = batch(2, 6, 7, 3)
    how = (*FILTERS[name], antialias)
    columns = filtered(np.moveaxis(x, 2, 0).astype("float64"), size[1], *how)
    rows = filtered(np.moveaxis(columns, 2, 0), size[0], *how)  # (P, Q, N, C)
    resize = lambda x: ops.image.resize(x, size, name, antialias)  # noqa: E731
    np.testing.assert_allclose(resize(x), np.moveaxis(rows, 2, 0), atol=2e-6)
    loss = lambda x: ops.sum(ops.square(resize(x)))  # noqa: E731
    _, (expected,) = oracle.gradient(loss, [x.astype("float64")])
    np.testing.assert_allclose(dlcore.grad(loss)(x), expected, atol=2e-5)


def test_resize_keeps_integers_in_their_range():
    x = np.array([0, 250, 10, 255, 3, 77], "uint8").reshape(1, 1, 6, 1)
    y = ops.image.resize(x, (1, 9), "bicubic")
    assert y.dtype == np.uint8
    assert y.ravel().tolist() == [0, 132, 233, 28, 133, 238, 32, 27, 82]
    large = np.full((1, 2, 2, 1), 2**31 - 1, "int32")
    assert (ops.image.resize(large, 3) > 2**31 - 200).all()


def test_bilinear_up_sampling():
    x = batch(2, 3, 4, 5)
    y = layers.UpSampling2D((2, 3), interpolation="bilinear")(x)
    np.testing.assert_allclose(y, linear(linear(x, 6, 1), 12, 2), atol=1e-5)
    assert ops.image.resize(x[0], (7, 7)).shape == (7, 7, 5)
    y = layers.UpSampling2D(2, interpolation="bicubic")(x)
    np.testing.assert_array_equal(y, ops.image.resize(x, (6, 8), "bicubic"))


def test_permute_and_repeat_vector():
    x = batch(2, 3, 4, 5)
    np.testing.assert_array_equal(layers.Permute((3, 1, 2))(x), x.transpose(0, 3, 1, 2))
    y = layers.RepeatVector(3)(x[:, 0, 0])
    np.testing.assert_array_equal(y, np.repeat(x[:, 0, 0][:, None], 3, 1))


def test_noise_acts_while_training():
    x = np.ones((40, 10, 10, 8), "float32")
    for layer in (
        layers.GaussianNoise(0.5, seed=1),
        layers.GaussianDropout(0.2, seed=1),
        layers.SpatialDropout2D(0.5, seed=1),
        layers.AlphaDropout(0.3, seed=1),
    ):
        np.testing.assert_array_equal(layer(x), x)
        y = layer(x, training=True)
        assert not np.array_equal(y, layer(x, training=True))  # a new draw
        assert y.std() == pytest.approx({"GaussianNoise": 0.5, "GaussianDropout": 0.5}.get(
            type(layer).__name__, y.std()), rel=0.02)  # fmt: skip
    n = RNG.normal(size=(300, 300)).astype("float32")
    y = layers.AlphaDropout(0.3, seed=2)(n, training=True)
    assert abs(y.mean()) < 0.02 and y.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("rank", (1, 2, 3))
def test_spatial_dropout_drops_whole_channels(rank):
    x = np.ones((30, *(4,) * rank, 20), "float32")
    y = getattr(layers, f"SpatialDropout{rank}D")(0.25, seed=3)(x, training=True)
    flat = y.reshape(30, -1, 20)
    assert (flat == flat[:, :1]).all() and set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert abs((flat[:, 0] == 0).mean() - 0.25) < 0.06
    if rank == 2:
        layer = layers.SpatialDropout2D(0.25, "channels_first", seed=3)
        y = layer(np.ones((30, 20, 4, 4), "float32"), training=True)
        assert (y == y[:, :, :1, :1]).all()


def test_configurations_come_back():
    for layer in (
        layers.ZeroPadding2D(((1, 2), (3, 4))),
        layers.Cropping3D(2),
        layers.UpSampling2D((2, 3), interpolation="bilinear"),
        layers.SpatialDropout1D(0.5, seed=3),
        layers.AlphaDropout(0.5, (None, 1)),
        layers.Permute((2, 1)),
        layers.RepeatVector(4),
    ):
        config = layers.serialize(layer)
        assert layers.serialize(layers.deserialize(config)) == config


IMAGES = np.zeros((2, 4, 4, 3), "float32")
WRONG = [
    (lambda: layers.ZeroPadding2D(-1), "expected padding as an int of at least 0"),
    (lambda: layers.ZeroPadding2D((1, 2, 3)), "expected padding as an int of at least 0"),
    (lambda: layers.ZeroPadding1D((1, 2.5)), "expected padding as an int of at least 0"),
    (lambda: layers.Cropping2D(2)(IMAGES), "expected input larger than cropping"),
    (lambda: layers.Cropping2D(1)(IMAGES[0]), r"expected input \(batch, height, width, channels\)"),
    (lambda: layers.UpSampling2D(0), "expected size as an int or 2 ints of 1"),
    (lambda: layers.UpSampling2D(interpolation="cubic"), "expected interpolation as one of near"),
    (lambda: layers.Permute((1, 3)), r"expected dims as a permutation of 1..2, got \(1, 3\)"),
    (lambda: layers.Permute((2, 1))(IMAGES), "expected input of 3 axes"),
    (lambda: layers.RepeatVector(0), "expected n"),
    (lambda: layers.RepeatVector(2)(IMAGES), r"expected input \(batch, features\)"),
    (lambda: layers.GaussianNoise(-1), "expected stddev of at least 0, got -1"),
    (lambda: layers.GaussianDropout(1), "expected 0 <= rate < 1, got 1"),
    (lambda: layers.SpatialDropout1D(0.5)(IMAGES, training=True), r"expected input \(batch, steps"),
    (lambda: ops.image.resize(IMAGES, (0, 2)), "expected size"),
    (lambda: ops.image.resize(IMAGES[:, :0], 2), "expected images with pixels"),
    (lambda: ops.image.resize(IMAGES, 2, "cubic"), "expected interpolation as one of nearest"),
    (lambda: ops.image.resize(IMAGES, 2, "bilinear", False, True, True), "got both"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_inputs_are_explained(call, message):
    with pytest.raises(ValueError, match=r"^[a-z_0-9]+: .*" + message):
        call()
