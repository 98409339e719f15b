"""Layers over sequences: token ids, places, masks."""

import copy

import numpy as np
import pytest

import dlcore
from dlcore import layers, ops

RNG = np.random.default_rng(11)


def batch(*shape):
    return RNG.normal(size=shape).astype("float32")


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32"])
def test_embedding_looks_rows_up(dtype):
    layer = layers.Embedding(7, 3)
    ids = RNG.integers(0, 7, (4, 5)).astype(dtype)
    np.testing.assert_array_equal(layer(ids), layer.embeddings.numpy()[ids.astype(int)])


def test_embedding_gradient_adds_the_rows_of_equal_ids():
    layer = layers.Embedding(6, 2)
    ids = np.array([[1, 1, 4], [4, 1, 0]])
    layer(ids)
    weight = batch(2, 3, 2)

    @dlcore.function
    def gradient(weight):
        return dlcore.gradients(ops.sum(layer(ids) * weight), [layer.embeddings])

    expected = np.zeros((6, 2))
    np.add.at(expected, ids, weight)
    np.testing.assert_allclose(gradient(weight)[0], expected, rtol=1e-6)


def test_embedding_refuses_ids_outside_the_vocabulary():
    layer = layers.Embedding(7, 3, name="tokens")
    for bad in (7, -1):
        with pytest.raises(ValueError, match=r"tokens: expected token ids in 0\.\.6 .*got -?\d at"):
            layer(np.array([[0, bad]]))


def test_embedding_starts_from_given_weights_and_copies():
    w = batch(5, 4)
    layer = layers.Embedding(5, 4, weights=[w], input_length=3)
    np.testing.assert_array_equal(layer(np.array([2])), w[2:3])
    np.testing.assert_array_equal(copy.deepcopy(layer)(np.array([2])), w[2:3])
    again = layers.deserialize(layers.serialize(layer))
    assert again.output_dim == 4


def test_position_embedding():
    layer = layers.PositionEmbedding(6)
    x = batch(2, 4, 3)
    y = layer(x)
    w = layer.position_embeddings.numpy()
    np.testing.assert_array_equal(y, np.broadcast_to(w[:4], y.shape))
    np.testing.assert_array_equal(layer(x, start_index=2)[0], w[2:6])
    with pytest.raises(ValueError, match=r"expected places in 0\.\.5 .*got 0\.\.6"):
        layer(batch(2, 7, 3))


def test_sine_position_encoding():
    y = layers.SinePositionEncoding()(np.zeros((2, 5, 6), "float32"))
    for t in range(5):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            assert y[1, t, 2 * i] == pytest.approx(np.sin(angle), abs=1e-6)
            assert y[1, t, 2 * i + 1] == pytest.approx(np.cos(angle), abs=1e-6)


def test_token_and_position_embedding():
    layer = layers.TokenAndPositionEmbedding(9, 6, 4)
    ids = np.array([[1, 8, 0]])
    y = layer(ids)
    w, p = layer.get_weights()
    np.testing.assert_allclose(y[0], w[ids[0]] + p[:3], rtol=1e-6)
    with pytest.raises(ValueError, match=r"token ids in 0\.\.8"):
        layer(np.array([[9]]))


def test_embedding_trains_in_a_model():
    dlcore.utils.set_random_seed(3)
    ids = RNG.integers(0, 10, (256, 6))
    y = (ids == 3).any(axis=1).astype("float32")
    model = dlcore.Sequential([layers.Embedding(10, 8), layers.Flatten(), layers.Dense(1)])
    model.compile(dlcore.optimizers.Adam(0.02), "mse")
    history = model.fit(ids, y, epochs=20, verbose=0).history
    assert history["loss"][-1] < 0.3 * history["loss"][0]
