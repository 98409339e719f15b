"""Constraints hold after every step of an optimizer, whatever layer the weight belongs to."""

import numpy as np
import pytest

import dlcore
from dlcore import constraints, layers


def lengths(w, axis):
    return np.sqrt(np.sum(np.square(w), axis=axis))


def trained(layer, shape):
    """The layer after some steps."""
    model = dlcore.Sequential([dlcore.Input(shape), layer, layers.Flatten(), layers.Dense(1)])
    model.compile(dlcore.optimizers.SGD(0.05), "mse")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, *shape)).astype("float32")
    model.fit(x, 5 * rng.normal(size=32).astype("float32"), batch_size=8, epochs=2, verbose=0)
    assert all(np.isfinite(w).all() for w in layer.get_weights())
    return layer


def test_dense_stays_within_max_norm():
    layer = trained(layers.Dense(4, kernel_constraint="max_norm", bias_constraint="non_neg"), (3,))
    assert (lengths(layer.kernel.numpy(), 0) <= 2 + 1e-5).all()
    assert (layer.bias.numpy() >= 0).all()


@pytest.mark.parametrize(
    ("layer", "shape", "weight", "axis"),
    [
        (lambda c: layers.Conv2D(3, 2, kernel_constraint=c), (4, 4, 2), "kernel", (0, 1, 2)),
        (lambda c: layers.DepthwiseConv2D(2, depthwise_constraint=c), (4, 4, 2), "kernel", (0, 1)),
        (lambda c: layers.LSTM(3, recurrent_constraint=c), (4, 2), "recurrent_kernel", 0),
        (lambda c: layers.GRU(3, kernel_constraint=c), (4, 2), "kernel", 0),
        (lambda c: layers.LayerNormalization(gamma_constraint=c), (6,), "gamma", 0),
        (lambda c: layers.PReLU(alpha_constraint=c), (6,), "alpha", 0),
    ],
)
def test_unit_norm_holds_in_layers(layer, shape, weight, axis):
    layer = trained(layer(constraints.UnitNorm(axis)), shape)
    w = getattr(getattr(layer, "cell", layer), weight).numpy()
    np.testing.assert_allclose(lengths(w, axis), 1, rtol=1e-4)


def test_min_max_norm_goes_part_of_the_way():
    w = np.array([[3.0, 0.1], [4.0, 0.0]])
    half = constraints.MinMaxNorm(0.5, 1.0, rate=0.5)(w)
    np.testing.assert_allclose(lengths(half, 0), [3.0, 0.3], rtol=1e-5)


def test_embedding_rows_and_saving(tmp_path):
    model = dlcore.Sequential(
        [layers.Embedding(5, 3, embeddings_constraint=constraints.MaxNorm(0.5, axis=1))]
    )
    model.build((None, 2))
    model.save(tmp_path / "m.safetensors")
    loaded = dlcore.models.load_model(tmp_path / "m.safetensors")
    found = loaded.layers[0].embeddings_constraint
    assert isinstance(found, constraints.MaxNorm)
    assert (found.max_value, found.axis) == (0.5, 1)


@pytest.mark.parametrize("values", [(-1, 1, 1), (2, 1, 1), (0, 1, 0)])
def test_wrong_values_are_refused(values):
    with pytest.raises(ValueError, match="MinMaxNorm: expected"):
        constraints.MinMaxNorm(*values)


def test_unknown_name_suggests_a_known_one():
    with pytest.raises(ValueError, match="max_norm"):
        layers.Dense(2, kernel_constraint="maxnorm")
