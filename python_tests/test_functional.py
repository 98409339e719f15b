"""Models that are graphs: against the same formulas in a `call`, and against Sequential."""

import copy
import gc
import json
import pickle
import weakref

import numpy as np
import pytest

import dlcore
from dlcore import layers, models, ops, optimizers, random

RNG = np.random.default_rng(7)
A = RNG.normal(size=(50, 4)).astype("float32")
B = RNG.normal(size=(50, 3)).astype("float32")
Y = RNG.normal(size=(50, 1)).astype("float32")
LABELS = RNG.integers(0, 3, 50)


def two_towers(outputs=list, name="towers"):
    """Two inputs, a layer used twice, a residual connection, two outputs."""
    random.set_random_seed(2)
    left, right = layers.Input((4,), name="left"), layers.Input((3,), name="right")
    h = layers.Concatenate()(
        [layers.Dense(4, name="dense_a")(left), layers.Dense(4, name="dense_b")(right)]
    )
    shared = layers.Dense(8, "tanh", name="shared")
    h = shared(h)
    h = layers.add([h, shared(h)], name="sum")
    a = layers.Dense(1, name="value")(h)
    b = layers.Dense(3, "softmax", name="kind")(ops.relu(h) * 2.0)
    pair = {"value": a, "kind": b} if outputs is dict else outputs([a, b])
    return models.Model([left, right], pair, name=name)


class Towers(models.Model):
    """The same as a formula."""

    def __init__(self):
        super().__init__()
        random.set_random_seed(2)
        self.a, self.b = layers.Dense(4), layers.Dense(4)
        self.shared = layers.Dense(8, "tanh")
        self.value, self.kind = layers.Dense(1), layers.Dense(3, "softmax")

    def call(self, inputs):
        left, right = inputs
        h = ops.concatenate([self.a(left), self.b(right)], axis=-1)
        h = self.shared(h)
        h = h + self.shared(h)
        return [self.value(h), self.kind(ops.relu(h) * 2.0)]


LOSSES = ["mse", "sparse_categorical_crossentropy"]


def weights_of(model):
    return np.concatenate([w.ravel() for w in model.get_weights()])


def compiled(model, **kwargs):
    model.compile("adam", LOSSES, **kwargs)
    return model


def test_a_graph_is_its_formula():
    graph, formula = compiled(two_towers()), compiled(Towers())
    logs = []
    for model in (graph, formula):
        history = model.fit([A, B], [Y, LABELS], epochs=3, verbose=0, shuffle=False)
        logs.append(history.history["loss"])
    assert logs[0] == logs[1]
    np.testing.assert_array_equal(weights_of(graph), weights_of(formula))
    for a, b in zip(graph.predict([A, B]), formula.predict([A, B]), strict=True):
        np.testing.assert_array_equal(a, b)


def instructions(model, data):
    return model._program("train", data, 16, True).compile(50).describe()


def test_a_chain_is_the_program_of_a_sequential():
    def stack():
        random.set_random_seed(4)
        return [layers.Dense(16, "relu"), layers.Dropout(0.2), layers.Dense(3, "softmax")]

    x = h = layers.Input((4,))
    for layer in stack():
        h = layer(h)
    results = []
    for model in (models.Model(x, h), models.Sequential([layers.Input((4,)), *stack()])):
        model.compile("adam", "sparse_categorical_crossentropy")
        random.set_random_seed(1)
        model.fit(A, LABELS, batch_size=16, epochs=2, verbose=0)
        data = model._data("fit", "train", A, LABELS)
        results.append((weights_of(model), [i["kernel"] for i in instructions(model, data)]))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_names_of_history():
    model = compiled(two_towers(), metrics={"kind": "accuracy", "value": ["mae"]})
    history = model.fit(
        {"right": B, "left": A}, {"kind": LABELS, "value": Y}, validation_split=0.2, verbose=0
    )
    names = ["loss", "value_loss", "kind_loss", "value_mae", "kind_accuracy"]
    assert list(history.history) == sorted(names) + sorted(f"val_{n}" for n in names)
    assert model.metrics_names == ["loss", "value_loss", "kind_loss", "kind_accuracy", "value_mae"]
    as_dict = two_towers(dict)
    as_dict.compile("sgd", {"kind": "sparse_categorical_crossentropy", "value": "mse"})
    history = as_dict.fit([A, B], {"kind": LABELS, "value": Y}, verbose=0)
    assert list(history.history) == sorted(names[:3])
    assert list(as_dict.predict([A, B])) == ["value", "kind"]


def test_every_way_to_give_arrays():
    model = compiled(two_towers())
    expected = model.predict([A, B])
    ways = [{"left": A, "right": B}, (A, B), [A.tolist(), B.astype("float64")]]
    for x in ways:
        for f in (model.predict, model.predict_on_batch, lambda x: model.predict(x, batch_size=7)):
            for a, b in zip(f(x), expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    for a, b in zip(model([A, B]), model({"left": A, "right": B}), strict=True):
        np.testing.assert_array_equal(a, b)
    loss = model.evaluate([A, B], [Y, LABELS], batch_size=50, verbose=0)
    names = {"value": Y, "kind": LABELS}
    np.testing.assert_allclose(model.test_on_batch({"left": A, "right": B}, names), loss, rtol=1e-6)
    np.testing.assert_allclose(model.train_on_batch([A, B], [Y, LABELS]), loss, rtol=1e-6)


def test_predict_has_the_same_bits_for_any_batch():
    model = two_towers()
    tolerance = 1e-5 if dlcore.backends.active() in ("numpy", "cupy") else 0
    for row, whole in zip(
        zip(*[model.predict([A[i : i + 1], B[i : i + 1]]) for i in range(50)], strict=True),
        model.predict([A, B]), strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(np.concatenate(row), whole, rtol=tolerance)


def copies(model, path):
    model.save(path)
    yield models.load_model(path)
    yield pickle.loads(pickle.dumps(model))
    yield copy.deepcopy(model)
    for make in (models.clone_model, lambda m: models.model_from_json(m.to_json())):
        other = make(model)
        other.set_weights(model.get_weights())
        yield other


def test_copies(tmp_path):
    model = compiled(two_towers(dict))
    expected = model.predict([A, B])
    for other in copies(model, tmp_path / "m"):
        assert [x.name for x in other.operations] == [x.name for x in model.operations]
        assert other.input_names == model.input_names and other.name == model.name
        for key, value in other.predict({"left": A, "right": B}).items():
            np.testing.assert_array_equal(value, expected[key])
        assert len(other.weights) == len(model.weights) == 10


def test_a_loaded_model_goes_on(tmp_path):
    model = compiled(two_towers())
    model.fit([A, B], [Y, LABELS], verbose=0, shuffle=False)
    model.save(tmp_path / "m")
    other = models.load_model(tmp_path / "m")
    for m in (model, other):
        m.fit([A, B], [Y, LABELS], verbose=0, shuffle=False)
    np.testing.assert_array_equal(weights_of(model), weights_of(other))


OPS = [
    lambda x, z: x + z, lambda x, z: 2.0 - x, lambda x, z: x**2 / (1 + ops.abs(z)),
    lambda x, z: ops.concatenate([x, z], axis=-1)[:, 1:5], lambda x, z: x[:, None, ::2],
    lambda x, z: x[..., -1], lambda x, z: ops.where(x > z, x, 0.0),
    lambda x, z: -x @ ops.ones((4, 2)),
    lambda x, z: ops.matmul(x, np.eye(4, 3, dtype="float32")), lambda x, z: ops.max(x, axis=1),
    lambda x, z: ops.reshape(x, (-1, 2, 2)), lambda x, z: ops.stack([x, z], axis=1),
    lambda x, z: ops.split(x, 2, axis=1), lambda x, z: ops.cast(x > 0, "int32"),
    lambda x, z: ops.clip(x, x_min=z, x_max=1.0), lambda x, z: abs(x).T.T,
    lambda x, z: dlcore.activations.gelu(x), lambda x, z: ops.expand_dims(x, (1, 3)),
    lambda x, z: ops.convert_to_tensor(x), lambda x, z: ops.sum(x * np.float32(2), axis=-1),
    lambda x, z: ops.maximum(x, -np.inf), lambda x, z: {"a": ops.exp(x), "b": (z, x)},
]  # fmt: skip


@pytest.mark.parametrize("i", range(len(OPS)))
def test_ops_on_symbols(i, tmp_path):
    x, z = layers.Input((4,)), layers.Input((4,))
    model = models.Model([x, z], OPS[i](x, z))
    values = [A, RNG.normal(size=(50, 4)).astype("float32")]
    expected = [np.asarray(y) for y in _leaves(dlcore.function(OPS[i])(*values))]
    model.save(tmp_path / "m")
    for m in (model, models.load_model(tmp_path / "m")):
        for y, e, symbol in zip(_leaves(m(values)), expected, m.outputs, strict=True):
            np.testing.assert_allclose(y, e, rtol=1e-6)
            assert symbol.shape[1:] == y.shape[1:] and symbol.dtype == y.dtype.name


def _leaves(tree):
    if isinstance(tree, dict):
        tree = list(tree.values())
    nested = isinstance(tree, (list, tuple))
    return [x for part in tree for x in _leaves(part)] if nested else [tree]


def test_models_as_layers(tmp_path):
    random.set_random_seed(0)
    x = layers.Input((4,))
    encoder = models.Model(x, layers.Dense(2, "tanh")(x), name="encoder")
    decoder = models.Sequential([layers.Dense(6, "relu"), layers.Dense(4)], name="decoder")
    image = layers.Input((4,), name="image")
    code = encoder(image)
    model = models.Model(image, decoder(code))
    assert [x.name for x in model.layers] == ["image", "encoder", "decoder"]
    assert len(model.weights) == 6 and decoder.built
    model.compile("adam", "mse")
    before = model.evaluate(A, A, verbose=0)
    model.fit(A, A, epochs=5, verbose=0)
    assert model.evaluate(A, A, verbose=0) < before
    np.testing.assert_allclose(decoder.predict(encoder.predict(A)), model.predict(A), rtol=1e-6)
    for other in copies(model, tmp_path / "m"):
        np.testing.assert_array_equal(other.predict(A), model.predict(A))
        np.testing.assert_array_equal(other.get_layer("encoder").predict(A), encoder.predict(A))


def test_layers_in_several_models(tmp_path):
    """One Dense inside an inner model and beside it; one Input for both models."""
    random.set_random_seed(0)
    shared = layers.Dense(4, "tanh", name="shared")
    x = layers.Input((4,), name="x")
    inner = models.Model(x, layers.Dense(4)(shared(x)), name="inner")
    stack = models.Sequential([layers.Dense(4, name="first"), shared], name="stack")
    model = models.Model(x, [inner(shared(x)), stack(x)], name="outer")
    assert len(model.weights) == 6
    for other in copies(model, tmp_path / "m"):
        assert len(other.weights) == 6
        assert other.get_layer("shared") is other.get_layer("inner").get_layer("shared")
        assert other.get_layer("shared") is other.get_layer("stack").layers[1]
        for a, b in zip(other.predict(A), model.predict(A), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("named", [False, True])
def test_batches_from_a_generator(named):
    def batches():
        for s in range(0, 48, 16):
            a, b, y, labels = (v[s : s + 16] for v in (A, B, Y, LABELS))
            if named:
                yield {"left": a, "right": b}, {"kind": labels, "value": y}
            else:
                yield (a, b), (y, labels)

    results = []
    for data in ([batches()], [[A[:48], B[:48]], [Y[:48], LABELS[:48]]]):
        model = compiled(two_towers())
        model.fit(*data, batch_size=16 if len(data) > 1 else None, shuffle=False, verbose=0)
        results.append(weights_of(model))
    np.testing.assert_allclose(*results, rtol=1e-6, atol=1e-7)
    assert [y.shape for y in model.predict(batches())] == [(48, 1), (48, 3)]


def test_sub_models():
    model = models.Sequential(
        [layers.Input((4,)), layers.Dense(5, "relu", name="a"), layers.Dense(2, name="b")]
    )
    assert model.input is model.inputs[0] and model.output is model.get_layer("b").output
    inner = models.Model(model.inputs, model.get_layer("a").output)
    kernel, bias = model.get_layer("a").get_weights()
    np.testing.assert_allclose(inner.predict(A), np.maximum(A @ kernel + bias, 0), atol=1e-6)
    every = models.Model(model.input, [x.output for x in model.layers])
    a, b = every.predict(A)
    np.testing.assert_array_equal(a, inner.predict(A))
    np.testing.assert_array_equal(b, model.predict(A))
    model.compile("sgd", "mse")
    model.fit(A, A[:, :2], verbose=0)
    np.testing.assert_array_equal(every.predict(A)[1], model.predict(A))
    tail = models.Model(model.get_layer("a").output, model.output)
    np.testing.assert_array_equal(tail.predict(every.predict(A)[0]), model.predict(A))
    assert tail.get_layer("b") is model.get_layer("b")


def test_models_that_share_weights_keep_their_programs():
    """As two models that are trained in turns, one frozen in the other."""
    random.set_random_seed(3)
    critic = models.Sequential([layers.Input((4,)), layers.Dense(5, "tanh"), layers.Dense(1)])
    critic.compile(optimizers.SGD(0.1), "mse")
    critic.trainable = False
    noise = layers.Input((3,))
    maker = models.Model(noise, layers.Dense(4)(noise))
    both = models.Model(noise, critic(maker(noise)))
    both.compile(optimizers.SGD(0.1), "mse")

    def turn():
        before = weights_of(critic), weights_of(maker)
        both.train_on_batch(B, Y)
        np.testing.assert_array_equal(weights_of(critic), before[0])
        assert not np.array_equal(weights_of(maker), before[1])
        critic.train_on_batch(A, Y)
        assert not np.array_equal(weights_of(critic), before[0])

    turn()
    layout = dlcore.program.layout()
    turn()
    assert dlcore.program.layout() == layout


def test_frozen_until_compiled_again():
    model = compiled(two_towers())
    model.fit([A, B], [Y, LABELS], verbose=0)
    shared = model.get_layer("shared")
    shared.trainable = False
    assert len(model.trainable_weights) == 8 and len(model.non_trainable_weights) == 2
    for recompile, moves in ((False, True), (True, False)):
        if recompile:
            compiled(model)
        before = shared.get_weights()[0]
        model.fit([A, B], [Y, LABELS], verbose=0)
        assert (not np.array_equal(before, shared.get_weights()[0])) == moves


def test_losses_of_layers():
    class Penalty(layers.Layer):
        def call(self, x):
            self.add_loss(0.5 * ops.mean(ops.square(x)))
            return x

    x = layers.Input((4,))
    penalty = Penalty()
    y = layers.Dense(1, kernel_regularizer="l2")(penalty(penalty(x) * 2.0))
    model = models.Model(x, y)
    model.compile("sgd", "mse")
    kernel = model.layers[-1].get_weights()[0].astype("float64")
    mse = np.mean((2 * A.astype("float64") @ kernel - Y) ** 2)
    expected = mse + 0.5 * 5 * np.mean(A.astype("float64") ** 2) + 0.01 * np.sum(kernel**2)
    assert model.evaluate(A, Y, batch_size=50, verbose=0) == pytest.approx(expected, rel=1e-5)
    assert len(model.losses) == 1
    model(A)
    assert len(model.losses) == 3


def test_losses_and_metrics_of_symbols(tmp_path):
    x = layers.Input((4,))
    code = layers.Dense(2, name="code")(x)
    model = models.Model(x, layers.Dense(1)(code))
    model.add_loss(0.5 * ops.mean(ops.square(layers.Dense(2, name="side")(code))))
    model.add_metric(ops.max(code, axis=-1), name="largest")
    model.compile("sgd", "mse")
    assert "side" in [x.name for x in model.layers]
    side = models.Model(x, [code, model.get_layer("side").output])
    for m in (model, *copies(model, tmp_path / "m")):
        m.compile("sgd", "mse")
        hidden, out = (y.astype("float64") for y in side.predict(A))
        mse = np.mean((m.predict(A).astype("float64") - Y) ** 2)
        logs = m.evaluate(A, Y, batch_size=50, verbose=0, return_dict=True)
        assert logs["loss"] == pytest.approx(mse + 0.5 * np.mean(out**2), rel=1e-5)
        assert logs["largest"] == pytest.approx(hidden.max(1).mean(), rel=1e-5)
    stack = models.Sequential([layers.Input((4,)), layers.Dense(1)])
    for m in (stack, layers.Dense(2), Towers()):
        with pytest.raises(ValueError, match="computed in call, got"):
            m.add_loss(code)


def test_metrics_of_layers():
    class Watched(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.largest = dlcore.metrics.Sum(name="total")

        def call(self, x):
            self.add_metric(ops.mean(ops.abs(x)), name="size")
            self.largest.update_state(x)
            return x

    x = layers.Input((4,))
    model = models.Model(x, layers.Dense(1)(Watched()(x)))
    model.compile("sgd", "mse", metrics=["mae"])
    history = model.fit(A, Y, epochs=2, verbose=0, batch_size=16)
    assert list(history.history) == ["loss", "mae", "size", "total"]
    assert [m.name for m in model.metrics] == ["loss", "mae", "size", "total"]
    logs = model.evaluate(A, Y, verbose=0, batch_size=16, return_dict=True)
    for values in (logs, {k: v[1] for k, v in history.history.items()}):
        assert values["size"] == pytest.approx(np.mean(np.abs(A)), rel=1e-5)
        assert values["total"] == pytest.approx(np.sum(A, dtype="float64"), rel=1e-4)
    model.predict(A)
    assert len(model.get_layer(index=1).metrics) == 1


def test_training_argument_is_kept():
    x = layers.Input((4,))
    always = models.Model(x, layers.Dropout(0.5)(x, training=True))
    never = models.Model(x, layers.Dropout(0.5)(x, training=False))
    asked = models.Model(x, layers.Dropout(0.5)(x))
    assert np.any(always.predict(A) == 0)
    assert not np.any(never(A, training=True) == 0)
    assert np.any(asked(A, training=True) == 0) and not np.any(asked(A) == 0)


def test_a_subclass_with_a_graph():
    class Scaled(models.Model):
        def train_step(self, data):
            x, y = data
            return super().train_step((x * 0.0, y))

    x = layers.Input((4,))
    model = Scaled(inputs=x, outputs=layers.Dense(1)(x))
    model.compile("sgd", "mse")
    kernel = model.get_weights()[0]
    model.fit(A, Y, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], kernel)
    assert isinstance(models.clone_model(model), Scaled)


def test_input_shapes_and_types():
    x = layers.Input((1,), dtype="int32", name="place")
    y = ops.one_hot(x[:, 0], 5)
    model = models.Model(x, y)
    np.testing.assert_array_equal(model.predict(np.arange(4)), np.eye(5)[:4])
    np.testing.assert_array_equal(model.predict([[3.0]]), np.eye(5)[3:4])
    np.testing.assert_array_equal(model.predict({"place": np.arange(2)}), np.eye(5)[:2])
    np.testing.assert_array_equal(model.predict([np.array([[2]])]), np.eye(5)[2:3])
    fixed = layers.Input(batch_shape=(8, 4))
    assert fixed.shape == (8, 4) and models.Model(fixed, fixed * 2).predict(A).shape == (50, 4)
    for text in (str, "string"):
        with pytest.raises(ValueError, match="expected a dtype of numbers, got"):
            layers.Input((1,), dtype=text)


def residual_cnn():
    random.set_random_seed(6)
    image = layers.Input((8, 8, 3))
    h = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    side = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(h))
    h = layers.ReLU()(layers.add([h, side]))
    h = layers.concatenate([layers.MaxPooling2D()(h), layers.AveragePooling2D()(h)])
    return models.Model(image, layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(h)))


def test_same_bits_for_any_number_of_threads():
    images = RNG.normal(size=(50, 8, 8, 3)).astype("float32")
    threads, results = dlcore.get_num_threads(), []
    for n in (1, 2, 3, 7):
        dlcore.set_num_threads(n)
        model = residual_cnn()
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(images, LABELS, epochs=2, batch_size=16, verbose=0)
        results.append(np.concatenate([weights_of(model), model.predict(images).ravel()]))
    dlcore.set_num_threads(threads)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def test_layers_with_several_arguments(tmp_path):
    x, z = layers.Input((5, 8)), layers.Input((7, 8))
    outputs, h, c = layers.LSTM(4, return_state=True)(x)
    again = layers.LSTM(4)(z, initial_state=[h, c])
    model = models.Model([x, z], [layers.MultiHeadAttention(2, 4)(x, z), outputs + again])
    arrays = [RNG.normal(size=(3, n, 8)) for n in (5, 7)]
    model.save(tmp_path / "m")
    other = models.load_model(tmp_path / "m")
    for a, b in zip(model.predict(arrays), other.predict(arrays), strict=True):
        np.testing.assert_array_equal(a, b)


def test_sizes_that_vary(tmp_path):
    image = layers.Input((None, None, 3))
    h = layers.Conv2D(4, 3, strides=2)(image)
    model = models.Model(image, [h, ops.mean(h, axis=(1, 2)), layers.add([h, h])])
    assert model.output_shape == [(None, None, None, 4), (None, 4), (None, None, None, 4)]
    model.save(tmp_path / "m")
    for m in (model, models.load_model(tmp_path / "m")):
        for size in ((9, 11), (10, 6)):
            y = m.predict(np.ones((2, *size, 3)))[0]
            assert y.shape == (2, (size[0] - 1) // 2, (size[1] - 1) // 2, 4)
    lines = []
    model.summary(print_fn=lines.append)
    assert "(None, None, None, 4)" in lines[0]
    words = models.Sequential([layers.Input((None,)), layers.Reshape((-1, 1)), layers.Dense(2)])
    words.compile("sgd", "mse")
    for length in (3, 5):
        words.fit(np.ones((4, length)), np.ones((4, length, 2)), verbose=0)
    assert words.output_shape == (None, None, 2) and words.predict(A).shape == (50, 4, 2)


def test_deep_graphs():
    x = h = layers.Input((2,))
    for _ in range(1500):
        h = h * 1.0
    model = models.Model(x, h)
    assert len(model.operations) == 1501
    np.testing.assert_array_equal(model(A[:, :2]), A[:, :2])


MERGES = {
    "add": lambda *xs: sum(xs), "multiply": lambda *xs: np.prod(np.broadcast_arrays(*xs), axis=0),
    "average": lambda *xs: sum(xs) / len(xs),
    "maximum": lambda *xs: np.max(np.broadcast_arrays(*xs), axis=0),
    "minimum": lambda *xs: np.min(np.broadcast_arrays(*xs), axis=0),
}  # fmt: skip
SHAPES = [[(4,), (4,)], [(4,)] * 3, [(3, 4), (1, 4)], [(3, 1), (1, 4), (3, 4)]]


@pytest.mark.parametrize("name", MERGES)
@pytest.mark.parametrize("shapes", SHAPES)
def test_merging(name, shapes):
    arrays = [RNG.normal(size=(6, *s)).astype("float32") for s in shapes]
    merged = getattr(layers, name)([layers.Input(s) for s in shapes])
    model = models.Model(merged.connection.args[0], merged)
    expected = MERGES[name](*(a.astype("float64") for a in arrays))
    np.testing.assert_allclose(model.predict(arrays), expected, rtol=1e-6, atol=1e-6)
    assert merged.shape == (None, *expected.shape[1:])


def test_merging_of_other_ranks_and_orders():
    image, channels = RNG.normal(size=(2, 5, 5, 3)), RNG.normal(size=(2, 3))
    np.testing.assert_allclose(
        layers.multiply([image, channels]), image * channels[:, None, None], rtol=1e-5
    )
    a, b = RNG.normal(size=(2, 4, 3)), RNG.normal(size=(2, 3, 5))
    np.testing.assert_allclose(layers.subtract([a, a[:, :1]]), a - a[:, :1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layers.dot([a, b], axes=(2, 1)), a @ b, rtol=1e-4, atol=1e-5)
    c = RNG.normal(size=(2, 5, 4, 2))
    expected = np.einsum("nki,njkl->nijl", a, c)
    np.testing.assert_allclose(layers.Dot((1, 2))([a, c]), expected, rtol=1e-4, atol=1e-5)
    cosine = layers.Dot(1, normalize=True)([a[:, 0], b[:, :, 0]])
    norms = np.linalg.norm(a[:, 0], axis=1) * np.linalg.norm(b[:, :, 0], axis=1)
    np.testing.assert_allclose(cosine[:, 0], np.sum(a[:, 0] * b[:, :, 0], 1) / norms, rtol=1e-4)
    np.testing.assert_allclose(
        layers.concatenate([a, a[:, :2]], axis=1), np.concatenate([a, a[:, :2]], 1), rtol=1e-6
    )


def merged(name, *shapes, **kwargs):
    return getattr(layers, name)([layers.Input(s) for s in shapes], **kwargs)


def graph_with(change):
    """A model from a changed configuration."""
    config = json.loads(json.dumps(two_towers().get_config()))
    change(config)
    return models.Model.from_config(config)


def cycle(config):
    config["calls"][0]["args"] = [{"symbol": ["sum", 0, 0]}]


LEFT, RIGHT = layers.Input((4,), name="left"), layers.Input((3,), name="right")
ERRORS = [
    (lambda m: models.Model(LEFT, layers.concatenate([LEFT, RIGHT]), name="m"),
     r"m: expected outputs that follow from the inputs left, got one that needs right \(batch, 3"),
    (lambda m: models.Model(LEFT, RIGHT), r"needs right \(batch, 3\)"),
    (lambda m: models.Model([LEFT, LEFT], LEFT), "expected inputs of different names, got 'left'"),
    (lambda m: models.Model(LEFT, np.ones(3)), r"outputs made by Input .* got ndarray of shape"),
    (lambda m: models.Model(LEFT, []), "at least one of outputs"),
    (lambda m: models.Model(LEFT), "expected inputs and outputs, got no outputs"),
    (lambda m: models.Model(layers.Dense(2), LEFT), "expected inputs made by Input"),
    (lambda m: models.Model(LEFT, layers.Dense(2, name="left")(LEFT)), "'left' twice"),
    (lambda m: m.get_layer("shared")(LEFT),
     r"shared: expected input \(batch, 8\), got \(batch, 4\)"),
    (lambda m: m(A), r"towers: expected 2 inputs \(left, right\), got one of shape \(50, 4\)"),
    (lambda m: m([A, B, B]), "got a list of 3"),
    (lambda m: m({"left": A, "wrong": B}), "got left, wrong"),
    (lambda m: m.predict([A, B[:, :2]]), r"right: expected input \(batch, 3\), got \(50, 2\)"),
    (lambda m: m.predict([A, B[:9]]), r"predict: expected x\['right'\] with 50 rows like x, got 9"),
    (lambda m: m.fit([A, B], Y), r"towers: expected 2 outputs \(value, kind\)"),
    (lambda m: m.fit([A, B], {"value": Y, "nope": Y}), "got value, nope"),
    (lambda m: m.fit([A, B], {"value": Y}), "expected y for the loss of kind, got None"),
    (lambda m: m.compile("sgd", {"nope": "mse"}), "loss for the outputs value, kind, got nope"),
    (lambda m: m.compile("sgd", "mse", metrics=["mae"]), "metrics for the outputs value, kind"),
    (lambda m: m.compile("sgd", "mse", loss_weights=[1.0]), "loss_weights for the outputs"),
    (lambda m: layers.add([LEFT, RIGHT], name="plus"),
     r"plus: expected shapes that broadcast together, got \(batch, 4\) and \(batch, 3\)"),
    (lambda m: layers.add(LEFT), r"expected a list of 1 or more inputs, got one of shape"),
    (lambda m: layers.subtract([LEFT, LEFT, LEFT]), "expected a list of 2 inputs, got 3"),
    (lambda m: merged("concatenate", (2, 3), (3, 3)), r"differ on axis -1 only, got \(batch, 2, 3"),
    (lambda m: merged("concatenate", (2, 3), (3,)), "differ on axis"),
    (lambda m: merged("dot", (2, 3), (3, 4), axes=1), "inputs of one size along the axes"),
    (lambda m: merged("dot", (2, 3), (3, 4), axes=0), "expected an axis after the batch"),
    (lambda m: layers.Dense(2).output, "expected a layer in a graph for output"),
    (lambda m: layers.Dense(2, name="d")(layers.Flatten()(layers.Input((None, 4)))),
     r"d: expected known sizes where weights depend on them, got \(None, None\)"),
    (lambda m: layers.Input((0,)), "expected a shape of positive ints or None"),
    (lambda m: np.asarray(LEFT), "expected an array with values"),
    (lambda m: list(LEFT), "ops.unstack"),
    (lambda m: bool(LEFT > 0), "ops.where"),
    (lambda m: layers.Dense(2)("text"), "expected numbers"),
    (lambda m: layers.Lambda(lambda x: x + LEFT)(A), "expected an array with values"),
    (lambda m: graph_with(cycle), "graphs cannot have cycles"),
    (lambda m: graph_with(lambda c: c["calls"][0].update(layer="nope")), "nope: expected the"),
    (lambda m: graph_with(lambda c: c["layers"].pop(0)), "not called yet"),
    (lambda m: models.Model(LEFT, LEFT + dlcore.Variable(1.0)).get_config(), "can be saved"),
    (lambda m: models.Model(LEFT, layers.Lambda(lambda x: x)(LEFT)).get_config(), "can be saved"),
]  # fmt: skip


@pytest.mark.parametrize(("act", "message"), ERRORS, ids=[m for _, m in ERRORS])
def test_errors(act, message):
    model = compiled(two_towers())
    with pytest.raises((ValueError, TypeError, AttributeError), match=message):
        act(model)
    compiled(model).fit([A, B], [Y, LABELS], verbose=0)  # the model still works


def test_results_of_a_function_die_at_once():
    """A list of results is in no cycle, so the next call finds their memory in the pool."""
    f = dlcore.function(lambda x: [x * 2.0, {"sum": ops.sum(x, axis=0)}])
    x = np.ones((8, 4), "float32")
    gc.disable()
    try:
        results = f(x)
        dying = [weakref.ref(results[0]), weakref.ref(results[1]["sum"])]
        del results
        assert [y() for y in dying] == [None, None]
    finally:
        gc.enable()


def test_ops_on_symbols_by_keyword():
    a = layers.Input((3,))
    y = ops.concatenate(xs=[a, ops.add(x1=a, x2=ops.multiply(x1=2, x2=a))], axis=1)
    x = np.ones((1, 3), "float32")
    np.testing.assert_array_equal(models.Model(a, y)(x), [[1, 1, 1, 3, 3, 3]])


def test_batches_joined_with_an_axis_or_cut_into_groups():
    x = layers.Input((4, 6))
    flat = ops.reshape(x, (-1, 6))
    again = ops.reshape(layers.Dense(2)(flat), (-1, 4, 2))
    assert flat.shape == (None, 6) and again.shape == (None, 4, 2)
    groups = ops.reshape(x, (4, -1, 24))
    assert groups.shape == (4, None, 24)
    model = models.Model(x, [again, ops.tile(ops.mean(groups, 0), (4, 1))])
    assert model.output_shape == [(None, 4, 2), (None, 24)]
    y, mean = model.predict(np.ones((8, 4, 6)), verbose=0)
    assert y.shape == (8, 4, 2) and mean.shape == (8, 24)


def test_lists_of_tensors_are_stacked():
    def f(a, b):
        return ops.convert_to_tensor([[a, 1.0], [2, b]])

    expected = np.array([[1, 1], [2, 2]], "float32")
    np.testing.assert_array_equal(dlcore.function(f)(np.float32(1), np.float32(2)), expected)


@pytest.mark.parametrize("form", [list, tuple])
def test_one_output_in_a_list(form, tmp_path):
    """Results come out of it; as symbols it stays as it is given."""
    x = layers.Input((3,))
    y = layers.Dense(2)(x)
    model, plain = models.Model([x], form([y])), models.Model(x, y)
    data = np.ones((4, 3), "float32")
    for result in (model(data), model([data]), model.predict(data, verbose=0)):
        np.testing.assert_array_equal(result, plain(data))
    assert model.output_shape == (None, 2) and model.input_shape == (None, 3)
    assert type(model.output) is form and model.outputs == [y]
    model.compile("sgd", ["mse"])
    model.fit(data, [np.ones((4, 2))], verbose=0)
    (inner,) = model(layers.Input((3,)))
    assert inner.shape == (None, 2)
    outer = models.Model(x, layers.Dense(1)(model(x)[0]))
    outer.save(tmp_path / "m.safetensors")
    again = models.load_model(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again(data), outer(data))


def test_one_size_of_batches_and_any_number_of_steps():
    x = layers.Input(batch_shape=(4, None, 2))
    y = layers.GRU(3, return_sequences=True, stateful=True)(x)
    model = models.Model(x, [y, layers.GlobalMaxPooling1D()(y)])
    for steps in (5, 7):
        data = np.ones((8, steps, 2), "float32")
        long, short = model.predict(data, batch_size=4, verbose=0)
        assert long.shape == (8, steps, 3) and short.shape == (8, 3)
