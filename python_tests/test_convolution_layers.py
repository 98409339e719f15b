"""Layers of convolution: whole networks, errors that name the layer, configurations."""

import re

import numpy as np
import pytest

import dlcore
from dlcore import layers

X = (2, 8, 8, 4)


def network():
    dlcore.utils.set_random_seed(5)
    model = dlcore.Sequential(
        [
            layers.Input((12, 12, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Conv2D(24, 3, strides=2, padding="same", groups=2, activation="gelu"),
            layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu"),
            layers.Dropout(0.2),
            layers.Conv2DTranspose(8, 3, strides=2, activation="tanh"),
            layers.SeparableConv2D(8, 3, padding="same"),
            layers.Flatten(),
            layers.Dense(5, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def images(n):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, n)
    x = rng.normal(size=(n, 12, 12, 1)) + y[:, None, None, None]
    return x.astype("f"), y


def test_training_has_the_same_bits_for_any_number_of_threads():
    x, y = images(150)
    before, results = dlcore.get_num_threads(), []
    try:
        for n in (1, 2, 3, 7):
            dlcore.set_num_threads(n)
            model = network()
            history = model.fit(x, y, batch_size=50, epochs=3, verbose=0).history
            results.append([*model.get_weights(), np.array(history["loss"])])
    finally:
        dlcore.set_num_threads(before)
    assert results[0][-1][-1] < results[0][-1][0]
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_predict_does_not_depend_on_the_batch():
    if dlcore.isa() == "numpy":
        pytest.skip("NumPy's matrix products depend on it")
    x, _ = images(41)
    model = network()
    whole = model.predict(x, verbose=0)
    np.testing.assert_array_equal(whole, model.predict(x, batch_size=7, verbose=0))
    rows = np.concatenate([model.predict(x[i : i + 1], verbose=0) for i in range(41)])
    np.testing.assert_array_equal(whole, rows)


def test_summary_counts_convolutions(capsys):
    if dlcore.isa() == "numpy":
        pytest.skip("formulas are not counted")
    model = dlcore.Sequential([layers.Input((10, 10, 3)), layers.Conv2D(8, 3, use_bias=False)])
    model.summary()
    flops = 2 * 8 * 8 * 8 * 27
    line = next(s for s in capsys.readouterr().out.splitlines() if s.startswith("Prediction"))
    batch = int(line.split("batch ")[1].split(":")[0])
    assert f"{flops * batch:,} FLOPs" in line


WRONG_LAYERS = [
    (layers.Conv2D, (0, 3), {}, None, "expected filters as an int above 0, got 0"),
    (layers.Conv2D, (6, 0), {}, None, "expected kernel_size as an int or 2 ints"),
    (layers.Conv2D, (6, 3), {"groups": 4}, None, "expected groups that divide 6 filters, got 4"),
    (layers.Conv2D, (6, 3), {"padding": "causal"}, None, "expected padding 'valid', 'same'"),
    (layers.Conv2D, (6, 3), {"groups": 3}, X, "expected channels in 3 groups, got (None, 8, 8, 4)"),
    (layers.Conv2D, (6, 9), {}, X, "expected a window that fits into the padded input (8, 8)"),
    (layers.Conv2D, (6, 3), {}, X[1:], "expected input (batch, height, width, channels)"),
    (layers.Conv1D, (6, 3), {}, X, "expected input (batch, steps, channels)"),
    (layers.Conv3D, (6, 3), {"data_format": "channels_first"}, X,
     "expected input (batch, channels, depth, height, width)"),
    (layers.Conv2DTranspose, (6, 3), {"output_padding": -1}, None, "expected output_padding"),
    (layers.DepthwiseConv2D, (3,), {"depth_multiplier": 0}, None, "expected depth_multiplier"),
    (layers.SeparableConv2D, (6, 9), {}, X, "expected a window that fits"),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "args", "kwargs", "shape", "message"), WRONG_LAYERS, ids=str)
def test_errors_name_the_layer(cls, args, kwargs, shape, message):
    def make():
        layer = cls(*args, name="third", **kwargs)
        layer(np.ones(shape, "f"))

    with pytest.raises(ValueError, match="^" + re.escape(f"third: {message}")):
        make()


def test_built_layers_refuse_other_channels():
    layer = layers.Conv2D(6, 3, name="third")
    layer(np.ones(X, "f"))
    with pytest.raises(ValueError, match=r"^third: expected input \(batch, height, width, 4\)"):
        layer(np.ones((2, 8, 8, 3), "f"))


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv1D(3, 2, padding="causal", dilation_rate=2),
        layers.Conv2D(4, (3, 2), (2, 1), "same", groups=2, activation="relu"),
        layers.Conv2D(4, 3, padding=((1, 2), (0, 1)), use_bias=False),
        layers.Conv3D(2, 2, data_format="channels_first", kernel_regularizer="l2"),
        layers.Conv1DTranspose(3, 3, 2),
        layers.Conv2DTranspose(3, 3, 2, "same", output_padding=1),
        layers.Conv3DTranspose(2, 2),
        layers.DepthwiseConv1D(3, depth_multiplier=2),
        layers.DepthwiseConv2D(3, 2, "same", bias_initializer="ones"),
        layers.SeparableConv1D(3, 2),
        layers.SeparableConv2D(3, 2, depth_multiplier=2, pointwise_initializer="ones"),
    ],
    ids=lambda layer: layer.name,
)
def test_layers_survive_their_configuration(layer):
    shape = (2, *(6,) * (layer.rank + 1))
    x = np.random.default_rng(0).normal(size=shape).astype("f")
    y = layer(x)
    again = type(layer).from_config(layer.get_config())
    assert again.compute_output_shape((None, *shape[1:])) == (None, *y.shape[1:])
    again(x)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), y)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_the_convolution_may_be_replaced(data_format):
    class Double(layers.Conv2D):
        def convolution_op(self, inputs, kernel):
            return super().convolution_op(inputs, 2 * kernel)

    class Called(layers.Conv2D):
        def call(self, inputs):
            return self.convolution_op(inputs, 2 * self.kernel)

    x = np.random.default_rng(0).normal(size=(2, 6, 6, 6)).astype("float32")
    given = {"padding": "same", "data_format": data_format, "kernel_initializer": "ones"}
    plain = layers.Conv2D(3, 3, **given)(x)
    for layer in (Double, Called):
        np.testing.assert_allclose(layer(3, 3, **given)(x), 2 * plain, rtol=1e-5, atol=1e-5)
