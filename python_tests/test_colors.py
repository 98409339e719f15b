"""Colours of images changed at random, and pooling into so many places."""

import colorsys

import numpy as np
import pytest

import dlcore as keras
from dlcore import layers

X = np.random.default_rng(0).uniform(0, 255, (6, 5, 4, 3)).astype("float32")
GREY = (X @ np.array([0.2989, 0.587, 0.114]))[..., None] * np.ones(3)


def in_hsv(change):
    """The colours after `change(hue, saturation, value)`, by Python's own conversion."""
    pixels = [
        colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*p))) for p in X.reshape(-1, 3) / 255
    ]
    return np.reshape(pixels, X.shape) * 255


def no_change(h, s, v):
    return h, s, v


def most_colour(h, s, v):
    return h, min(1, s * 1.5), v


ROWS = [
    ("RandomGrayscale", {"factor": 1.0}, GREY),
    ("RandomGrayscale", {"factor": 0.0}, X),
    ("RandomInvert", {"factor": (1.0, 1.0)}, 255 - X),
    ("RandomInvert", {"factor": 0.0}, X),
    ("Solarization", {}, 255 - X),
    ("Solarization", {"threshold_factor": (0.5, 0.5)}, np.where(X < 127.5, X, 255 - X)),
    ("Solarization", {"addition_factor": (0.2, 0.2), "threshold_factor": (1.0, 1.0)},
     np.where(X + 51 < 255, X + 51, 0)),
    ("RandomPosterization", {"factor": (3, 3)}, np.floor(X / 32) * 32),
    ("RandomPosterization", {"factor": (8, 8)}, np.floor(X)),
    ("RandomSaturation", {"factor": (0.5, 0.5)}, X),
    ("RandomSaturation", {"factor": (0.0, 0.0)}, X.max(-1, keepdims=True) * np.ones(3)),
    ("RandomSaturation", {"factor": (0.6, 0.6)}, in_hsv(most_colour)),
    ("RandomHue", {"factor": 0.0}, in_hsv(no_change)),
    ("RandomHue", {"factor": (1.0, 1.0)}, in_hsv(lambda h, s, v: ((h + 0.5) % 1, s, v))),
    ("RandomColorJitter", {}, X),
    ("RandomColorJitter", {"brightness_factor": (0.1, 0.1)}, np.clip(X + 25.5, 0, 255)),
    ("RandomColorJitter", {"hue_factor": (1.0, 1.0), "saturation_factor": (0.0, 0.0)},
     X.max(-1, keepdims=True) * np.ones(3)),
]  # fmt: skip
IDS = [f"{r[0]}-{i}" for i, r in enumerate(ROWS)]


@pytest.mark.parametrize("name, arguments, expected", ROWS, ids=IDS)
def test_colors(name, arguments, expected):
    layer = getattr(layers, name)(seed=1, **arguments)
    close = {"rtol": 1e-4, "atol": 2e-2}  # of 255
    np.testing.assert_allclose(layer(X, training=True), expected, **close)
    np.testing.assert_array_equal(layer(X, training=False), X)
    np.testing.assert_allclose(layer(X[0], training=True), expected[0], **close)
    again = type(layer).from_config(layer.get_config())
    np.testing.assert_allclose(again(X, training=True), expected, **close)
    if name != "Solarization":
        first = getattr(layers, name)(seed=1, data_format="channels_first", **arguments)
        y = first(X.transpose(0, 3, 1, 2), training=True)
        np.testing.assert_allclose(np.transpose(y, (0, 2, 3, 1)), expected, **close)


@pytest.mark.parametrize(
    "layer, bounds",
    [
        (layers.RandomGrayscale(0.5, seed=2), (0, 255)),
        (layers.RandomInvert(1.0, seed=2), (0, 255)),
        (layers.RandomPosterization((2, 7), seed=2), (0, 255)),
        (layers.RandomSaturation((0.2, 0.9), seed=2), (0, 255)),
        (layers.RandomHue(0.5, seed=2), (0, 255)),
        (layers.RandomColorJitter((0, 255), 0.2, 0.2, (0.4, 0.6), 0.1, seed=2), (0, 255)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_draws_differ_between_images_and_stay_in_range(layer, bounds):
    same = np.repeat(X[:1], 64, axis=0)
    y = np.asarray(layer(same, training=True))
    assert len({image.tobytes() for image in y}) > 1
    assert y.min() >= bounds[0] and y.max() <= bounds[1] + 1e-3
    model = keras.Sequential([keras.Input((5, 4, 3)), layer, layers.Flatten(), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(same / 255, np.zeros(64), verbose=0)


def windows(x, places):
    """Means and largest values along the second axis."""
    n = x.shape[1]
    cuts = [(i * n // places, -(-(i + 1) * n // places)) for i in range(places)]
    return [np.stack([f(x[:, a:b], axis=1) for a, b in cuts], 1) for f in (np.mean, np.max)]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("first", [False, True])
def test_adaptive_pooling(rank, first):
    x = np.random.default_rng(1).normal(size=(2, 7, *(3,) * (rank - 1), 4)).astype("float32")
    sizes = (3, *(3,) * (rank - 1))
    given = np.moveaxis(x, -1, 1) if first else x
    data_format = "channels_first" if first else "channels_last"
    for kind, expected in zip(("Average", "Max"), windows(x, 3), strict=True):
        cls = getattr(layers, f"Adaptive{kind}Pooling{rank}D")
        layer = cls(sizes if rank > 1 else 3, data_format=data_format)
        y = np.asarray(layer(given))
        y = np.moveaxis(y, 1, -1) if first else y
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
        again = cls.from_config(layer.get_config())
        np.testing.assert_array_equal(again(given), layer(given))
        with pytest.raises(ValueError, match="expected input"):
            layer(given[0])


@pytest.mark.parametrize(
    "act, message",
    [
        (lambda: layers.RandomGrayscale(1.5), r"expected factor in 0\.\.1, got 1.5"),
        (lambda: layers.RandomInvert(-1), "expected factor as one or two numbers"),
        (lambda: layers.RandomPosterization(9), "expected factor as one or two numbers"),
        (lambda: layers.Solarization(2.0), "expected addition_factor as one or two numbers"),
        (lambda: layers.RandomHue(0.1, value_range=(1, 0)), "expected value_range"),
        (lambda: layers.RandomHue(0.1)(X[..., :2]), "expected 3 channels, got 2"),
    ],
)
def test_one_sentence(act, message):
    with pytest.raises(ValueError, match=message):
        act()


def equalized(channel):
    """One channel of one image: each value's rank among the pixels above the least, of 0..255."""
    least = (channel == channel.min()).sum()
    up_to = (channel[..., None] >= channel.reshape(-1)).sum(-1)
    return np.round((up_to - least) * 255 / (channel.size - least))


def test_equalization():
    x = np.floor(X)
    expected = np.stack([[equalized(i[..., c]) for c in range(3)] for i in x]).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(layers.Equalization()(x, training=True), expected)
    np.testing.assert_array_equal(layers.Equalization()(x[1], training=True), expected[1])
    np.testing.assert_array_equal(layers.Equalization()(x, training=False), x)
    first = layers.Equalization(data_format="channels_first")
    y = first(x.transpose(0, 3, 1, 2), training=True).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(y, expected)
    y = layers.Equalization(value_range=(-1, 1))(x / 127.5 - 1, training=True)
    np.testing.assert_allclose(y, expected / 127.5 - 1, atol=0.04)  # 1 / 255 falls either side
    one = np.full((1, 4, 4, 1), 7, "float32")
    np.testing.assert_array_equal(layers.Equalization()(one, training=True), one)
    assert len(np.unique(layers.Equalization(bins=3)(x[:1], training=True)[..., 0])) == 2


def test_rand_augment():
    make = layers.RandAugment
    y = make(seed=1)(X, training=True)
    assert y.min() >= 0 and y.max() <= 255 and np.isfinite(y).all() and abs(y - X).max() > 1
    np.testing.assert_array_equal(make(seed=1)(X, training=True), y)
    np.testing.assert_array_equal(make(seed=1)(X, training=False), X)
    again = layers.deserialize(layers.serialize(make(seed=1)))
    np.testing.assert_array_equal(again(X, training=True), y)
    first = make(seed=1, data_format="channels_first")(X.transpose(0, 3, 1, 2), training=True)
    np.testing.assert_allclose(first.transpose(0, 2, 3, 1), y, rtol=1e-4)
    seen = make(seed=1, num_ops=1)(X, training=True)
    changed = {round(float(abs(a - b).mean()), 3) for a, b in zip(seen, X, strict=True)}
    assert len(changed) == len(X)  # each image has a change of its own
    for wrong in ({"num_ops": 0}, {"factor": 2}, {"interpolation": "cubic"}):
        with pytest.raises(ValueError, match="expected"):
            make(**wrong)
