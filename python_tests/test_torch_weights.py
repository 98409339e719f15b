"""Weights in PyTorch's order, by the equations that its documentation gives for its modules."""

import numpy as np
import pytest

import dlcore
from dlcore import layers
from dlcore.io import weights_from_torch, weights_to_torch


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32") * 0.5


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rnn(x, h, w_ih, w_hh, b_ih, b_hh):
    return np.tanh(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh)


def lstm(x, state, w_ih, w_hh, b_ih, b_hh):
    h, c = state
    i, f, g, o = np.split(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru(x, h, w_ih, w_hh, b_ih, b_hh):
    r, z, n = np.split(x @ w_ih.T + b_ih, 3, axis=-1)
    hr, hz, hn = np.split(h @ w_hh.T + b_hh, 3, axis=-1)
    r, z = sigmoid(r + hr), sigmoid(z + hz)
    n = np.tanh(n + r * hn)
    return (1 - z) * n + z * h


def run(cell, x, weights, suffix):
    """All outputs of a module with one layer."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    arrays = [weights[name + suffix] for name in names]
    zeros = np.zeros((len(x), arrays[1].shape[1]), "float32")
    state, ys = (zeros, zeros) if cell is lstm else zeros, []
    for t in range(x.shape[1]):
        state = cell(x[:, t], state, *arrays)
        ys.append(state[0] if cell is lstm else state)
    return np.stack(ys, axis=1)


CELLS = {"SimpleRNN": (rnn, 1), "LSTM": (lstm, 4), "GRU": (gru, 3)}


def recurrent_weights(gates, features, units, suffixes):
    shapes = {
        "weight_ih": (gates * units, features), "weight_hh": (gates * units, units),
        "bias_ih": (gates * units,), "bias_hh": (gates * units,),
    }  # fmt: skip
    return {
        name + suffix: random(*shape, seed=10 * i + j)
        for i, suffix in enumerate(suffixes)
        for j, (name, shape) in enumerate(shapes.items())
    }


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("both_ways", [False, True])
def test_recurrent(kind, both_ways):
    cell, gates = CELLS[kind]
    suffixes = ("_l1", "_l1_reverse") if both_ways else ("_l1",)
    weights = recurrent_weights(gates, 3, 5, suffixes)
    x = random(2, 4, 3)
    layer = getattr(layers, kind)(5, return_sequences=True)
    layer = layers.Bidirectional(layer) if both_ways else layer
    layer(x)
    others = recurrent_weights(gates, 3, 5, ("_l0",))
    weights_from_torch(layer, others | weights, number=1)
    expected = run(cell, x, weights, "_l1")
    if both_ways:
        backwards = run(cell, x[:, ::-1], weights, "_l1_reverse")[:, ::-1]
        expected = np.concatenate([expected, backwards], axis=-1)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)
    back = weights_to_torch(layer, number=1)
    assert set(back) == set(weights)
    for name in weights:
        if "bias" not in name:
            np.testing.assert_array_equal(back[name], weights[name])
    for suffix in suffixes:  # the sum is what counts, but for GRU
        sums = [w[f"bias_ih{suffix}"] + w[f"bias_hh{suffix}"] for w in (back, weights)]
        np.testing.assert_allclose(*sums, rtol=1e-6)
    if kind == "GRU":
        np.testing.assert_array_equal(back["bias_hh_l1"], weights["bias_hh_l1"])


@pytest.mark.parametrize("wide", [False, True])
def test_attention(wide):
    """Of inputs as wide as all heads, and of keys and values that are wider (kdim, vdim)."""
    heads, width, widths = 2, 6, (6, 7, 8) if wide else (6, 6, 6)
    parts = [random(width, n, seed=n + i) for i, n in enumerate(widths)]
    matrices = (
        {f"{x}_proj_weight": w for x, w in zip("qkv", parts, strict=True)}
        if wide
        else {"in_proj_weight": np.concatenate(parts)}
    )
    weights = matrices | {
        "in_proj_bias": random(18, seed=2), "out_proj.weight": random(6, 6, seed=3),
        "out_proj.bias": random(6, seed=4),
    }  # fmt: skip
    query, key, value = (random(2, 4, n, seed=i) for i, n in enumerate(widths))
    layer = layers.MultiHeadAttention(heads, width // heads)
    layer(query, value, key)
    weights_from_torch(layer, weights)
    biases = np.split(weights["in_proj_bias"], 3)
    projected = [x @ w.T + b for x, w, b in zip((query, key, value), parts, biases, strict=True)]
    q, k, v = (a.reshape(2, 4, heads, -1).swapaxes(1, 2) for a in projected)
    scores = np.exp(q @ k.swapaxes(2, 3) / np.sqrt(width // heads))
    y = (scores / scores.sum(-1, keepdims=True)) @ v
    y = y.swapaxes(1, 2).reshape(2, 4, width)
    expected = y @ weights["out_proj.weight"].T + weights["out_proj.bias"]
    np.testing.assert_allclose(layer(query, value, key), expected, rtol=1e-5, atol=1e-6)
    back = weights_to_torch(layer)
    assert set(back) == set(weights)
    for name, w in back.items():
        np.testing.assert_array_equal(w, weights[name])


def test_attention_of_other_widths():
    x = random(2, 4, 6)
    for options in (
        {"key_dim": 6},
        {"key_dim": 3, "value_dim": 4},
        {"key_dim": 3, "output_shape": 5},
    ):
        layer = layers.MultiHeadAttention(2, **options)
        layer(x, x)
        with pytest.raises(ValueError, match="as wide as all heads"):
            weights_to_torch(layer)


def test_dense_and_embedding():
    dense, table = layers.Dense(3), layers.Embedding(5, 4)
    x, ids = random(2, 4), np.array([[1, 4]])
    dense(x), table(ids)
    w, b, rows = random(3, 4, seed=1), random(3, seed=2), random(5, 4, seed=3)
    weights_from_torch(dense, {"weight": w, "bias": b})
    weights_from_torch(table, {"weight": rows})
    np.testing.assert_allclose(dense(x), x @ w.T + b, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(table(ids), rows[ids])


def test_convolution():
    """y[n, k, p, q] = b[k] + sum of x[n, c, p + r, q + s] w[k, c, r, s]; and its transpose."""
    x, w, b = random(2, 5, 6, 3), random(4, 3, 2, 3, seed=1), random(4, seed=2)
    layer = layers.Conv2D(4, (2, 3))
    layer(x)
    weights_from_torch(layer, {"weight": w, "bias": b})
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 3), axis=(1, 2))
    y = np.einsum("npqcrs,kcrs->npqk", windows, w) + b
    np.testing.assert_allclose(layer(x), y, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(weights_to_torch(layer)["weight"], w)

    layer = layers.Conv2DTranspose(2, (2, 3))
    w = random(3, 2, 2, 3, seed=3)
    layer(x)
    weights_from_torch(layer, {"weight": w, "bias": b[:2]})
    y = np.zeros((2, 6, 8, 2), "float32") + b[:2]
    for r in range(2):
        for s in range(3):
            y[:, r : r + 5, s : s + 6] += x @ w[:, :, r, s]
    np.testing.assert_allclose(layer(x), y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(3,), (2, 3)])
def test_depthwise_and_separable(size):
    """y[n, c M + m, p] = sum of x[n, c, p + r] w[c M + m, 0, r], and a product over all of them."""
    n, c, m, k = len(size), 3, 2, 4
    x = random(2, *(5 + s for s in size), c)
    w, b = random(c * m, 1, *size, seed=1), random(c * m, seed=2)
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=tuple(range(1, n + 1)))
    per_channel = w.reshape(c, m, -1)
    y = np.einsum("...cr,cmr->...cm", windows.reshape(*windows.shape[: n + 2], -1), per_channel)
    y = y.reshape(*y.shape[:-2], c * m)

    depthwise = getattr(layers, f"DepthwiseConv{n}D")(size, depth_multiplier=m)
    depthwise(x)
    weights_from_torch(depthwise, {"weight": w, "bias": b})
    np.testing.assert_allclose(depthwise(x), y + b, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(weights_to_torch(depthwise)["weight"], w)

    separable = getattr(layers, f"SeparableConv{n}D")(k, size, depth_multiplier=m)
    separable(x)
    points, b = random(k, c * m, *(1 for _ in size), seed=3), random(k, seed=4)
    weights = {"0.weight": w, "1.weight": points, "1.bias": b}
    weights_from_torch(separable, weights)
    y = y @ points.reshape(k, c * m).T + b
    np.testing.assert_allclose(separable(x), y, rtol=1e-5, atol=1e-5)
    for name, back in weights_to_torch(separable).items():
        np.testing.assert_array_equal(back, weights[name])


def test_normalization():
    layer = layers.BatchNormalization()
    layer.build((None, 3))
    names = ("weight", "bias", "running_mean", "running_var")
    weights = {name: abs(random(3, seed=i)) for i, name in enumerate(names)}
    weights_from_torch(layer, weights | {"num_batches_tracked": np.array(7)})
    back = weights_to_torch(layer)
    assert list(back) == list(names)
    for name in names:
        np.testing.assert_array_equal(back[name], weights[name])


def test_refusals():
    with pytest.raises(ValueError, match="expected a layer with weights"):
        weights_to_torch(layers.Dense(3))
    dense = layers.Dense(3, use_bias=False)
    dense.build((None, 2))
    with pytest.raises(ValueError, match=r"expected weights \['weight'\], got \['bias'"):
        weights_from_torch(dense, {"weight": np.ones((3, 2)), "bias": np.ones(3)})
    with pytest.raises(ValueError, match=r"expected weight of shape \(3, 2\), got \(2, 3\)"):
        weights_from_torch(dense, {"weight": np.ones((2, 3))})
    for layer in (layers.GRU(4, reset_after=False), layers.PReLU()):
        layer.build((None, 3, 3) if isinstance(layer, layers.RNN) else (None, 5, 5, 3))
        with pytest.raises(ValueError, match="PyTorch has too"):
            weights_to_torch(layer)
    assert dlcore.io.weights_to_torch(dense)["weight"].shape == (3, 2)
