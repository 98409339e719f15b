"""Layers over sequences: token ids, places, masks."""

import copy

import numpy as np
import pytest

import dlcore
from dlcore import layers, losses, ops
from dlcore.ops.op import OPS

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


class Tagger(dlcore.Model):
    def __init__(self, layers):
        super().__init__()
        self.all = layers

    def call(self, x):
        for layer in self.all:
            x = layer(x)
        return x


@pytest.mark.parametrize("make", [
    lambda tokens, *rest: dlcore.Sequential([tokens, *rest]),
    lambda tokens, *rest: dlcore.Sequential([dlcore.Input((4,)), tokens, *rest]),
    lambda tokens, *rest: dlcore.Sequential([dlcore.Sequential([tokens]), *rest]),
    lambda *rest: dlcore.Sequential([layers.Lambda(lambda x: x), *rest]),
    lambda *layers: Tagger(layers),
])  # fmt: skip
def test_all_ways_into_a_model_refuse_ids_outside_the_vocabulary(make):
    good, bad, y = np.array([[0, 1, 2, 6]]), np.array([[0, 1, 2, 7]]), np.zeros(1)
    ways = (
        lambda model, x: model.fit(x, y, verbose=0),
        lambda model, x: model.evaluate(x, y, verbose=0),
        lambda model, x: model.predict(x, verbose=0),
        lambda model, x: model.predict_on_batch(x),
        lambda model, x: model.train_on_batch(x, y),
        lambda model, x: model(x),
        lambda model, x: dlcore.function(lambda x: model(x) * 2.0)(x),
        lambda model, x: dlcore.value_and_grad(lambda w, x: ops.sum(model(x)) * w)(1.0, x),
    )
    for way in ways:
        for before in ([], [good, good]):  # programs for such arrays are known then
            tokens = layers.Embedding(7, 3, name="tokens")
            model = make(tokens, layers.Flatten(), layers.Dense(1))
            model.compile("sgd", "mse")
            for x in before:
                way(model, x)
            with pytest.raises(ValueError, match=r"tokens: expected token ids in 0\.\.6 .* got 7"):
                way(model, bad)


def test_ids_among_the_inputs_of_a_model_of_ones_own():
    class Scores(dlcore.Model):
        def __init__(self):
            super().__init__()
            self.tokens, self.out = layers.Embedding(7, 3, name="tokens"), layers.Dense(1)

        def call(self, x):
            return self.out(ops.mean(self.tokens(x["ids"]), axis=1) + x["more"])

    model = Scores()
    more = np.full((2, 3), 50.0)
    for bad in (False, True):
        ids = np.full((2, 4), 7 if bad else 6)
        for x in ({"ids": ids, "more": more}, {"more": more, "ids": ids}) * 2:
            if bad:
                with pytest.raises(ValueError, match=r"tokens: expected token ids .* got 7 at"):
                    model.predict(x)
            else:
                assert model.predict(x).shape == (2, 1)


def test_ids_made_inside_a_model_and_outside_the_vocabulary_give_zeros():
    layer = layers.Embedding(7, 3, embeddings_initializer="ones")
    y = dlcore.function(lambda ids: layer(ids + 1))(np.array([5, 6, 7, -2]))
    np.testing.assert_array_equal(y[:, 0], [1, 0, 0, 0])
    rows = np.full((9, 3), 5, "float32")  # what would be read beyond the seventh is not zero
    y = dlcore.function(lambda x, ids: OPS["gather"](x[:7], ids))(rows, np.array([6, 7, 8, -1]))
    np.testing.assert_array_equal(y[:, 0], [5, 0, 0, 0])


def test_embedding_starts_from_given_weights_and_copies():
    w = batch(5, 4)
    layer = layers.Embedding(5, 4, weights=[w], input_length=3)
    np.testing.assert_array_equal(layer(np.array([2])), w[2:3])
    np.testing.assert_array_equal(copy.deepcopy(layer)(np.array([2])), w[2:3])
    again = layers.deserialize(layers.serialize(layer))
    assert again.output_dim == 4


@pytest.mark.parametrize("options", [{}, {"logit_soft_cap": 0.7}, {"tie_weights": False}])
def test_reversible_embedding_leads_back(options, tmp_path):
    layer = layers.ReversibleEmbedding(5, 3, **options)
    ids = layers.Input((4,), dtype="int32")
    model = dlcore.Model(ids, layer(layers.Dense(3, use_bias=False)(layer(ids)), reverse=True))
    w = layer.get_weights()
    x = np.array([[0, 4, 2, 2]])
    back = w[0].T if options.get("tie_weights", True) else w[1]
    expected = w[0][x] @ model.layers[2].get_weights()[0] @ back
    cap = options.get("logit_soft_cap")
    expected = expected if cap is None else np.tanh(expected / cap) * cap
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-5, atol=1e-7)
    model.compile(
        dlcore.optimizers.Adam(0.05), dlcore.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    x = np.arange(20).reshape(5, 4) % 5
    loss = model.fit(x, x, epochs=20, verbose=0).history["loss"]
    assert loss[-1] < 0.9 * loss[0]
    model.save(tmp_path / "model")
    again = dlcore.models.load_model(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


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


def test_models_refuse_ids_outside_the_vocabulary():
    ids = RNG.integers(0, 10, (8, 4))
    model = dlcore.Sequential([layers.Embedding(10, 3, name="words"), layers.Flatten()])
    model.add(layers.Dense(1))
    model.compile("sgd", "mse")
    model.fit(ids, np.zeros(8), verbose=0)
    ids[3, 2] = 10
    with pytest.raises(ValueError, match=r"words: .* ids in 0\.\.9 .* got 10.* at \(3, 2\)"):
        model.fit(ids, np.zeros(8), verbose=0)


# -- masks


def padded(n=5, steps=6, features=3):
    """x (n, steps, features) of which the first lengths[i] steps of row i are not 0."""
    lengths = RNG.integers(1, steps + 1, n)
    x = batch(n, steps, features)
    x[np.arange(steps) >= lengths[:, None]] = 0
    return x, np.arange(steps) < lengths[:, None]


class Seen(layers.Layer):
    """The mask that it is given, as numbers."""

    supports_masking = True

    def call(self, inputs, mask=None):
        return ops.zeros_like(inputs) - 1 if mask is None else ops.cast(mask, "float32")


def test_steps_of_a_layer_that_learns_from_its_calls():
    x = RNG.normal(size=(4, 3, 2)).astype("float32")
    layer = layers.TimeDistributed(layers.BatchNormalization(momentum=0.5, epsilon=0.0))
    y = layer(x, training=True)
    np.testing.assert_allclose(y, (x - x.mean(0)) / x.std(0), rtol=1e-4, atol=1e-5)
    mean = x[:, 0].mean(0) / 8 + x[:, 1].mean(0) / 4 + x[:, 2].mean(0) / 2
    np.testing.assert_allclose(layer.layer.moving_mean, mean, rtol=1e-5)
    np.testing.assert_allclose(layer(x)[:, 1], layer.layer(x[:, 1]), rtol=1e-6)
    layer.trainable = False
    np.testing.assert_allclose(layer(x, training=True), layer(x), rtol=1e-6)


def through(*stack, x):
    return dlcore.Sequential([*stack, Seen()]).predict(x, verbose=0)


@pytest.mark.parametrize(
    "layer",
    [layers.Dense(4), layers.Dropout(0.5), layers.Activation("relu"), layers.LayerNormalization(),
     layers.TimeDistributed(layers.Dense(2)), layers.LSTM(3, return_sequences=True),
     layers.Bidirectional(layers.GRU(2, return_sequences=True))],
    ids=lambda x: x.name,
)  # fmt: skip
def test_masks_pass_through(layer):
    x, mask = padded()
    np.testing.assert_array_equal(through(layers.Masking(), layer, x=x), mask)


def test_mask_of_embedding_in_a_graph_and_a_nested_model():
    ids = RNG.integers(0, 3, (6, 5))
    a = dlcore.Input((5,), dtype="int32")
    inner = dlcore.Sequential([layers.Embedding(3, 4, mask_zero=True), layers.Dense(2)])
    x = layers.Concatenate()([inner(a), layers.Embedding(3, 4, mask_zero=True)(a)])
    y = layers.Add()([Seen()(layers.Dropout(0.1)(inner(a)))] * 2)
    model = dlcore.Model(a, [y, x])
    np.testing.assert_array_equal(model.predict(ids, verbose=0)[0], 2.0 * (ids != 0))


def test_a_layer_without_masks_says_so():
    x, _ = padded()
    with pytest.warns(UserWarning, match="flatten.*expected input without a mask"):
        dlcore.Sequential([layers.Masking(), layers.Flatten()]).predict(x, verbose=0)


def test_masked_steps_do_not_matter():
    x, mask = padded()
    model = dlcore.Sequential([layers.Masking(), layers.LSTM(4)])
    y = model.predict(x, verbose=0)
    for row in range(len(x)):
        short = x[row : row + 1, : mask[row].sum()]
        np.testing.assert_allclose(model.layers[1](short)[0], y[row], rtol=1e-5, atol=1e-6)


def test_global_average_leaves_masked_steps_out():
    x, mask = padded()
    y = dlcore.Sequential([layers.Masking(), layers.GlobalAveragePooling1D()]).predict(x, verbose=0)
    expected = [x[i][mask[i]].mean(axis=0) for i in range(len(x))]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_losses_and_metrics_leave_masked_steps_out(weighted):
    x, mask = padded(8)
    y = batch(8, 6, 1)
    weights = RNG.uniform(0.5, 2, (8, 6)).astype("float32") if weighted else None
    model = dlcore.Sequential([layers.Masking(), layers.Dense(1)])
    model.compile("sgd", "mse", weighted_metrics=["mae"])
    result = model.evaluate(x, y, sample_weight=weights, batch_size=8, verbose=0)
    error = (model.predict(x, verbose=0) - y)[..., 0]
    w = mask * (1 if weights is None else weights)
    assert result[0] == pytest.approx((error**2 * w).sum() / mask.sum(), rel=1e-5)
    if not weighted:
        assert result[1] == pytest.approx(np.abs(error)[mask].mean(), rel=1e-5)


def test_explicit_mask_on_arrays():
    x, mask = padded()
    layer = layers.LSTM(4)
    y = layer(x, mask=mask)
    for row in range(len(x)):
        short = x[row : row + 1, : mask[row].sum()]
        np.testing.assert_allclose(layer(short)[0], y[row], rtol=1e-5, atol=1e-6)


def test_batch_normalization_counts_unmasked_steps():
    x, mask = padded(20)
    layer = layers.BatchNormalization(momentum=0.0)
    layer(x, mask=mask, training=True)
    np.testing.assert_allclose(layer.moving_mean.numpy(), x[mask].mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance.numpy(), x[mask].var(0), rtol=1e-4)


def test_masks_of_inputs_after_one_another():
    x, mask = padded()
    inputs = dlcore.Input(x.shape[1:])
    a = layers.Masking()(inputs)
    b = layers.concatenate([a, layers.Dense(3)(a)], axis=1)
    y = dlcore.Model(inputs, Seen()(b)).predict(x)
    np.testing.assert_array_equal(y, np.concatenate([mask, mask], axis=1))
    assert layers.concatenate([a, inputs])._keras_mask is None


def test_symbols_know_their_mask():
    tokens = dlcore.Input((None,), dtype="int32")

    class NeedsMask(layers.Layer):
        supports_masking = True

        def call(self, inputs, mask=None):
            assert mask is not None
            return inputs * ops.cast(ops.expand_dims(mask, -1), "float32")

    x = layers.Dense(2)(layers.Embedding(5, 3, mask_zero=True)(tokens))
    model = dlcore.Model(tokens, [NeedsMask()(x), x._keras_mask])
    y, mask = model.predict(np.array([[1, 2, 0]]))
    assert mask.tolist() == [[True, True, False]]
    assert (y[0, 2] == 0).all() and (y[0, :2] != 0).any()


def test_arrays_carry_masks_between_layers():
    tokens = np.array([[1, 2, 0], [3, 0, 0]])
    embedding, lstm = layers.Embedding(5, 3, mask_zero=True), layers.LSTM(2)
    y = embedding(tokens)
    np.testing.assert_array_equal(y._keras_mask, tokens != 0)
    assert repr(y).startswith("array(") and getattr(y + 1, "mask", None) is None
    stepwise = lstm(layers.Dropout(0.5)(y))
    np.testing.assert_array_equal(stepwise, dlcore.Sequential([embedding, lstm]).predict(tokens))


def test_a_layer_with_a_mask_of_its_own():
    class Halves(layers.Layer):
        def call(self, inputs):
            return ops.split(inputs, 2, axis=1)

        def compute_mask(self, inputs, mask=None):
            return ops.split(mask, 2, axis=1)

    x, mask = padded()
    x, mask = x[:, :4], mask[:, :4]
    first, last = Halves()(layers.Masking()(x))
    np.testing.assert_array_equal(np.hstack([first.mask, last.mask]), mask)


def test_losses_of_one_call_do_not_stay_for_the_next():
    class Penalized(layers.Layer):
        def call(self, inputs, training=False):
            if training:
                self.add_loss(ops.sum(inputs))
            return inputs

    layer, x = Penalized(), np.ones((2, 3), "float32")
    for training in (True, False, True):
        assert layer(x, training=training).shape == x.shape
        assert len(layer.losses) == training


def test_ignored_classes_and_masks_are_left_out_together():
    tokens, labels = np.array([[1, 2, 3, 0]]), np.array([[1, 0, 2, 1]])
    model = dlcore.Sequential([layers.Embedding(4, 3, mask_zero=True), layers.Softmax()])
    model.compile("sgd", losses.SparseCategoricalCrossentropy(ignore_class=0))
    p = model.predict(tokens)[0]
    expected = -np.log([p[0, 1], p[2, 2]]).mean()
    assert model.evaluate(tokens, labels, verbose=0) == pytest.approx(expected, rel=1e-5)
    model.compile("sgd", lambda y, p: ops.mean(ops.square(p)))
    assert model.evaluate(tokens, labels, verbose=0) == pytest.approx((p**2).mean(), rel=1e-5)
