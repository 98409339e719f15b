"""Layers that prepare data: what they do to images, when, and that a seed decides all of it."""

import os
import subprocess
import sys

import numpy as np
import pytest

import dlcore
from dlcore import layers, ops
from dlcore.check import oracle
from dlcore.data import DataLoader
from dlcore.ops.sampling import FILL_MODES

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 255, (6, 9, 7, 3)).astype("float32")

RANDOM = {
    "RandomFlip": lambda **k: layers.RandomFlip(**k),
    "RandomFlip, one axis": lambda **k: layers.RandomFlip("vertical", **k),
    "RandomCrop": lambda **k: layers.RandomCrop(5, 4, **k),
    "RandomTranslation": lambda **k: layers.RandomTranslation(0.3, (-0.1, 0.4), **k),
    "RandomRotation": lambda **k: layers.RandomRotation(0.2, "constant", **k),
    "RandomZoom": lambda **k: layers.RandomZoom(0.4, **k),
    "RandomZoom, two axes": lambda **k: layers.RandomZoom((-0.5, 0.1), 0.3, "wrap", **k),
    "RandomBrightness": lambda **k: layers.RandomBrightness(0.3, **k),
    "RandomContrast": lambda **k: layers.RandomContrast((0.2, 0.6), **k),
    "RandomErasing": lambda **k: layers.RandomErasing(0.7, **k),
    "RandomErasing, gray": lambda **k: layers.RandomErasing(fill_value=[1, 2, 3], **k),
    "MixUp": lambda **k: layers.MixUp(**k),
}


@pytest.mark.parametrize("name", RANDOM)
def test_seed_decides_and_images_differ(name):
    make = RANDOM[name]
    layer, same, other = make(seed=1), make(seed=1), make(seed=2)
    y = layer(IMAGES, training=True)
    np.testing.assert_array_equal(same(IMAGES, training=True), y)
    assert not np.array_equal(other(IMAGES, training=True), y)
    assert not np.array_equal(layer(IMAGES, training=True), y)  # the next draw
    many = np.repeat(IMAGES[:1], 16, axis=0)
    if name != "MixUp":  # equal images blend to themselves
        assert len({image.tobytes() for image in layer(many, training=True)}) > 1
    assert np.isfinite(y).all() and y.dtype == np.float32


@pytest.mark.parametrize("name", RANDOM)
def test_nothing_happens_in_inference(name):
    y = RANDOM[name](seed=1)(IMAGES, training=False)
    if name == "RandomCrop":
        assert y.shape == (6, 5, 4, 3)
        np.testing.assert_array_equal(RANDOM[name](seed=7)(IMAGES, training=False), y)
    else:
        np.testing.assert_array_equal(y, IMAGES)


@pytest.mark.parametrize("name", RANDOM)
def test_channels_first_single_images_and_integers(name):
    make = RANDOM[name]
    y = make(seed=3)(IMAGES, training=True)
    first = np.ascontiguousarray(IMAGES.transpose(0, 3, 1, 2))
    if name not in ("RandomErasing", "RandomErasing, gray", "RandomBrightness"):
        z = make(seed=3, data_format="channels_first")(first, training=True)
        np.testing.assert_allclose(z.transpose(0, 2, 3, 1), y, rtol=1e-5, atol=1e-4)
    one = make(seed=3)(IMAGES[0], training=True)
    assert one.shape == y.shape[1:]
    small = make(seed=3)(IMAGES.astype("uint8"), training=True)
    assert small.shape == y.shape and small.dtype == np.float32
    assert make(seed=3)(IMAGES.astype("float64")).dtype == np.float32
    assert make(seed=3, dtype="float64")(IMAGES).dtype == np.float64


@pytest.mark.parametrize("name", RANDOM)
def test_layers_survive_their_configuration(name):
    layer = RANDOM[name](seed=4)
    again = layers.deserialize(layers.serialize(layer))
    x = layer(IMAGES, training=True)
    np.testing.assert_array_equal(again(IMAGES, training=True), x)


def augmenting():
    return dlcore.Sequential(
        [
            layers.Input((9, 7, 3)),
            layers.Rescaling(1 / 255),
            layers.RandomFlip("horizontal", seed=1),
            layers.RandomTranslation(0.2, 0.2, seed=2),
            layers.RandomRotation(0.1, seed=3),
            layers.RandomZoom(0.1, seed=4),
            layers.RandomBrightness(0.1, value_range=(0, 1), seed=5),
            layers.RandomContrast(0.1, value_range=(0, 1), seed=6),
            layers.RandomErasing(0.5, value_range=(0, 1), seed=7),
            layers.RandomCrop(8, 6, seed=8),
            layers.Flatten(),
            layers.Dense(2, kernel_initializer="zeros"),
        ]
    )


def trained():
    model = augmenting()
    model.compile("sgd", "mse")
    y = np.arange(12.0).reshape(6, 2)
    history = model.fit(IMAGES.astype("uint8"), y, 4, 3, 0, shuffle=False).history
    return history["loss"], model.get_weights()


def test_same_bits_for_any_number_of_threads():
    before = dlcore.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 7):
            dlcore.set_num_threads(threads)
            results.append(trained())
    finally:
        dlcore.set_num_threads(before)
    for loss, weights in results[1:]:
        assert loss == results[0][0]
        for a, b in zip(weights, results[0][1], strict=True):
            np.testing.assert_array_equal(a, b)


def test_same_images_on_the_formula_backend(tmp_path):
    here = os.path.dirname(os.path.abspath(__file__))
    script = (
        f"import sys; sys.path.insert(0, {here!r})\n"
        "import numpy as np, test_preprocessing as t\n"
        "made = {n: f(seed=5)(t.IMAGES, training=True) for n, f in t.RANDOM.items()}\n"
        "np.savez(sys.argv[1], loss=t.trained()[0], **made)\n"
    )
    kept = {}
    for backend in ("", "numpy"):
        file = tmp_path / f"made{backend}.npz"
        env = dict(os.environ, DLCORE_BACKEND=backend)
        subprocess.run([sys.executable, "-c", script, file], check=True, env=env)
        kept[backend] = dict(np.load(file))
    for name, values in kept["numpy"].items():
        np.testing.assert_allclose(
            kept[""][name], values, rtol=1e-4, atol=2e-2 if name != "loss" else 1e-4, err_msg=name
        )


def test_flip():
    seen = set()
    for image in layers.RandomFlip(seed=0)(np.repeat(IMAGES[:1], 64, 0)):
        kinds = {
            "same": IMAGES[0], "left": IMAGES[0][:, ::-1], "up": IMAGES[0][::-1],
            "both": IMAGES[0][::-1, ::-1],
        }  # fmt: skip
        found = [k for k, v in kinds.items() if np.array_equal(v, image)]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) == 4
    for mode, allowed in (("horizontal", slice(None)), ("vertical", slice(None))):
        flipped = layers.RandomFlip(mode, seed=0)(np.repeat(IMAGES[:1], 32, 0))
        mirror = IMAGES[0][:, ::-1] if mode == "horizontal" else IMAGES[0][::-1]
        count = sum(np.array_equal(image, mirror) for image in flipped[allowed])
        assert 6 < count < 26
        assert all(
            np.array_equal(image, mirror) or np.array_equal(image, IMAGES[0]) for image in flipped
        )


def test_crop_takes_windows_everywhere():
    x = np.arange(9 * 7, dtype="float32").reshape(1, 9, 7, 1).repeat(400, 0)
    y = layers.RandomCrop(5, 4, seed=0)(x, training=True)
    starts = set()
    for image in y[..., 0]:
        top, left = divmod(int(image[0, 0]), 7)
        np.testing.assert_array_equal(image, x[0, top : top + 5, left : left + 4, 0])
        starts.add((top, left))
    assert starts == {(t, f) for t in range(5) for f in range(4)}
    assert layers.RandomCrop(20, 10)(IMAGES, training=True).shape == (6, 20, 10, 3)


def test_whole_shifts_copy():
    x = IMAGES[:1]
    y = layers.RandomTranslation((1 / 9, 1 / 9), (-2 / 7, -2 / 7), "constant", fill_value=5)(x)
    np.testing.assert_allclose(y[0, 1:, :-2], x[0, :-1, 2:], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(y[0, 0], 5, atol=1e-3)
    y = layers.RandomTranslation((2 / 9, 2 / 9), 0.0, "reflect")(x)
    np.testing.assert_allclose(y[0, :2], x[0, 1::-1], rtol=1e-4, atol=1e-2)


def test_quarter_turns_and_zooms():
    x = IMAGES[:2, :7]  # square
    y = layers.RandomRotation((0.25, 0.25))(x)
    np.testing.assert_allclose(y, np.rot90(x, 1, (1, 2)), rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(layers.RandomRotation((1, 1))(x), x, rtol=1e-4, atol=1e-2)
    turned = layers.RandomRotation((0.5, 0.5))(IMAGES)  # 9 x 7
    np.testing.assert_allclose(turned, IMAGES[:, ::-1, ::-1], rtol=1e-4, atol=1e-2)
    turned = layers.RandomRotation((0.25, 0.25))(IMAGES)  # the middle seven rows are a square
    np.testing.assert_allclose(
        turned[:, 1:8], np.rot90(IMAGES[:, 1:8], 1, (1, 2)), rtol=1e-4, atol=1e-2
    )
    y = layers.RandomZoom((-0.5, -0.5), interpolation="nearest")(x)
    np.testing.assert_array_equal(y[:, 3, 3], x[:, 3, 3])
    np.testing.assert_array_equal(y[:, 1, 1], x[:, 2, 2])


def test_brightness_and_contrast():
    x = np.full((50, 2, 2, 1), 100.0, "float32")
    y = layers.RandomBrightness(0.2, seed=0)(x)
    assert (y == y[:, :1, :1]).all() and 49 <= y.min() < 65 and 135 < y.max() <= 151
    assert layers.RandomBrightness((1, 1))(x).max() == 255
    y = layers.RandomBrightness((0.25, 0.25), (-1, 1))(np.zeros((2, 2, 2, 1), "float32"))
    np.testing.assert_allclose(y, 0.5)
    np.testing.assert_allclose(layers.RandomContrast(0.5)(x), x, rtol=1e-5)
    x = np.array([90.0, 110.0], "float32").reshape(1, 1, 2, 1).repeat(80, 0)
    y = layers.RandomContrast((0.5, 1.0), seed=0)(x)
    spread = y[:, 0, 1, 0] - y[:, 0, 0, 0]
    assert 10 <= spread.min() < 13 and 36 < spread.max() <= 40
    np.testing.assert_allclose(y.mean((1, 2, 3)), 100, rtol=1e-5)


def test_erasing():
    x = np.zeros((200, 20, 20, 1), "float32")
    y = layers.RandomErasing(scale=(0.1, 0.1), fill_value=9, seed=0)(x)
    for image in y[..., 0]:
        rows, columns = np.nonzero(image)
        assert 5 <= np.ptp(rows) + 1 <= 8 and 5 <= np.ptp(columns) + 1 <= 8
        assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    changed = (layers.RandomErasing(0.3, fill_value=9, seed=0)(x) > 0).any((1, 2, 3)).mean()
    assert 0.2 < changed < 0.4
    noise = layers.RandomErasing(scale=(0.5, 0.5), seed=0)(x)
    assert len(np.unique(noise)) > 100 and noise.min() == 0 and noise.max() == 255


def test_mixup():
    x = np.eye(8, dtype="float32")[:, None, :, None]
    batch = {"images": x, "labels": np.eye(8, dtype="float32"), "names": np.arange(8)}
    y = layers.MixUp(1.0, seed=0)(batch)
    np.testing.assert_allclose(y["images"][:, 0, :, 0], y["labels"], rtol=1e-6)
    np.testing.assert_allclose(y["labels"].sum(1), 1, rtol=1e-6)
    assert ((y["labels"] > 0).sum(1) == 2).all()
    np.testing.assert_array_equal(y["names"], batch["names"])
    np.testing.assert_array_equal(layers.MixUp()(x[:1]), x[:1])  # nobody to blend with
    with pytest.raises(ValueError, match="one-hot"):
        layers.MixUp()({"images": x, "labels": np.arange(8)})


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_beta_and_gamma_numbers(alpha):
    x = np.asarray(dlcore.random.beta((20000,), alpha, alpha, seed=1), "float64")
    assert x.min() >= 0 and x.max() <= 1
    assert x.mean() == pytest.approx(0.5, abs=0.01)
    assert x.var() == pytest.approx(1 / (8 * alpha + 4), rel=0.05)
    x = np.asarray(dlcore.random.gamma((20000,), alpha, seed=1), "float64")
    assert x.mean() == pytest.approx(alpha, rel=0.05) and x.var() == pytest.approx(alpha, rel=0.1)


def test_rescaling():
    x = np.array([[[[0, 128, 255]]]], "uint8")
    np.testing.assert_allclose(layers.Rescaling(1 / 255)(x), x / 255, rtol=1e-6)
    y = layers.Rescaling([1.0, 2.0, 3.0], offset=[0.0, 1.0, 2.0])(x)
    np.testing.assert_allclose(y.ravel(), [0, 257, 767])


@pytest.mark.parametrize("axis", [-1, None, (1, 3), (-1, 1, 2)])
def test_normalization(axis):
    x = RNG.normal(1000, 2, (300, 4, 3, 2)).astype("float32")
    layer = layers.Normalization(axis)
    layer.adapt(x)
    kept = () if axis is None else tuple(a % 4 for a in np.atleast_1d(axis))
    axes = tuple(a for a in range(4) if a not in kept)
    wide = x.astype("float64")
    mean, std = wide.mean(axes, keepdims=True), wide.std(axes, keepdims=True)
    np.testing.assert_allclose(layer(x), (wide - mean) / std, atol=2e-3)
    assert layer.weights[0].shape == np.squeeze(mean).shape
    np.testing.assert_allclose(layer.mean, mean, rtol=1e-6)
    assert layer.variance.shape == std.shape and layers.Normalization().mean is None
    again = layers.Normalization(axis)
    again.adapt(DataLoader((x, x), 70))
    for a, b in zip(layer.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    inverse = layers.Normalization(axis, np.squeeze(mean), np.squeeze(std) ** 2, invert=True)
    if np.squeeze(mean).ndim < 2:
        np.testing.assert_allclose(inverse(layer(x)), x, rtol=1e-4)


def test_normalization_in_a_model():
    x = RNG.normal(5, 3, (64, 4)).astype("float32")
    norm = layers.Normalization()
    norm.adapt(x)
    model = dlcore.Sequential([layers.Input((4,)), norm])
    y = model.predict(x)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(0), 1, atol=1e-5)
    assert not norm.trainable_weights
    clone = dlcore.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone.predict(x), y)
    constant = layers.Normalization()
    constant.adapt(np.ones((4, 2)))
    assert np.isfinite(constant(np.ones((4, 2), "float32"))).all()


def test_center_crop_and_resizing():
    y = layers.CenterCrop(5, 4)(IMAGES)
    np.testing.assert_array_equal(y, IMAGES[:, 2:7, 1:5])
    assert layers.CenterCrop(20, 8)(IMAGES).shape == (6, 20, 8, 3)
    np.testing.assert_array_equal(layers.Resizing(9, 7)(IMAGES), IMAGES)
    y = layers.Resizing(18, 14, "nearest")(IMAGES)
    np.testing.assert_array_equal(y, IMAGES.repeat(2, 1).repeat(2, 2))
    x = np.arange(4.0, dtype="float32").reshape(1, 1, 4, 1)
    np.testing.assert_allclose(layers.Resizing(1, 2)(x).ravel(), [0.5, 2.5])
    np.testing.assert_allclose(
        layers.Resizing(1, 8)(x).ravel(), [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    )
    whole = np.array([[[0], [3]], [[9], [253]]], "uint8")
    assert layers.Resizing(1, 2)(whole).tolist() == [[[4], [128]]]
    assert layers.Resizing(1, 2)(whole).dtype == "uint8"
    assert layers.Resizing(4, 4, crop_to_aspect_ratio=True)(IMAGES).shape == (6, 4, 4, 3)
    square = layers.Resizing(9, 9, pad_to_aspect_ratio=True, fill_value=7)(IMAGES)
    np.testing.assert_array_equal(square[:, :, 1:8], IMAGES)
    assert (square[:, :, 0] == 7).all() and (square[:, :, 8] == 7).all()
    first = layers.Resizing(3, 2, data_format="channels_first")(IMAGES.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(
        first.transpose(0, 2, 3, 1), layers.Resizing(3, 2)(IMAGES), rtol=1e-5
    )


def naive(x, m, shape, interpolation, mode, fill):
    """One pixel after the other, in Python."""
    n, h, w, c = x.shape
    y = np.empty((n, *shape, c))

    def index(i, size):
        if mode == "constant":
            return i if 0 <= i < size else None
        if mode == "nearest":
            return min(max(i, 0), size - 1)
        padded = {"reflect": "symmetric", "mirror": "reflect", "wrap": "wrap"}[mode]
        return int(np.pad(np.arange(size), 200, padded)[i + 200])

    def pixel(k, i, j):
        i, j = index(i, h), index(j, w)
        return fill if i is None or j is None else x[k, i, j]

    for k in range(n):
        for i in range(shape[0]):
            for j in range(shape[1]):
                column, row = (
                    m[k, 0] * j + m[k, 1] * i + m[k, 2],
                    m[k, 3] * j + m[k, 4] * i + m[k, 5],
                )
                if interpolation == "nearest":
                    y[k, i, j] = pixel(k, int(np.floor(row + 0.5)), int(np.floor(column + 0.5)))
                    continue
                r, q = int(np.floor(row)), int(np.floor(column))
                a, b = row - r, column - q
                y[k, i, j] = (
                    (1 - a) * (1 - b) * pixel(k, r, q) + (1 - a) * b * pixel(k, r, q + 1)
                    + a * (1 - b) * pixel(k, r + 1, q) + a * b * pixel(k, r + 1, q + 1)
                )  # fmt: skip
    return y


@pytest.mark.parametrize("mode", FILL_MODES)
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_affine_sample_by_hand(mode, interpolation):
    x = RNG.normal(size=(3, 5, 4, 2))
    m = RNG.normal(size=(3, 6)) * [1, 1, 6, 1, 1, 6]
    m[0] = [1, 0, 2, 0, 1, -3]
    y = ops.affine_sample(x, m, (6, 5), interpolation, mode, 0.5)
    expected = naive(x, m, (6, 5), interpolation, mode, 0.5)
    np.testing.assert_allclose(y, expected, atol=1e-6)


@pytest.mark.parametrize("mode", FILL_MODES)
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_affine_sample_gradient(mode, interpolation, dtype):
    x = RNG.normal(size=(3, 5, 4, 2)).astype(dtype)
    m = RNG.normal(size=(3, 6)).astype(dtype)
    weights = RNG.normal(size=(3, 6, 5, 2)).astype(dtype)

    def loss(x):
        y = ops.affine_sample(x, m, (6, 5), interpolation, mode, 0.5)
        return ops.sum(y * y * ops.cast(weights, y.dtype))

    _, dx = dlcore.value_and_grad(loss)(x)
    _, (expected,) = oracle.gradient(loss, [x.astype("float64")])
    np.testing.assert_allclose(dx, expected, rtol=1e-3, atol=1e-4 if dtype == "float32" else 1e-9)
    for _, at, slope in oracle.finite_differences(loss, [x.astype("float64")]):
        assert expected.flat[at] == pytest.approx(slope, rel=1e-4, abs=1e-4)
    _, second = dlcore.value_and_grad(lambda x: ops.sum(dlcore.gradients(loss(x), [x])[0] ** 2))(x)
    assert second.shape == x.shape and np.isfinite(second).all()


def test_affine_transform_as_keras_has_it():
    moved = ops.image.affine_transform(IMAGES, [1, 0, 2, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(moved[:, :, :-2], IMAGES[:, :, 2:])
    assert (moved[:, :, -2:] == 0).all()
    one = ops.image.affine_transform(IMAGES[0].astype("uint8"), [1.0, 0, 0, 0, 1, 1, 0, 0])
    assert one.dtype == np.uint8 and one.shape == IMAGES.shape[1:]
    first = ops.image.affine_transform(
        IMAGES.transpose(0, 3, 1, 2), np.tile([1.0, 0, 2, 0, 1, 0, 0, 0], (6, 1)),
        data_format="channels_first",
    )  # fmt: skip
    np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), moved)


WRONG = [
    (lambda: ops.affine_sample(IMAGES, np.ones((5, 6))), "expected matrices (6, 6), got (5, 6)"),
    (lambda: ops.affine_sample(IMAGES[0], np.ones((9, 6))), "expected images (N, H, W, C)"),
    (lambda: ops.affine_sample(IMAGES.astype("int32"), np.ones((6, 6))), "expected float images"),
    (lambda: ops.affine_sample(IMAGES, np.ones((6, 6)), fill_mode="odd"), "expected fill_mode"),
    (lambda: ops.affine_sample(IMAGES, np.ones((6, 6)), (9, 2**20)), "at most 32768 pixels"),
    (lambda: ops.affine_sample(IMAGES[:, :0], np.ones((6, 6)), (2, 2)), "at least one pixel"),
    (lambda: ops.image.affine_transform(IMAGES, [1.0] * 8), "expected c0 and c1 of 0"),
    (lambda: ops.image.affine_transform(IMAGES, [0.0] * 7), "expected transform (N, 8)"),
    (lambda: layers.RandomFlip("sideways"), "expected mode as one of horizontal"),
    (lambda: layers.RandomRotation(2.0), "expected factor as one or two numbers in -1..1"),
    (lambda: layers.RandomZoom("a"), "expected height_factor as one or two numbers"),
    (lambda: layers.RandomTranslation(0.1, (0, 1, 2)), "expected width_factor"),
    (lambda: layers.RandomTranslation(0.1, 0.1, fill_mode="a"), "expected fill_mode as one of"),
    (lambda: layers.RandomBrightness(0.1, value_range=(1, 0)), "expected value_range"),
    (lambda: layers.RandomContrast(-0.1), "expected factor"),
    (lambda: layers.RandomErasing(1.5), "expected factor"),
    (lambda: layers.RandomCrop(0, 4), "expected height"),
    (lambda: layers.RandomFlip()(np.zeros((3, 4))), "expected images (batch, H, W, C)"),
    (lambda: layers.MixUp(0), "expected a positive alpha"),
    (lambda: layers.Resizing(4, 4, "cubic"), "expected interpolation as one of"),
    (lambda: layers.Resizing(4, 4, "nearest", True, True), "got both"),
    (lambda: layers.Normalization(mean=1.0), "expected both mean and variance"),
    (lambda: layers.Normalization(axis=0).adapt(np.ones((3, 4))), "expected axis within"),
    (lambda: layers.Normalization().adapt(np.ones((0, 4))), "expected data of at least one row"),
    (lambda: layers.Normalization(mean=1.0, variance=1.0).adapt(np.ones((3, 4))), "no adapt()"),
    (lambda: layers.Rescaling("a"), "expected scale as numbers"),
    (lambda: dlcore.random.gamma((2,), 0.0), "expected alpha as a positive number"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=range(len(WRONG)))
def test_one_sentence(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


def convolutional():
    """A network with everything that draws, pools and normalizes."""
    return dlcore.Sequential(
        [
            layers.Input((9, 7, 3)),
            layers.Rescaling(1 / 255),
            layers.RandomFlip(seed=1),
            layers.RandomTranslation(0.1, 0.1, seed=2),
            layers.RandomRotation(0.1, seed=3),
            layers.RandomErasing(0.5, value_range=(0, 1), seed=4),
            layers.Conv2D(5, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(6, 2, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.3, seed=5),
            layers.Dense(3, activation="softmax"),
        ]
    )


def test_training_of_a_convolutional_network_has_the_same_bits_for_any_number_of_threads():
    x = RNG.integers(0, 256, (150, 9, 7, 3)).astype("uint8")
    y = RNG.integers(0, 3, 150)
    before, results = dlcore.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 7):
            dlcore.set_num_threads(threads)
            dlcore.utils.set_random_seed(1)
            model = convolutional()
            model.compile("adam", "sparse_categorical_crossentropy")
            loss = model.fit(x, y, 64, 2, 0).history["loss"]
            rows = np.concatenate([model.predict(x[i : i + 1]) for i in range(5)])
            np.testing.assert_array_equal(model.predict(x)[:5], rows)
            results.append((loss, model.get_weights()))
    finally:
        dlcore.set_num_threads(before)
    for loss, weights in results[1:]:
        assert loss == results[0][0]
        for a, b in zip(weights, results[0][1], strict=True):
            np.testing.assert_array_equal(a, b)


def test_contrast_color_and_sharpness():
    x = RNG.uniform(20, 200, (3, 5, 4, 3)).astype("float32")
    y = layers.AutoContrast()(x)
    np.testing.assert_allclose(y.min((1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(y.max((1, 2)), 255, rtol=1e-5)
    np.testing.assert_array_equal(layers.AutoContrast()(x * 0 + 7), x * 0 + 7)
    grey = x @ np.array([0.2989, 0.587, 0.114])
    y = layers.RandomColorDegeneration((0.5, 0.5))(x, training=True)
    np.testing.assert_allclose(y, (x + grey[..., None]) / 2, rtol=1e-3)
    for f in (0.25, 0.5, 1.0):
        layer = layers.RandomSharpness((f, f))
        y = layer(x, training=True)
        mean = (x[:, :3, :3].sum((1, 2)) + 4 * x[:, 1, 1]) / 13
        expected = np.clip(x[:, 1, 1] + (1 - 2 * f) * (mean - x[:, 1, 1]), 0, 255)
        np.testing.assert_allclose(y[:, 1, 1], expected, rtol=1e-4)
        np.testing.assert_array_equal(layer(x, training=False), x)
    y = layers.RandomGaussianBlur((1, 1), 3, (1, 1))(x, training=True)
    expected = dlcore.ops.image.gaussian_blur(x, (3, 3), (1.0, 1.0))
    np.testing.assert_allclose(y, expected, rtol=1e-4)
    y = layers.RandomShear((0.5, 0.5), fill_mode="nearest", seed=1)(x, training=True)
    ways = [x[:, 2, [min(2 + s, 3)]] for s in (1, -1)]  # row 2 reads one pixel to the side
    assert all(any(np.allclose(y[i, 2, 2], way[i, 0]) for way in ways) for i in range(3))
    with pytest.raises(ValueError, match=r"expected factor as one or two numbers in 0\.\.1"):
        layers.RandomSharpness(2.0)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_windows_of_other_images(data_format):
    x = np.repeat(np.arange(16.0)[:, None, None, None], 12, 1).repeat(10, 2).astype("float32")
    x = x.transpose(0, 3, 1, 2) if data_format == "channels_first" else x
    layer = layers.CutMix(seed=2, data_format=data_format)
    y = layer({"images": x, "labels": np.eye(16, dtype="float32")}, training=True)
    images, labels = y["images"].reshape(16, -1), y["labels"]
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-5)
    for i in range(16):
        others = set(np.unique(images[i])) - {i}
        assert len(others) <= 1 and all(labels[i, int(j)] > 0 for j in others)
        own = (images[i] == i).mean()  # whole pixels of a window of any size
        assert abs(own - labels[i, i]) < 0.2
    np.testing.assert_array_equal(layer(x, training=False), x)
    again = type(layer).from_config(layer.get_config())
    np.testing.assert_array_equal(again(x, training=True), y["images"])


def test_layers_in_a_row():
    both = layers.Pipeline([layers.Rescaling(0.5), layers.RandomFlip(seed=1)])
    np.testing.assert_array_equal(both(IMAGES, training=False), IMAGES * np.float32(0.5))
    again = layers.deserialize(layers.serialize(both))
    np.testing.assert_array_equal(again(IMAGES, training=False), IMAGES * np.float32(0.5))
