"""Layers: values against NumPy loops in float64, building, tracking of weights, configurations,
errors.
"""

import copy
import inspect
import math
import pickle

import numpy as np
import pytest

import dlcore
from dlcore import layers, ops
from dlcore.layers.names import automatic_name, reset_names

RNG = np.random.default_rng(5)


def batch(*shape):
    return RNG.normal(size=shape).astype("float32")


def numpy_of(layer):
    return [w.astype("float64") for w in layer.get_weights()]


def dense_loop(x, w, b):
    y = np.zeros((len(x), w.shape[1]))
    for n in range(len(x)):
        for u in range(w.shape[1]):
            y[n, u] = b[u] + sum(float(x[n, d]) * w[d, u] for d in range(w.shape[0]))
    return y


@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_dense(activation):
    layer = layers.Dense(5, activation, bias_initializer="random_normal")
    x = batch(7, 3)
    y = layer(x)
    expected = dense_loop(x, *numpy_of(layer))
    expected = {"relu": lambda v: np.maximum(v, 0), "tanh": np.tanh, None: lambda v: v}[activation](
        expected
    )
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_dense_on_more_axes_and_without_bias():
    layer = layers.Dense(4, use_bias=False)
    x = batch(2, 3, 5)
    y = layer(x)
    assert y.shape == (2, 3, 4) and len(layer.weights) == 1
    np.testing.assert_allclose(
        y[1, 2], dense_loop(x[1, 2:3], *numpy_of(layer), np.zeros(4))[0], rtol=1e-5
    )


def test_maxout():
    layer = layers.Maxout(3, k=4, bias_initializer="random_normal")
    x = batch(6, 5)
    y = layer(x)
    w, b = numpy_of(layer)
    pieces = [dense_loop(x, w[:, 3 * j : 3 * j + 3], b[3 * j : 3 * j + 3]) for j in range(4)]
    np.testing.assert_allclose(y, np.max(pieces, axis=0), rtol=1e-5, atol=1e-6)


def test_maxout_pieces_differ_also_with_a_seed():
    layer = layers.Maxout(3, k=2, kernel_initializer=dlcore.initializers.GlorotUniform(seed=3))
    layer.build((None, 8))
    w = layer.kernel.numpy()
    assert not np.array_equal(w[:, :3], w[:, 3:])
    assert np.abs(w).max() <= math.sqrt(6 / (8 + 3))  # each piece has its own fan in and out


ACTIVATION_LAYERS = [
    (layers.ReLU(), lambda x: np.maximum(x, 0)),
    (layers.ReLU(max_value=1.0), lambda x: np.clip(x, 0, 1)),
    (
        layers.ReLU(negative_slope=0.1, threshold=0.5),
        lambda x: np.where(x >= 0.5, x, 0.1 * (x - 0.5)),
    ),
    (layers.LeakyReLU(), lambda x: np.where(x >= 0, x, 0.3 * x)),
    (layers.LeakyReLU(alpha=0.2), lambda x: np.where(x >= 0, x, 0.2 * x)),
    (layers.ELU(alpha=2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(x))),
    (layers.Activation("sigmoid"), lambda x: 1 / (1 + np.exp(-x))),
    (layers.Activation(lambda x: x * x), lambda x: x * x),
    (layers.Lambda(lambda x, by: x / by, arguments={"by": 4.0}), lambda x: x / 4),
    (layers.Lambda(lambda x, training=None: x * (3 if training else 2)), lambda x: 2 * x),
    (layers.Identity(), lambda x: x),
    (layers.Flatten(), lambda x: x.reshape(len(x), -1)),
    (layers.Flatten("channels_first"), lambda x: x.transpose(0, 2, 1).reshape(len(x), -1)),
    (layers.Reshape((4, 3)), lambda x: x.reshape(-1, 4, 3)),
    (layers.Reshape((2, -1)), lambda x: x.reshape(-1, 2, 6)),
    (layers.PReLU("ones"), lambda x: x),
    (layers.Dropout(0.5), lambda x: x),
]


@pytest.mark.parametrize(
    ("layer", "formula"), ACTIVATION_LAYERS, ids=lambda v: getattr(v, "name", "")
)
def test_layers_without_a_matrix(layer, formula):
    x = batch(5, 3, 4)
    y = layer(x)
    np.testing.assert_allclose(y, formula(x.astype("float64")), rtol=1e-5, atol=1e-6)
    assert layer.compute_output_shape((None, 3, 4)) == (None, *y.shape[1:])


def test_softmax_layer():
    x = batch(4, 6)
    e = np.exp(x.astype("float64"))
    np.testing.assert_allclose(layers.Softmax()(x), e / e.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(layers.Softmax(axis=0)(x), e / e.sum(0), rtol=1e-5)
    np.testing.assert_allclose(layers.Softmax(axis=(0, 1))(x), e / e.sum(), rtol=1e-5)
    seen = np.arange(x.size).reshape(x.shape) % 3 > 0
    seen[0] = False
    part = np.where(seen, e, 0)
    part[1:] /= part[1:].sum(1, keepdims=True)
    np.testing.assert_allclose(layers.Softmax()(x, mask=seen), part, rtol=1e-5)


def test_prelu_shares_axes():
    layer = layers.PReLU(alpha_initializer="ones", shared_axes=[1])
    layer.build((None, 3, 4))
    assert layer.alpha.shape == (1, 4)
    layer.set_weights([np.full((1, 4), 0.5, "float32")])
    np.testing.assert_allclose(layer(-np.ones((2, 3, 4), "float32")), np.full((2, 3, 4), -0.5))


def test_dropout_while_training():
    layer = layers.Dropout(0.25, seed=1)
    x = np.ones((200, 100), "float32")
    y = layer(x, training=True)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.02
    assert not np.array_equal(y, layer(x, training=True))  # a new draw
    np.testing.assert_array_equal(layer(x), x)
    np.testing.assert_array_equal(layers.Dropout(1)(x, training=True), 0 * x)
    shared = layers.Dropout(0.5, noise_shape=(None, 1), seed=2)(x, training=True)
    assert (shared == shared[:, :1]).all() and 0 < shared.mean() < 2


class Doubling(layers.Layer):
    """A layer with inner layers in containers, which doubles only while training."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.stack = [layers.Dense(units, name="first")]
        self.stack.append(layers.Dense(units, name="second"))
        self.named = {"scale": layers.PReLU()}

    def build(self, input_shape):
        self.shift = self.add_weight((self.units,), "ones", name="shift")
        self.counter = self.add_weight((), dtype="int32", trainable=False, name="counter")

    def call(self, inputs, training=None):
        x = self.named["scale"](self.stack[1](self.stack[0](inputs))) + self.shift
        self.add_loss(ops.mean(x))
        return x * 2.0 if training else x


def test_custom_layer():
    layer = Doubling(3)
    x = batch(4, 2)
    y = layer(x)
    names = [w.name for w in layer.weights]
    assert names == ["shift", "counter", "kernel", "bias", "kernel", "bias", "alpha"]
    assert [w.name for w in layer.non_trainable_weights] == ["counter"]
    assert layer.count_params() == 3 + 1 + 9 + 12 + 3
    np.testing.assert_allclose(layer(x, training=True), 2 * y, rtol=1e-6)
    np.testing.assert_allclose(layer.losses, [np.mean(y)], rtol=1e-5)
    layer.stack[0].trainable = False
    assert len(layer.trainable_weights) == 4
    layer.trainable = False
    assert layer.trainable_weights == [] and len(layer.non_trainable_weights) == 7


def test_variable_as_an_attribute_is_a_weight():
    class Shift(layers.Layer):
        def __init__(self):
            super().__init__()
            self.by = dlcore.Variable(np.float32(2))

        def call(self, x):
            return x + self.by

    layer = Shift()
    assert layer.weights == [layer.by]
    np.testing.assert_array_equal(layer(np.zeros((1, 2), "float32")), [[2, 2]])


def test_training_reaches_inner_layers():
    class Outer(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dropout(0.9, seed=0)

        def call(self, x):
            return self.inner(x)

    x = np.ones((4, 50), "float32")
    layer = Outer()
    assert (layer(x, training=True) == 0).any() and (layer(x) == 1).all()


def test_several_inputs():
    class Sum(layers.Layer):
        def call(self, inputs):
            return inputs["a"] + inputs["b"][0]

    x = batch(2, 3)
    np.testing.assert_allclose(Sum()({"a": x, "b": [x]}), 2 * x)


def test_regularizers():
    layer = layers.Dense(
        2, kernel_initializer="ones", kernel_regularizer="l2", bias_regularizer="l1",
        bias_initializer="ones", activity_regularizer=dlcore.regularizers.L1(0.5),
    )  # fmt: skip
    y = layer(np.ones((5, 3), "float32"))
    np.testing.assert_array_equal(y, [[4, 4]] * 5)
    np.testing.assert_allclose(sorted(map(float, layer.losses)), [0.02, 0.06, 4.0], rtol=1e-6)


def test_losses_after_predict():
    """Those of the weights: the program's own have no values that could be read."""
    dense = layers.Dense(1, "relu", kernel_regularizer="l1", activity_regularizer="l2")
    model = dlcore.Sequential([dlcore.Input((2,)), dense])
    dense.set_weights([np.ones((2, 1)), np.zeros(1)])
    for rows in (1, 100):
        model.predict(np.ones((rows, 2)), verbose=0)
        np.testing.assert_allclose([float(x) for x in model.losses], [0.02], rtol=1e-6)
    model(np.ones((3, 2), "float32"))
    np.testing.assert_allclose([float(x) for x in model.losses], [0.04, 0.02], rtol=1e-6)


def test_names():
    reset_names()
    assert [layers.Dense(1).name for _ in range(3)] == ["dense", "dense_1", "dense_2"]
    assert layers.PReLU().name == "p_re_lu" and layers.LeakyReLU().name == "leaky_re_lu"
    assert layers.Dense(1, name="own").name == "own" and layers.Dense(1).name == "dense_3"
    assert automatic_name("thing") == "thing"


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dense(3, "relu", kernel_regularizer=dlcore.regularizers.L1L2(0.1, 0.2), name="d"),
        layers.Dense(2, activation=layers.LeakyReLU(0.1), kernel_initializer="he_normal"),
        layers.Maxout(2, 3, use_bias=False),
        layers.Dropout(0.3, noise_shape=(None, 1), seed=4),
        layers.Flatten(),
        layers.Reshape((1, -1)),
        layers.LeakyReLU(0.2),
        layers.PReLU(shared_axes=[1]),
        layers.ReLU(6.0),
        layers.ELU(0.5),
        layers.Softmax(0),
        layers.Activation("gelu"),
        layers.InputLayer((3,)),
        Doubling(4, name="twice", dtype="float64", trainable=False),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    saved = layers.serialize(layer)
    again = layers.deserialize(saved, {"Doubling": Doubling})
    assert type(again) is type(layer)
    assert (again.name, again.dtype, again.trainable) == (layer.name, layer.dtype, layer.trainable)
    assert layers.serialize(again) == saved
    import json

    read = json.loads(json.dumps(saved))
    assert layers.serialize(layers.deserialize(read, {"Doubling": Doubling})) == saved


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_have_the_weights(clone):
    layer = layers.Dense(3)
    x = batch(2, 4)
    y = layer(x)
    other = clone(layer)
    np.testing.assert_array_equal(other(x), y)
    other.set_weights([np.zeros((4, 3)), np.zeros(3)])
    np.testing.assert_array_equal(layer(x), y)


def test_float64():
    layer = layers.Dense(2, dtype="float64")
    assert layer(batch(1, 3)).dtype == np.float64 and layer.kernel.dtype == "float64"
    assert layers.Dense(2)(batch(1, 3).astype("float64")).dtype == np.float32


def test_other_inputs():
    layer = layers.Dense(2, kernel_initializer="ones")
    expected = [[6, 6]]
    for x in ([[1, 2, 3]], np.array([[1, 2, 3]], "uint8"), np.array([[1, 2, 3]], ">f8")):
        np.testing.assert_array_equal(layer(x), expected)
    wide = np.zeros((4, 6), "float32")
    wide[:, ::2] = [1, 2, 3]
    np.testing.assert_array_equal(layer(wide[:, ::2]), np.full((4, 2), 6))
    assert layer(np.zeros((0, 3), "float32")).shape == (0, 2)


def built(layer, *shape):
    layer.build(shape)
    return layer


ERRORS = [
    (lambda: built(layers.Dense(2, name="d"), None, 128)(batch(32, 64)),
     r"d: expected input \(batch, 128\), got \(32, 64\)"),
    (lambda: built(layers.Maxout(2, name="m"), None, 8)(batch(3, 7)),
     r"m: expected input \(batch, 8\)"),
    (lambda: layers.Dense(2, name="d")(np.ones(3, "float32")), "d: expected input"),
    (lambda: layers.Dense(0), "expected units as an int above 0, got 0"),
    (lambda: layers.Dense(2.5), "expected units"),
    (lambda: layers.Dense(2, "rleu"), "did you mean 'relu'"),
    (lambda: layers.Dense(2, kernel_initializer="glorot_unifrom"), "glorot_uniform"),
    (lambda: layers.Dense(2, kernel_initialiser="ones"), "did you mean 'kernel_initializer'"),
    (lambda: layers.Maxout(2, k=0), "expected k"),
    (lambda: layers.Dropout(1.5), "expected rate between 0 and 1, got 1.5"),
    (lambda: layers.Reshape((0,)), "expected target_shape"),
    (lambda: layers.Reshape((5,), name="r")(batch(2, 4)),
     r"r: expected rows that reshape to \(5,\)"),
    (lambda: layers.LeakyReLU(-1), "negative_slope"),
    (lambda: layers.Input(), "expected shape"),
    (lambda: layers.Input((0,)), "positive ints"),
    (lambda: layers.Dense(2, name=3), "expected a string as name"),
    (lambda: layers.Dense(2, dtype="float12"), "float12"),
    (lambda: layers.Dense(2).count_params(), "expected a built layer"),
    (lambda: built(layers.Dense(2), None, 3).set_weights([np.ones(3)]),
     "expected 2 weights, got 1"),
    (lambda: built(layers.Dense(2), None, 3).set_weights([np.ones((3, 3)), np.ones(2)]),
     "of shape"),
    (lambda: layers.Layer()(batch(1, 1)), "defines call"),
    (lambda: layers.Lambda(3), "expected a function"),
    (lambda: layers.Input((3,), sparse=True, name="x"), "x: expected no sparse, got True"),
    (lambda: layers.Dense(2)([["a"]]), "expected numbers"),
    (lambda: layers.deserialize({"class_name": "Dens", "config": {}}), "built-in class"),
]  # fmt: skip


@pytest.mark.parametrize(("act", "message"), ERRORS, ids=[m for _, m in ERRORS])
def test_errors(act, message):
    with pytest.raises((ValueError, TypeError, NotImplementedError), match=message):
        act()


def test_set_weights_changes_nothing_on_error():
    layer = built(layers.Dense(2), None, 3)
    before = layer.get_weights()
    with pytest.raises(ValueError, match="of shape"):
        layer.set_weights([np.ones((3, 2)), np.ones(5)])
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_configs_keep_tuples():
    for layer in (layers.Conv2D(2, 5), layers.DepthwiseConv2D(5)):
        assert layer.get_config()["kernel_size"] == (5, 5)
        assert type(layer).from_config(layer.get_config()).kernel_size == (5, 5)


def test_inputs_by_name():
    class Weighted(layers.Layer):
        def build(self, query_shape, value_shape):
            self.shapes = query_shape, value_shape

        def call(self, query, value):
            return query * ops.sum(value, axis=-1, keepdims=True)

    x, y = np.ones((2, 3), "float32"), np.ones((2, 5), "float32")
    layer = Weighted()
    for result in (layer(query=x, value=y), layer(x, y), layer(value=y, query=x)):
        np.testing.assert_array_equal(result, 5 * x)
    assert layer.shapes == ((None, 3), (None, 5))
    attention = layers.MultiHeadAttention(1, 2)
    a, b = x[None], attention(query=x[None], value=x[None], key=x[None])
    np.testing.assert_array_equal(attention(a, a), b)
    with pytest.raises(TypeError, match="expected query, got none"):
        layer(value=y)


def test_sizes_may_be_computed():
    class Causal(layers.Layer):
        def call(self, x):
            n = ops.shape(x)[0]
            repeats = ops.concatenate([ops.expand_dims(n, -1), ops.convert_to_tensor([1, 1])], 0)
            return ops.tile(ops.ones((1, 2, 2)), repeats)

    assert Causal()(np.ones((3, 2))).shape == (3, 2, 2)
    with pytest.raises(TypeError, match="expected a tuple of integers"):
        dlcore.function(lambda n: ops.ones((n, 2)))(np.array(3))


class Switched(layers.Layer):
    def __init__(self):
        super().__init__()
        self.by, self.norm = 1, layers.BatchNormalization()

    def call(self, images, training=None):
        return self.norm(images, training=training) * self.by


def test_a_call_follows_attributes():
    """Also through other layers, and where it is compiled for shapes already seen."""
    x = batch(8, 3)
    layer = Switched()
    outer = dlcore.Sequential([layer])
    y = outer(x)
    layer.by = 2
    np.testing.assert_array_equal(outer(x), 2 * y)
    np.testing.assert_array_equal(layer(images=x), 2 * y)
    normalized = outer(x, training=True)
    layer.norm.trainable = False
    assert (outer(x, training=True) != normalized).any()


@pytest.mark.parametrize(
    "layer",
    [layers.Dense(2, "tanh"), layers.Conv1D(2, 1, activation="tanh"),
     layers.EinsumDense("abc,cd->abd", (None, 2), activation="tanh"), layers.Activation("tanh")],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_activations_can_be_taken_off(layer):
    x = batch(2, 4, 3)
    y = layer(x)
    layer.activation = None
    np.testing.assert_allclose(np.tanh(layer(x)), y, rtol=1e-5)


# What constructors need; the others are called without arguments.
GIVEN = {
    "filters": 2, "kernel_size": 3, "units": 3, "rate": 0.5, "stddev": 0.1, "input_dim": 5,
    "output_dim": 4, "num_heads": 2, "key_dim": 4, "head_dim": 4, "num_query_heads": 2,
    "num_key_value_heads": 1, "factor": 0.1, "height": 4, "width": 4, "target_shape": (2, 2),
    "dims": (1,), "n": 3, "scale": 0.5, "axes": 1, "num_bins": 4, "height_factor": 0.1,
    "vocabulary_size": 9, "sequence_length": 5, "embedding_dim": 4, "intermediate_dim": 8,
    "output_size": 2, "activation": "relu",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted({n for n in dir(layers) if n[0].isupper()} - {"Input"}))
def test_layers_come_back_from_what_they_say_of_themselves(name):
    cls = getattr(layers, name)
    needed = [
        p.name
        for p in list(inspect.signature(cls).parameters.values())
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if not issubclass(cls, layers.Layer) or not GIVEN.keys() >= set(needed) or name == "Layer":
        pytest.skip("abstract, or its arguments are layers, functions or tables")
    try:
        layer = cls(**{p: GIVEN[p] for p in needed})
    except ValueError:
        pytest.skip("needs one of several arguments")
    config = layers.serialize(layer)
    assert layers.serialize(layers.deserialize(config)) == config
