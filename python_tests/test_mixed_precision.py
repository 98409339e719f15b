"""Mixed precision: rounding to halves, policies of layers, training in them, loss scaling."""

import pickle

import numpy as np
import pytest

import dlcore
from dlcore import backends, layers, models, ops, optimizers
from dlcore.backends import arrays
from dlcore.layers import spec
from dlcore.program.graph import Graph, Trace
from dlcore.program.widen import widen

HALVES = ("bfloat16", "float16")
POLICIES = ("mixed_bfloat16", "mixed_float16")


@pytest.fixture(autouse=True)
def default_policy():
    yield
    dlcore.config.set_dtype_policy(None)


# Rounding

_BITS = np.random.default_rng(0).integers(0, 2**32, 20000, "uint64").astype("uint32")
_EDGES = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.9, 65520, -65520, 3.39e38, 3.4e38, 1e-40]
    + [1 + k * 2.0**-e for e in (7, 8, 9, 10, 11, 12) for k in (1, 3)]  # ties and their neighbours
    + [k * 2.0**-26 for k in range(9)],  # what float16 holds as subnormals, and ties between
    "float32",
)
NUMBERS = np.concatenate([_BITS.view("float32"), _EDGES, np.linspace(-7e4, 7e4, 999, dtype="f")])


def rounded(x, dtype):
    """float32 numbers as the half stores them, by other means: NumPy's float16, and the upper
    halves of the bits."""
    if dtype == "float16":
        with np.errstate(all="ignore"):
            return x.astype("float16").astype("float32")
    bits = x.view("uint32").astype("uint64")
    upper = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
    return np.where(np.isnan(x), x, upper.astype("uint32").view("float32"))


def same_bits(a, b):
    return np.all((a.view("uint32") == b.view("uint32")) | (np.isnan(a) & np.isnan(b)))


@pytest.mark.parametrize("dtype", HALVES)
def test_cast_rounds(dtype):
    expected = rounded(NUMBERS, dtype)
    assert same_bits(ops.cast(NUMBERS, dtype), expected)
    with np.errstate(invalid="ignore"):
        doubles = NUMBERS.astype("float64")
    assert same_bits(ops.cast(doubles, dtype), expected)
    program = arrays.ArrayProgram(_graph(lambda x: ops.cast(ops.cast(x, dtype), "float32")))
    assert same_bits(program(NUMBERS)[0], expected)


def _graph(f, shape=NUMBERS.shape):
    with Trace() as trace:
        return Graph(trace, [f(trace.input(shape, "float32"))])


@pytest.mark.parametrize("dtype", HALVES)
def test_halves_widen_to_float32_that_is_rounded_where_it_is_stored(dtype):
    graph = _graph(lambda x: ops.exp(ops.relu(ops.cast(x, dtype) * 3)))
    names = [node.op.name for node in widen(graph).nodes]
    rounding = {"bfloat16": "round_bf16", "float16": "round_f16"}[dtype]
    assert names == ["input", rounding, "constant", "multiply", "relu", "exp", rounding]
    graph = _graph(lambda x: x * 3)
    assert widen(graph) is graph


def test_rounding_rides_in_the_product_before_it():
    def f(x, w):
        x, w = ops.cast(x, "bfloat16"), ops.cast(w, "bfloat16")
        return ops.relu(ops.matmul(x, w) + 1)

    x, w = np.ones((64, 32), "float32"), np.ones((32, 16), "float32")
    kernels = [i["kernel"] for i in dlcore.function(f).compiled(x, w).instructions]
    assert kernels in ([], ["pointwise", "pointwise", "gemm"])  # [] are formulas


@pytest.mark.parametrize("dtype", HALVES)
def test_sums_and_moments_of_halves_are_taken_in_float32(dtype):
    def f(x):
        x = ops.cast(x, dtype)
        mean, variance = ops.moments(x, 0)
        return ops.mean(x), mean, variance, ops.var(x), ops.logsumexp(x)

    x = np.tile(np.array([30000, 30100], "float32"), 1000)[:, None]
    x = rounded(x, dtype)
    expected = [x.mean(), [x.mean()], [x.var()], x.var(), x.max() + np.log(1000)]
    for y, e in zip(dlcore.function(f)(x), expected, strict=True):
        np.testing.assert_allclose(y, e, rtol=2**-8)


def test_promotion():
    with Trace() as trace:
        half, other = (trace.input((2,), h) for h in HALVES)
        assert (half * 2.0).dtype == "bfloat16"
        assert (half + ops.ones((2,), "int64")).dtype == "bfloat16"
        assert (half + other).dtype == (half + ops.ones((2,))).dtype == "float32"
        assert ops.mean(half).dtype == ops.zeros_like(half).dtype == "bfloat16"


# Policies


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_says_what_layers_compute_and_keep(policy):
    half = policy.removeprefix("mixed_")
    given = layers.Dense(3, dtype=policy)
    dlcore.config.set_dtype_policy(policy)
    assert dlcore.config.dtype_policy() == dlcore.DTypePolicy(policy)
    for layer in (given, layers.Dense(3), layers.Dense(3, dtype=dlcore.DTypePolicy())):
        assert layer.dtype_policy.name == policy
        assert (layer.compute_dtype, layer.variable_dtype) == (half, "float32")
        y = layer(np.full((2, 4), 1.2345, "float32"))
        assert y.dtype == layer.dtype == layer.kernel.dtype == "float32"
        x, w = (
            rounded(np.full((2, 4), 1.2345, "float32"), half),
            rounded(layer.kernel.numpy(), half),
        )
        np.testing.assert_allclose(y, x @ w, rtol=1e-5, atol=1e-6)
        assert spec.output_spec(layer, spec.Spec((None, 4), "float32")).dtype == half
    assert layers.Dense(3, dtype="float32").compute_dtype == "float32"


def test_layers_of_float32_are_not_touched_by_the_policy():
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    first = layers.Dense(3)
    expected = first(x)
    dlcore.config.set_dtype_policy("mixed_bfloat16")
    second = layers.Dense(3, dtype="float32")
    second.build((None, 4))
    second.set_weights(first.get_weights())
    assert np.array_equal(second(x), expected)

    class Outer(layers.Layer):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner
            self.w = self.add_weight((4,), "ones")

        def call(self, x):
            assert ops.multiply(x, self.w).dtype == self.w.value.dtype == "bfloat16"
            y = self.inner(x)
            assert self.w.value.dtype == "bfloat16"
            return y

    assert np.array_equal(Outer(second)(x), first(ops.cast(x, "bfloat16")))


def test_names_are_those_of_keras():
    from dlcore import mixed_precision

    mixed_precision.set_global_policy("mixed_float16")
    assert mixed_precision.global_policy() == mixed_precision.Policy("mixed_float16")
    assert repr(dlcore.config.dtype_policy()) == '<DTypePolicy "mixed_float16">'
    assert mixed_precision.LossScaleOptimizer is optimizers.LossScaleOptimizer
    policy = dlcore.dtype_policies.get("mixed_bfloat16")
    assert dlcore.dtype_policies.deserialize(dlcore.dtype_policies.serialize(policy)) == policy
    assert layers.Dense(1, dtype=np.float64).dtype == "float64"


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("mixed_bfloat", ValueError, "did you mean 'mixed_bfloat16'"),
        ("mixed_half", ValueError, "did you mean 'mixed_"),
        ("float23", ValueError, "did you mean 'float32'"),
        ("bfloat16", ValueError, "use 'mixed_bfloat16'"),
        (3.5, TypeError, "expected a name, got 3.5"),
    ],
)
def test_unknown_policies_are_refused(name, error, message):
    with pytest.raises(error, match=message):
        layers.Dense(1, dtype=name)
    with pytest.raises(error, match=message):
        dlcore.config.set_dtype_policy(name)


_ROWS = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
_STEPS = np.random.default_rng(1).normal(size=(2, 6, 4)).astype("float32")
_IMAGES = np.random.default_rng(2).normal(size=(2, 8, 8, 4)).astype("float32")
LAYERS = [
    (layers.Dense, _ROWS, {"units": 4, "activation": "softmax"}),
    (layers.Conv2D, _IMAGES, {"filters": 3, "kernel_size": 3, "activation": "gelu"}),
    (layers.DepthwiseConv2D, _IMAGES, {"kernel_size": 3}),
    (layers.Conv2DTranspose, _IMAGES, {"filters": 3, "kernel_size": 3}),
    (layers.MaxPooling2D, _IMAGES, {}),
    (layers.AveragePooling2D, _IMAGES, {}),
    (layers.GlobalAveragePooling2D, _IMAGES, {}),
    (layers.BatchNormalization, _IMAGES, {}),
    (layers.GroupNormalization, _IMAGES, {"groups": 2}),
    (layers.LayerNormalization, _STEPS, {}),
    (layers.UnitNormalization, _ROWS, {}),
    (layers.Dropout, _ROWS, {"rate": 0.5}),
    (layers.GaussianNoise, _ROWS, {"stddev": 0.1}),
    (layers.LSTM, _STEPS, {"units": 3, "return_sequences": True}),
    (layers.GRU, _STEPS, {"units": 3}),
    (layers.RNN, _STEPS, {"cell": layers.LSTMCell(3, dtype="mixed_bfloat16")}),
    (layers.Embedding, np.array([[1, 2], [0, 3]]), {"input_dim": 5, "output_dim": 3}),
    (layers.Resizing, _IMAGES, {"height": 4, "width": 4}),
    (layers.UpSampling2D, _IMAGES, {"interpolation": "bilinear"}),
    (layers.RandomRotation, _IMAGES, {"factor": (0.1, 0.1)}),
    (layers.Normalization, _ROWS, {"mean": 1.0, "variance": 4.0}),
]


@pytest.mark.parametrize(("cls", "x", "given"), LAYERS, ids=[c[0].__name__ for c in LAYERS])
def test_every_layer_computes_in_the_policy(cls, x, given):
    layer = cls(**given, dtype="mixed_bfloat16")
    inputs = spec.Spec((None, *x.shape[1:]), x.dtype.name)
    for training in (False, True):
        outputs = spec.leaves(spec.output_spec(layer, inputs, training=training))
        assert {y.dtype for y in outputs} == {"bfloat16"}
    y = layer(x)
    assert y.dtype == "float32" and all(v.dtype == "float32" for v in layer.weights)
    same = cls.from_config(layer.get_config())
    assert same.dtype_policy == layer.dtype_policy
    plain = cls(**{**given, "cell": layers.LSTMCell(3)} if "cell" in given else given)
    plain.build(x.shape)
    plain.set_weights(layer.get_weights())
    expected = plain(x)
    assert np.abs(y - expected).max() <= 0.02 * max(1, np.abs(expected).max())


# Models


def _data(n=256):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, 10, 10, 2)).astype("float32")
    return x, (x[:, ::2].sum((1, 2, 3)) > x[:, 1::2].sum((1, 2, 3))).astype("int32")


def _model(policy):
    dlcore.config.set_dtype_policy(policy)
    dlcore.utils.set_random_seed(1)
    return models.Sequential(
        [
            layers.Input((10, 10, 2)),
            layers.Conv2D(8, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dropout(0.1),
            layers.Dense(2, activation="softmax", dtype="float32"),
        ]
    )


def _trained(policy, epochs=6):
    model = _model(policy)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(*_data(), epochs=epochs, batch_size=32, verbose=0)
    return model, history.history


def test_training_ends_near_float32():
    _, expected = _trained("float32")
    for policy in POLICIES:
        model, history = _trained(policy)
        assert history["loss"] != expected["loss"]
        np.testing.assert_allclose(history["loss"], expected["loss"], rtol=0.03)
        assert {v.dtype for v in model.trainable_weights} == {"float32"}
        assert model.predict(_data()[0], verbose=0).dtype == "float32"


@pytest.mark.skipif(backends.isa() == "numpy", reason="formulas know no threads")
@pytest.mark.parametrize("policy", POLICIES)
def test_same_bits_for_any_number_of_threads(policy):
    before, found = dlcore.get_num_threads(), []
    try:
        for n in (1, 2, 3, 7):
            dlcore.set_num_threads(n)
            found.append(_trained(policy, epochs=1)[0].get_weights())
    finally:
        dlcore.set_num_threads(before)
    for weights in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(weights, found[0], strict=True))


@pytest.mark.parametrize("policy", POLICIES)
def test_saved_cloned_and_pickled_models_keep_the_policy(policy, tmp_path):
    model, _ = _trained(policy, epochs=1)
    dlcore.config.set_dtype_policy(None)
    x = _data()[0]
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "model.dlcore")
    loaded = models.load_model(tmp_path / "model.dlcore")
    cloned = models.clone_model(model)
    cloned.set_weights(model.get_weights())
    for other in (loaded, cloned, pickle.loads(pickle.dumps(model))):
        assert [a.dtype_policy for a in other.layers] == [b.dtype_policy for b in model.layers]
        assert np.array_equal(other.predict(x, verbose=0), expected)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    states = zip(loaded.optimizer.variables, model.optimizer.variables, strict=True)
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in states)


def test_summary_and_info_tell_the_types(capsys):
    _model("mixed_bfloat16").summary()
    assert "Computation in bfloat16; weights in float32" in capsys.readouterr().out
    _model("float32").summary()
    assert "Computation" not in capsys.readouterr().out
    from dlcore import cli

    dlcore.config.set_dtype_policy("mixed_float16")
    cli.main(["info"])
    assert "mixed_float16" in capsys.readouterr().out


# Loss scaling


def test_compile_scales_the_loss_of_float16_alone():
    for policy, auto, scaled in (
        ("mixed_float16", True, True),
        ("mixed_float16", False, False),
        ("mixed_bfloat16", True, False),
        ("float32", True, False),
    ):
        model = _model(policy)
        model.compile("sgd", "mse", auto_scale_loss=auto)
        assert isinstance(model.optimizer, optimizers.LossScaleOptimizer) == scaled
    mine = optimizers.LossScaleOptimizer("adam", initial_scale=8.0)
    model = _model("mixed_float16")
    model.compile(mine, "mse")
    assert model.optimizer is mine


def test_loss_scale_grows_halves_and_skips():
    w = dlcore.Variable(np.ones(3, "float32"))
    inner = optimizers.SGD(0.5, momentum=0.5)
    optimizer = optimizers.LossScaleOptimizer(inner, initial_scale=8.0, dynamic_growth_steps=3)
    expected, reference = dlcore.Variable(np.ones(3, "float32")), optimizers.SGD(0.5, momentum=0.5)
    g = np.array([1.0, -2.0, 0.5], "float32")
    optimizer.build([w])
    scales = []
    for step in range(7):
        scale = float(optimizer.dynamic_scale)
        scales.append(scale)
        if step == 4:
            before = [v.numpy() for v in (w, *inner.variables)]
            for bad in (np.inf, np.nan):
                optimizer.apply([np.array([1, bad, 1], "float32")], [w])
            after = [v.numpy() for v in (w, *inner.variables)]
            assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
            assert float(optimizer.dynamic_scale) == scale / 4
            assert int(optimizer.step_counter) == 0
            optimizer.dynamic_scale.assign(scale)
        optimizer.apply([g * scales[-1]], [w])
        reference.apply([g], [expected])
        assert np.array_equal(w.numpy(), expected.numpy())
    assert scales == [8, 8, 8, 16, 16, 16, 16]
    assert float(optimizer.dynamic_scale) == 32
    assert int(optimizer.iterations) == 7
    assert float(optimizer.scale_loss(np.float32(3))) == 96


def test_a_scale_too_large_is_found_while_training():
    model = _model("mixed_float16")
    model.compile(
        optimizers.LossScaleOptimizer(optimizers.Adam(0.001), initial_scale=2.0**40),
        "sparse_categorical_crossentropy",
    )
    history = model.fit(*_data(), epochs=8, batch_size=16, verbose=0).history
    scale = float(model.optimizer.dynamic_scale)
    assert 1 < scale < 2.0**40 and np.log2(scale) % 1 == 0
    assert int(model.optimizer.iterations) == 8 * 16 - (40 - np.log2(scale))
    assert np.isfinite(history["loss"]).all() and history["loss"][-1] < history["loss"][0]


def test_loss_scale_optimizer_forwards_and_refuses():
    optimizer = optimizers.LossScaleOptimizer(optimizers.Adam(0.25, clipnorm=1.0))
    optimizer.learning_rate = 0.5
    assert float(optimizer.inner_optimizer.learning_rate) == 0.5
    same = optimizers.deserialize(optimizers.serialize(optimizer))
    assert same.get_config() == optimizer.get_config()
    assert same.inner_optimizer.clipnorm == 1.0
    with pytest.raises(ValueError, match="clipnorm, which belongs to the inner_optimizer"):
        optimizers.LossScaleOptimizer("sgd", clipnorm=1.0)
    with pytest.raises(ValueError, match="initial_scale > 0, got 0"):
        optimizers.LossScaleOptimizer("sgd", initial_scale=0)
    with pytest.raises(ValueError, match="did you mean 'adam'"):
        optimizers.LossScaleOptimizer("adaam")
