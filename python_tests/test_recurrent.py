"""Recurrent ops and layers: values against loops in NumPy, gradients against the formulas and
finite differences, masks, directions, states, errors."""

import numpy as np
import pytest

import dlcore
from dlcore import backends, layers, ops
from dlcore.backends import arrays
from dlcore.ops import recurrent
from dlcore.program import gradients
from dlcore.program.graph import Graph, Trace

RNG = np.random.default_rng(11)
GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3, "gru_reset_before": 3}
SIZES = [(3, 2, 4, 5), (1, 1, 1, 1), (5, 7, 3, 10), (4, 1, 2, 17), (9, 40, 6, 32), (2, 3, 0, 8)]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def loop(kind, x, w, u, b, b_u, h, c, mask, backwards):
    """All outputs in the order of the steps, and the last states."""
    n = u.shape[0]
    ys = []
    for t in range(x.shape[1])[:: -1 if backwards else 1]:
        z, before = x[:, t] @ w + b, (h, c)
        if kind == "simple_rnn":
            h = np.tanh(z + h @ u)
        elif kind == "lstm":
            i, f, g, o = np.split(z + h @ u, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            s = h @ u + b_u
            zg, r = sigmoid(z[:, :n] + s[:, :n]), sigmoid(z[:, n : 2 * n] + s[:, n : 2 * n])
            if kind == "gru":
                g = np.tanh(z[:, 2 * n :] + r * s[:, 2 * n :])
            else:
                g = np.tanh(z[:, 2 * n :] + (r * h) @ u[:, 2 * n :])
            h = zg * h + (1 - zg) * g
        keep = mask[:, t, None]
        h, c = np.where(keep, h, before[0]), np.where(keep, c, before[1])
        ys.append(h)
    return np.stack(ys, 1), h, c


def arguments(kind, steps, rows, features, units, dtype):
    def draw(*shape):
        return RNG.normal(size=shape).astype(dtype) * 0.5

    columns = GATES[kind] * units
    given = {
        "x": draw(rows, steps, features),
        "w": draw(features, columns),
        "u": draw(units, columns),
        "b": draw(columns),
        "h": draw(rows, units),
        "mask": RNG.random((rows, steps)) < 0.7,
    }
    if kind == "lstm":
        given["c"] = draw(rows, units)
    if kind == "gru":
        given["b_u"] = draw(columns)
    return given


def call(kind, given, **kwargs):
    if kind.startswith("gru"):
        kwargs["reset_after"] = kind == "gru"
    return getattr(ops, kind.partition("_reset")[0])(**given, **kwargs)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", GATES)
def test_values(kind, size, backwards):
    for dtype, tolerance in (("float64", 1e-12), ("float32", 2e-5)):
        given = arguments(kind, *size, dtype)
        wide = {k: v.astype("float64") if v.dtype != bool else v for k, v in given.items()}
        wide = {"b_u": np.zeros(1), "c": np.zeros(1), **wide}
        y, h, c = loop(kind, **wide, backwards=backwards)
        results = call(kind, given, backwards=backwards)
        assert all(r.dtype == dtype for r in results)
        for result, expected in zip(results, (y, h, c), strict=False):
            np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


def loss_and_gradients(kind, names, backwards):
    def f(*tensors):
        given = dict(zip(names, tensors, strict=True))
        weight = given.pop("weight")
        y, *last = call(kind, given, backwards=backwards)
        loss = ops.sum(y * weight) + sum(ops.sum(s * s) for s in last)
        floats = [t for t in tensors[:-1] if t.dtype != "bool"]
        return [loss, *gradients(loss, floats)]

    return f


@pytest.mark.parametrize("kind", GATES)
def test_a_thousand_steps(kind):
    """Values of float32 against loops in float64, its gradients against those of float64."""
    given = arguments(kind, 1000, 3, 4, 24, "float64")
    given["u"] *= 0.3  # small enough for errors to die away
    given["weight"] = RNG.normal(size=(3, 1000, 24))
    narrow = {k: v.astype("float32") if v.dtype != bool else v for k, v in given.items()}
    wide = {"b_u": np.zeros(1), "c": np.zeros(1), **given}
    weight = wide.pop("weight")
    y, h, c = loop(kind, **wide, backwards=False)
    floats = {k: v for k, v in narrow.items() if k != "weight"}
    for result, expected in zip(call(kind, floats), (y, h, c), strict=False):
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
    names = list(given)
    f = dlcore.function(loss_and_gradients(kind, names, False))
    loss, *slopes = f(*given.values())
    states = (h, c) if kind == "lstm" else (h,)
    np.testing.assert_allclose(loss, np.sum(y * weight) + sum(np.sum(s * s) for s in states))
    for slope, expected in zip(f(*narrow.values())[1:], slopes, strict=True):
        assert slope.dtype == "float32" and np.isfinite(slope).all()
        assert np.abs(slope - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("kind", GATES)
def test_gradients_against_finite_differences(kind, backwards):
    given = arguments(kind, 3, 2, 3, 4, "float64")
    given["weight"] = RNG.normal(size=(2, 3, 4))
    names, values = list(given), list(given.values())
    f = dlcore.function(loss_and_gradients(kind, names, backwards))
    slopes = f(*values)[1:]
    floats = [i for i, v in enumerate(values[:-1]) if v.dtype != bool]
    assert len(slopes) == len(floats) == len(given) - 2
    for i, slope in zip(floats, slopes, strict=True):
        at = tuple(RNG.integers(0, n) for n in values[i].shape)
        losses = []
        for step in (1e-6, -1e-6):
            moved = list(values)
            moved[i] = values[i].copy()
            moved[i][at] += step
            losses.append(float(f(*moved)[0]))
        expected = (losses[0] - losses[1]) / 2e-6
        assert slope[at] == pytest.approx(expected, rel=1e-6, abs=1e-7), names[i]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("size", [(5, 7, 3, 10), (1, 1, 2, 1), (6, 40, 4, 33)])
@pytest.mark.parametrize("kind", GATES)
def test_gradients_equal_the_formulas(kind, size, backwards):
    given = arguments(kind, *size, "float32")
    given["weight"] = RNG.normal(size=(size[1], size[0], size[3])).astype("float32")
    names, values = list(given), list(given.values())
    f = loss_and_gradients(kind, names, backwards)
    results = dlcore.function(f)(*values)
    trace = Trace()
    with trace:
        traced = f(*[trace.input(v.shape, v.dtype.name) for v in values])
    wide = [v if v.dtype == bool else v.astype("float64") for v in values]
    expected = arrays.interpret(Graph(trace, traced), wide)
    for result, value in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, value, rtol=2e-4, atol=2e-4)


@pytest.mark.skipif(backends.isa() == "numpy", reason="the formulas are what runs")
def test_one_kernel_runs_all_steps_each_way():
    given = arguments("lstm", 9, 4, 3, 8, "float32")
    given["weight"] = np.ones((4, 9, 8), "float32")
    f = dlcore.function(loss_and_gradients("lstm", list(given), False))
    f(*given.values())
    (program, *_), *_ = f._programs.values()
    kernels = [i["kernel"] for i in program.instructions]
    assert kernels.count("recurrence") == 2
    assert len(kernels) < 30


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("kind", GATES)
def test_long_sequences_run_in_pieces(kind, backwards, monkeypatch):
    given = arguments(kind, 7, 3, 4, 5, "float64")
    given["weight"] = RNG.normal(size=(3, 7, 5))
    f = loss_and_gradients(kind, list(given), backwards)
    values = list(given.values())
    whole = dlcore.function(f)(*values)
    monkeypatch.setattr(recurrent, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(recurrent, "_PIECE_BYTES", 0)
    monkeypatch.setattr(recurrent, "_ROWS_PER_WEIGHT", 1)
    function = dlcore.function(f)
    for result, expected in zip(function(*values), whole, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-11, atol=1e-12)
    if backends.active() == "cpu":
        used = [i["kernel"] for i in function.compiled(*values).instructions]
        assert used.count("recurrence") == 2 * 2  # pieces, forward and gradient


@pytest.mark.parametrize("name", ["elu", "gelu", "hard_sigmoid", "mish", "relu6", "squareplus"])
@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
def test_gradients_of_any_activation(kind, name):
    layer = kind(4, activation=name, recurrent_activation=name, dtype="float64")
    x = RNG.normal(size=(2, 3, 5))
    layer(x)
    f = dlcore.grad(lambda x: ops.sum(layer(x) * np.arange(1.0, 5)))
    dx, step = f(x), np.zeros_like(x)
    step[1, 1, 2] = 1e-6
    slope = np.sum((layer(x + step) - layer(x - step)) * np.arange(1.0, 5)) / 2e-6
    assert dx[1, 1, 2] == pytest.approx(slope, rel=1e-5, abs=1e-7)
    if backends.active() == "cpu":
        assert [i["kernel"] for i in f.compiled(x).instructions].count("recurrence") == 2


def test_unknown_steps_are_refused():
    given = arguments("lstm", 3, 2, 3, 4, "float32")
    for name, wrong, text in (
        ("x", np.zeros((2, 3), "float32"), "expected x"),
        ("w", np.zeros((4, 16), "float32"), "expected w"),
        ("u", np.zeros((4, 15), "float32"), "expected u"),
        ("b", np.zeros(15, "float32"), "expected b"),
        ("h", np.zeros((3, 4), "float32"), "expected first state"),
        ("mask", np.ones((2, 4), bool), "expected mask"),
    ):
        with pytest.raises(ValueError, match=f"lstm: {text}"):
            call("lstm", {**given, name: wrong})
    with pytest.raises(ValueError, match="pointwise functions, got softmax"):
        call("lstm", given, activation="softmax")


# Layers

LAYERS = {
    "simple_rnn": lambda **k: layers.SimpleRNN(6, **k),
    "lstm": lambda **k: layers.LSTM(6, **k),
    "gru": lambda **k: layers.GRU(6, **k),
    "gru_reset_before": lambda **k: layers.GRU(6, reset_after=False, **k),
    "custom": lambda **k: layers.RNN(Custom(6), **k),
    "stacked": lambda **k: layers.RNN([layers.LSTMCell(5), layers.GRUCell(6)], **k),
    "bidirectional": lambda **k: layers.Bidirectional(layers.LSTM(3, **k)),
}


class Custom(layers.Layer):
    """h' = tanh(x w + h), by hand."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], self.units), name="kernel")

    def call(self, inputs, states):
        h = ops.tanh(ops.matmul(inputs, self.kernel) + states[0])
        return h, [h]


def batch(rows=4, steps=5, features=3):
    return RNG.normal(size=(rows, steps, features)).astype("float32")


def by_hand(layer, x, padding):
    """ConvLSTM2D written out with `ops.conv`."""
    w, u, b = layer.get_weights()
    h = c = 0.0
    for t in range(x.shape[1]):
        z = ops.conv(x[:, t], w, padding=padding) + b
        z = z if t == 0 else z + ops.conv(h, u, padding="same")
        i, f, g, o = np.split(z, 4, axis=-1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
    return h, c


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_convolutions_over_time(padding):
    x = RNG.normal(size=(2, 4, 6, 5, 3)).astype("float32")
    layer = layers.ConvLSTM2D(4, 3, padding=padding, return_state=True)
    y, h, c = layer(x)
    for got, expected in zip((h, c), by_hand(layer, x, padding), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(y, h)
    first = layers.ConvLSTM2D(4, 3, padding=padding, data_format="channels_first")
    images = x.transpose(0, 1, 4, 2, 3)
    first(images)
    first.set_weights(layer.get_weights())
    np.testing.assert_allclose(first(images), h.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)


def test_convolutions_over_time_in_other_ways():
    x = RNG.normal(size=(2, 4, 6, 3)).astype("float32")
    layer = layers.ConvLSTM1D(4, 3, return_sequences=True, dropout=0.5, recurrent_dropout=0.5)
    assert layer(x, training=True).shape == (2, 4, 4, 4)
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1]], bool)
    y = layer(x, mask=mask)
    np.testing.assert_array_equal(y[0, 3], y[0, 1])
    model = dlcore.Sequential([layers.Input((3, 4, 5, 3, 2)), layers.ConvLSTM3D(2, 2)])
    model.compile("sgd", "mse")
    assert model.output_shape == (None, 3, 4, 2, 2)
    volumes = RNG.normal(size=(4, 3, 4, 5, 3, 2)).astype("float32")
    losses = model.fit(volumes, np.ones((4, 3, 4, 2, 2)), epochs=3, verbose=0).history["loss"]
    assert losses[2] < losses[0]
    again = dlcore.models.clone_model(model)
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again.predict(volumes), model.predict(volumes))
    with pytest.raises(ValueError, match=r"expected input \(batch, steps, features, \.\., \.\.\)"):
        layers.ConvLSTM2D(4, 3)(x)


@pytest.mark.parametrize("kind", LAYERS)
def test_layer_shapes_and_configuration(kind):
    x = batch()
    layer = LAYERS[kind]()
    assert layer(x).shape == (4, 6)
    if kind in ("lstm", "gru"):
        assert layer.get_config()["recurrent_activation"] == "sigmoid"
    with dlcore.lookup.custom_object_scope({"Custom": Custom}):
        again = type(layer).from_config(layer.get_config())
    again(x)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), layer(x))
    all_steps = LAYERS[kind](return_sequences=True, return_state=True)
    y, *states = all_steps(x)
    assert y.shape == (4, 5, 6)
    assert len(states) == {"lstm": 2, "stacked": 3, "bidirectional": 4}.get(kind, 1)
    if kind != "bidirectional":
        np.testing.assert_array_equal(y[:, -1], states[-1 if kind == "stacked" else 0])


@pytest.mark.parametrize("kind", [k for k in LAYERS if k != "bidirectional"])
def test_layer_backwards_is_the_reversed_input(kind):
    x = batch()
    layer = LAYERS[kind](return_sequences=True)
    y = layer(x[:, ::-1])
    back = LAYERS[kind](return_sequences=True, go_backwards=True)
    back(x)
    back.set_weights(layer.get_weights())
    np.testing.assert_allclose(back(x), y, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [k for k in LAYERS if k != "bidirectional"])
def test_masked_steps_change_nothing(kind):
    x, mask = batch(), np.ones((4, 5), bool)
    mask[:, 3:] = False
    layer = LAYERS[kind]()
    np.testing.assert_allclose(layer(x, mask=mask), layer(x[:, :3]), rtol=1e-6, atol=1e-6)
    every = LAYERS[kind](return_sequences=True, zero_output_for_mask=True)
    every(x)
    every.set_weights(layer.get_weights())
    y = every(x, mask=mask)
    assert (y[:, 3:] == 0).all() and (y[:, :3] != 0).any()


def test_bidirectional_merges():
    x = batch()
    forward = layers.GRU(3, return_sequences=True)
    both = layers.Bidirectional(forward, merge_mode=None)
    a, b = both(x)
    assert both.forward_layer is forward and both.backward_layer.go_backwards
    for mode, expected in (
        ("concat", np.concatenate([a, b], -1)),
        ("sum", a + b),
        ("mul", a * b),
        ("ave", (a + b) / 2),
    ):
        layer = layers.Bidirectional(layers.GRU(3, return_sequences=True), merge_mode=mode)
        layer(x)
        layer.set_weights(both.get_weights())
        np.testing.assert_allclose(layer(x), expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="merge_mode"):
        layers.Bidirectional(layers.GRU(3), merge_mode="max")
    with pytest.raises(ValueError, match="recurrent layer"):
        layers.Bidirectional(layers.Dense(3))


@pytest.mark.parametrize("kind", ["simple_rnn", "lstm", "gru", "custom"])
@pytest.mark.parametrize("backwards", [False, True])
def test_outputs_before_the_first_step_are_zero(kind, backwards):
    """Whatever the first state is, as in Keras: the state itself waits for the first value."""
    x, mask = batch(3, 5), np.array([[0, 0, 1, 0, 1], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
    layer = LAYERS[kind](return_sequences=True, return_state=True, go_backwards=backwards)
    layer(x)
    first = [batch(3, layer.cell.units)[:, :, 0] + i for i in range(2 if kind == "lstm" else 1)]
    y, *last = layer(x, initial_state=first, mask=mask)
    for row, kept in enumerate(mask):
        order = kept[::-1] if backwards else kept
        begin = int(np.argmax(order)) if kept.any() else len(order)
        np.testing.assert_array_equal(y[row, :begin], 0)
        state = [s[row : row + 1] for s in first]
        if kept.any():
            expected, *state = layer(x[row : row + 1, kept], initial_state=state)
            np.testing.assert_allclose(y[row, order], expected[0], rtol=1e-5, atol=1e-6)
        for a, b in zip(last, state, strict=True):
            np.testing.assert_allclose(a[row], b[0], rtol=1e-5, atol=1e-6)
    short = LAYERS[kind](go_backwards=backwards)
    short(x)
    short.set_weights(layer.get_weights())
    np.testing.assert_array_equal(short(x, initial_state=first, mask=mask), y[:, -1])


def test_a_stateful_layer_begins_each_batch_with_zeros_where_steps_are_masked():
    x, mask = batch(2, 3), np.array([[0, 1, 1], [1, 1, 1]], bool)
    layer = layers.GRU(4, return_sequences=True, stateful=True)
    layer(x)
    y = layer(x, mask=mask)
    assert not y[0, 0].any() and y[0, 1:].all() and y[1].all()


def test_states_of_each_direction():
    x, states = batch(2, 4), [RNG.normal(size=(2, 3)).astype("float32") for _ in range(4)]
    both = layers.Bidirectional(layers.LSTM(3), merge_mode=None)
    both(x)
    for way, y, own in zip(
        (both.forward_layer, both.backward_layer),
        both(x, initial_state=states),
        (states[:2], states[2:]),
        strict=True,
    ):
        np.testing.assert_array_equal(y, way(x, initial_state=own))


def test_the_bias_of_the_forget_gate_is_one():
    layer = layers.LSTM(2)
    layer(batch())
    np.testing.assert_array_equal(layer.bias, [0, 0, 1, 1, 0, 0, 0, 0])


def test_dropout_of_inputs_is_the_same_for_all_steps():
    layer = layers.SimpleRNN(
        40, "linear", recurrent_initializer="zeros", kernel_initializer="identity", dropout=0.5,
        return_sequences=True, seed=1,
    )  # fmt: skip
    y = layer(np.ones((3, 5, 40), "float32"), training=True)
    assert set(np.unique(y)) == {0, 2} and (y == y[:, :1]).all() and (y[0] != y[1]).any()


def test_masked_steps_are_zero_both_ways():
    x, mask = batch(2, 4), np.array([[1, 0, 1, 0], [0, 1, 1, 1]], bool)
    layer = layers.Bidirectional(layers.GRU(3, return_sequences=True))
    y = layer(x, mask=mask)
    for half in (y[..., :3], y[..., 3:]):
        np.testing.assert_array_equal((half != 0).all(-1), mask)


def test_stateful_batches_continue():
    x = batch(4, 6)
    whole = layers.LSTM(5, return_sequences=True)
    y = whole(x)
    parts = layers.LSTM(5, return_sequences=True, stateful=True)
    parts(x[:, :3])
    parts.reset_states()
    parts.set_weights(whole.get_weights())
    halves = [parts(x[:, :3]), parts(x[:, 3:])]
    np.testing.assert_allclose(np.concatenate(halves, 1), y, rtol=1e-6, atol=1e-6)
    parts.reset_states()
    np.testing.assert_array_equal(parts(x[:, :3]), halves[0])
    with pytest.raises(ValueError, match="batches of 4 rows"):
        parts(x[:3, :3])


def test_stateful_model_predicts_step_by_step():
    x = batch(1, 6)
    model = dlcore.Sequential(
        [dlcore.Input((None, 3), batch_size=1), layers.LSTM(5, stateful=True), layers.Dense(2)]
    )
    whole = model.predict(x, verbose=0)
    model.layers[0].reset_states()
    for t in range(6):
        y = model.predict(x[:, t : t + 1], verbose=0)
    np.testing.assert_allclose(y, whole, rtol=1e-5, atol=1e-6)


def test_stateful_model_of_tokens():
    model = dlcore.Sequential(
        [
            dlcore.Input(batch_shape=(1, 1), dtype="int32"),
            layers.Embedding(7, 3),
            layers.LSTM(5, stateful=True, return_sequences=True),
            layers.LSTM(4, stateful=True),
        ]
    )
    token = np.array([[2]], "int32")
    first, second = model.predict_on_batch(token), model.predict_on_batch(token)
    assert first.shape == (1, 4) and (first != second).any()


def test_dropout_acts_in_training_alone_and_repeats():
    x = batch()
    layer = layers.LSTM(6, dropout=0.5, recurrent_dropout=0.5, seed=3)
    plain = layers.LSTM(6)
    plain(x)
    layer(x)
    layer.set_weights(plain.get_weights())
    np.testing.assert_array_equal(layer(x), plain(x))
    a, b = layer(x, training=True), layer(x, training=True)
    assert (a != layer(x)).any() and (a != b).any()
    with pytest.raises(ValueError, match="dropout"):
        layers.LSTM(6, dropout=1.0)


def model_of(kind, **compile_args):
    dlcore.utils.set_random_seed(1)
    model = dlcore.Sequential([dlcore.Input((6, 3)), LAYERS[kind](), layers.Dense(1)])
    model.compile("adam", "mse", **compile_args)
    return model


@pytest.mark.parametrize("kind", LAYERS)
def test_training_learns_a_sum(kind):
    x = batch(64, 6)
    y = x[:, 1:3, 0].sum(1)
    model = model_of(kind)
    model.optimizer.learning_rate = 0.02
    losses = model.fit(x, y, batch_size=16, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < (0.6 if kind == "custom" else 0.3) * losses[0]


def test_same_bits_for_any_threads_and_rows():
    x, before = batch(33, 6), dlcore.get_num_threads()
    y = x[:, 1:3, 0].sum(1)
    trained = []
    try:
        for n in (1, 2, 3, 7):
            dlcore.set_num_threads(n)
            model = model_of("lstm")
            model.fit(x, y, batch_size=11, epochs=2, verbose=0)
            trained.append(model.get_weights())
    finally:
        dlcore.set_num_threads(before)
    for other in trained[1:]:
        for a, b in zip(trained[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
    if backends.isa() != "numpy":
        whole = model.predict(x, verbose=0)
        rows = np.concatenate([model.predict(x[i : i + 1], verbose=0) for i in range(33)])
        np.testing.assert_array_equal(whole, rows)


def test_save_and_load(tmp_path):
    x = batch(5, 6)
    model = model_of("bidirectional")
    model.save(tmp_path / "model.safetensors")
    again = dlcore.models.load_model(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0))


def test_bad_inputs_are_named():
    with pytest.raises(ValueError, match="units"):
        layers.LSTM(0)
    with pytest.raises(ValueError, match="batch, steps, features"):
        layers.GRU(3)(np.zeros((4, 5), "float32"))
    with pytest.raises(ValueError, match="state_size"):
        layers.RNN(layers.Dense(3))
    with pytest.raises(ValueError, match="2 initial states"):
        layers.LSTM(3)(batch(), initial_state=[np.zeros((4, 3), "float32")])
    with pytest.raises(ValueError, match=r"late: expected initial states \(4, 3\), got \(4, 2\)"):
        layers.GRU(3, name="late")(batch(), initial_state=[np.zeros((4, 2), "float32")])
    with pytest.raises(ValueError, match=r"expected first state \(4, 3\), got \(2, 3\)"):
        layers.GRU(3)(batch(), initial_state=[np.zeros((2, 3), "float32")])


@pytest.mark.parametrize(
    ("layer", "sizes", "shapes"),
    [
        (layers.LSTM(3), [3, 3], [(2, 3), (2, 3)]),
        (layers.GRU(3), [3], [(2, 3)]),
        (
            layers.RNN([layers.LSTMCell(4), layers.SimpleRNNCell(2)]),
            [[4, 4], 2],
            [(2, 4), (2, 4), (2, 2)],
        ),
    ],
)
def test_sizes_and_first_values_of_states(layer, sizes, shapes):
    assert layer.state_size == sizes
    assert [tuple(x.shape) for x in layer.get_initial_state(batch_size=2)] == shapes
