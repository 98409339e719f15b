"""Layers that pool and normalize: values, moving averages, freezing, saving, wrong inputs."""

import numpy as np
import pytest

import dlcore
from dlcore import layers

RNG = np.random.default_rng(3)


def batch(*shape):
    return RNG.normal(1, 2, shape).astype("float32")


@pytest.mark.parametrize("rank", (1, 2, 3))
@pytest.mark.parametrize("data_format", ("channels_last", "channels_first"))
def test_pooling(rank, data_format):
    x = batch(2, *(6, 4, 2)[:rank], 3)
    first = data_format == "channels_first"
    given = np.moveaxis(x, -1, 1) if first else x
    windows = x.reshape(2, *sum(((n // 2, 2) for n in x.shape[1:-1]), ()), 3)
    inner = tuple(range(2, 2 + 2 * rank, 2))
    for name, reduce in (("Max", np.max), ("Average", np.mean)):
        y = getattr(layers, f"{name}Pooling{rank}D")(data_format=data_format)(given)
        y = np.moveaxis(y, 1, -1) if first else y
        np.testing.assert_allclose(y, reduce(windows, inner), rtol=1e-5, atol=1e-6)
        layer = getattr(layers, f"Global{name}Pooling{rank}D")(data_format, keepdims=True)
        y = layer(given)
        assert y.shape == ((2, 3) + (1,) * rank if first else (2,) + (1,) * rank + (3,))
        expected = reduce(x, tuple(range(1, rank + 1)))
        np.testing.assert_allclose(y.reshape(2, 3), expected, rtol=1e-5, atol=1e-6)
    assert layers.MaxPool2D is layers.MaxPooling2D
    layer = getattr(layers, f"AveragePooling{rank}D")(3, 2, "same")
    assert layer.compute_output_shape((None, *(5,) * rank, 3)) == (None, *(3,) * rank, 3)


def normalized(x, axes, epsilon=1e-3):
    x = x.astype("float64")
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def test_batch_normalization_follows_the_batches():
    layer, x = layers.BatchNormalization(momentum=0.75), batch(8, 5, 5, 3)
    y = layer(x, training=True)
    np.testing.assert_allclose(y, normalized(x, (0, 1, 2)), atol=1e-5)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.25 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.75 + 0.25 * variance, rtol=1e-5)
    expected = (x - 0.25 * mean) / np.sqrt(0.75 + 0.25 * variance + 1e-3)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)
    np.testing.assert_allclose(layer(x, training=False), expected, atol=1e-5)
    assert [w.name for w in layer.weights] == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert len(layer.trainable_weights) == 2


def test_a_frozen_batch_normalization_uses_its_moving_averages():
    layer, x = layers.BatchNormalization(), batch(8, 3)
    layer(x, training=True)
    layer.trainable = False
    before = layer.get_weights()
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    layer.trainable = True
    assert np.abs(layer(x, training=True) - layer(x, training=False)).max() > 0.1


def test_batch_normalization_of_one_value_gives_beta():
    layer = layers.BatchNormalization(beta_initializer="ones")
    np.testing.assert_allclose(layer(batch(1, 4), training=True), np.ones((1, 4)), atol=1e-5)
    assert layer(np.zeros((0, 4), "float32")).shape == (0, 4)


@pytest.mark.parametrize("axis", (1, -1))
def test_other_normalizations(axis):
    x = batch(4, 6, 5, 6)
    rest = tuple(a for a in (1, 2, 3) if a != axis % 4)
    y = layers.BatchNormalization(axis, scale=False, center=False)(x, training=True)
    np.testing.assert_allclose(y, normalized(x, (0, *rest)), atol=1e-5)
    y = layers.GroupNormalization(-1, axis)(x)
    np.testing.assert_allclose(y, normalized(x, rest), atol=1e-5)
    last = np.moveaxis(x, axis, -1)
    grouped = normalized(last.reshape(4, -1, 2, 3), (1, 3)).reshape(last.shape)
    y = layers.GroupNormalization(2, axis)(x)
    np.testing.assert_allclose(np.moveaxis(y, axis, -1), grouped, atol=1e-5)
    y = layers.LayerNormalization(axis)(x)
    np.testing.assert_allclose(y, normalized(x, axis), atol=1e-5)
    wide = x.astype("float64")
    rms = np.sqrt((wide**2).mean(axis, keepdims=True) + 1e-6)
    np.testing.assert_allclose(layers.RMSNormalization(axis)(x), wide / rms, atol=1e-5)
    norm = np.linalg.norm(wide, axis=axis, keepdims=True)
    np.testing.assert_allclose(layers.UnitNormalization(axis)(x), wide / norm, atol=1e-5)


def test_layer_normalization_over_several_axes():
    x = batch(3, 4, 5)
    layer = layers.LayerNormalization([1, 2], gamma_initializer="random_normal")
    y, gamma = layer(x), layer.gamma.numpy()
    assert gamma.shape == (4, 5)
    np.testing.assert_allclose(y, normalized(x, (1, 2)) * gamma, atol=1e-5)


def small_network():
    return dlcore.Sequential(
        [
            layers.Input((8, 8, 2)),
            layers.Conv2D(12, 3),
            layers.BatchNormalization(momentum=0.5),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.GroupNormalization(4),
            layers.AveragePooling2D(3, 1, "same"),
            layers.LayerNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.RMSNormalization(),
            layers.Dense(1),
        ]
    )


def test_a_network_of_them_trains_and_is_saved(tmp_path):
    dlcore.utils.set_random_seed(1)
    x = batch(96, 8, 8, 2)
    y = x[:, 2:5, 2:5, 0].max((1, 2)) > 4
    model = small_network()
    model.compile(dlcore.optimizers.Adam(0.01), "mse")
    losses = model.fit(x, y.astype("float32"), epochs=15, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    expected = model.predict(x, verbose=0)
    for i in (0, 7):  # rows do not depend on their batch
        np.testing.assert_array_equal(model.predict(x[i : i + 1], verbose=0)[0], expected[i])
    model.save(tmp_path / "m.safetensors")
    again = dlcore.models.load_model(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(x, verbose=0), expected)


def test_threads_do_not_change_training():
    x = batch(64, 8, 8, 2)
    before, results = dlcore.get_num_threads(), []
    try:
        for n in (1, 2, 3, 7):
            dlcore.set_num_threads(n)
            dlcore.utils.set_random_seed(5)
            model = small_network()
            model.compile("adam", "mse")
            model.fit(x, x[:, 0, 0, :1], epochs=2, batch_size=32, verbose=0)
            results.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    finally:
        dlcore.set_num_threads(before)
    for r in results[1:]:
        np.testing.assert_array_equal(r, results[0])


IMAGES = np.zeros((2, 4, 4, 6), "float32")
WRONG = [
    (lambda: layers.MaxPooling2D(0), "expected pool_size as an int or 2 ints"),
    (lambda: layers.MaxPooling2D(2, 0), "expected strides as an int or 2 ints"),
    (lambda: layers.MaxPooling2D(padding="causal"), "expected padding 'valid', 'same'"),
    (lambda: layers.MaxPooling2D(5)(IMAGES), "expected a window that fits into the padded input"),
    (lambda: layers.MaxPooling1D()(IMAGES), r"expected input \(batch, steps, channels\), got"),
    (lambda: layers.GlobalMaxPooling2D()(IMAGES[:, :0]), "expected at least one position"),
    (lambda: layers.GroupNormalization(4)(IMAGES), "expected groups that divide 6 channels, got 4"),
    (lambda: layers.GroupNormalization()(IMAGES), "expected groups that divide 6 channels, got 32"),
    (lambda: layers.BatchNormalization(0)(IMAGES), "expected axis of 1..3 for input"),
    (lambda: layers.LayerNormalization(4)(IMAGES), "expected axis of 1..3 for input"),
    (lambda: layers.BatchNormalization(momentum=2), "expected momentum between 0 and 1, got 2"),
    (lambda: layers.BatchNormalization(synchronized=True), "expected synchronized=False"),
    (lambda: layers.BatchNormalization(beta_constraint="x"), "expected a known name"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_inputs_are_explained(call, message):
    with pytest.raises(ValueError, match=r"^[a-z_0-9]+: .*" + message):
        call()


def test_another_number_of_channels_is_refused():
    layer = layers.BatchNormalization()
    layer(IMAGES)
    with pytest.raises(ValueError, match=r"expected input of 4 axes with \(6,\) on axis \(3,\)"):
        layer(IMAGES[..., :5])


@pytest.mark.skipif(dlcore.isa() == "numpy", reason="about the kernels")
@pytest.mark.parametrize("data_format", ("channels_last", "channels_first"))
def test_order_of_axes_costs_no_copies(data_format):
    """Normalization, activation and pooling meet in the kernels' order, forward and backward."""
    first = data_format == "channels_first"
    model = dlcore.Sequential(
        [
            layers.Conv2D(16, 3, padding="same", data_format=data_format),
            layers.BatchNormalization(1 if first else -1),
            layers.ReLU(),
            layers.MaxPooling2D(data_format=data_format),
            layers.GlobalAveragePooling2D(data_format),
        ]
    )
    x = batch(4, 3, 16, 16) if first else batch(4, 16, 16, 3)
    model.build((None, *x.shape[1:]))

    def loss(x):
        return dlcore.ops.sum(dlcore.ops.square(model(x, training=True)))

    def step(x):
        return tuple(dlcore.program.gradients(loss(x), model.trainable_weights))

    step = dlcore.function(step)
    step(x)
    size = 4 * 16 * 16 * 16 * 4
    large = [i["kernel"] for i in step.compiled(x).instructions if i["bytes"] >= size]
    assert large == [
        "conv", "moments", "pointwise", "pool", "pool_grad", "centered_sums", "pointwise", "reduce",
        "conv_filter_grad",
    ]  # fmt: skip
