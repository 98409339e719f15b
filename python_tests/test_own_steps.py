"""Models whose steps, losses and metrics are the user's own, as scripts for Keras write them."""

import numpy as np
import pytest

import dlcore as keras
from dlcore import layers, losses, metrics, ops, optimizers, random

X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
Y = X[:, :1] * 2


class Net(keras.Model):
    """The steps of `compile("sgd", "mse", ["mae"])`, written out."""

    def __init__(self):
        super().__init__()
        self.out = layers.Dense(1, kernel_initializer="ones")
        self.loss_tracker = metrics.Mean(name="loss")
        self.mae = metrics.MeanAbsoluteError(name="mae")

    @property
    def metrics(self):
        return [self.loss_tracker, self.mae]

    def call(self, x, training=False):
        return self.out(x)

    def train_step(self, data):
        x, y = data
        y_pred = self(x, training=True)
        loss = ops.mean(ops.square(y - y_pred))
        grads = keras.gradients(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(grads, self.trainable_variables, strict=True))
        return self.report(loss, y, y_pred)

    def test_step(self, data):
        x, y = data
        y_pred = self(x, training=False)
        return self.report(ops.mean(ops.square(y - y_pred)), y, y_pred)

    def report(self, loss, y, y_pred):
        self.loss_tracker.update_state(loss)
        self.mae.update_state(y, y_pred)
        return {m.name: m.result() for m in self.metrics}


def trained(model, *args, **kwargs):
    model.compile(*args, **kwargs)
    random.set_random_seed(2)
    history = model.fit(X, Y, 8, epochs=2, verbose=0, validation_data=(X, Y)).history
    return history, model.evaluate(X, Y, 8, verbose=0), model.train_on_batch(X, Y)


def test_own_steps_are_the_built_in_ones():
    own = trained(Net(), "sgd")
    plain = keras.Sequential([layers.Dense(1, kernel_initializer="ones")])
    expected = trained(plain, "sgd", "mse", metrics=["mae"])
    assert list(own[0]) == ["loss", "mae", "val_loss", "val_mae"]
    for a, b in zip(own, expected, strict=True):
        for key in a if isinstance(a, dict) else range(len(a)):
            np.testing.assert_allclose(a[key], b[key], rtol=1e-6)


def test_metrics_of_every_kind_start_anew_in_every_epoch():
    seen = metrics.Sum(name="seen")  # no attribute of the model: only `metrics` names it

    class Counting(Net):
        @property
        def metrics(self):
            return [*super().metrics, seen]

        def report(self, loss, y, y_pred):
            seen.update_state(ops.ones_like(y))
            return super().report(loss, y, y_pred)

    history, evaluated, _ = trained(Counting(), "sgd")
    assert history["seen"] == history["val_seen"] == [32, 32] and evaluated[-1] == 32


def test_epochs_of_some_steps_go_on_in_the_same_order():
    class Summing(Net):
        def __init__(self):
            super().__init__()
            self.seen = metrics.Sum(name="seen")

        @property
        def metrics(self):
            return [*super().metrics, self.seen]

        def report(self, loss, y, y_pred):
            self.seen.update_state(y)
            return super().report(loss, y, y_pred)

    model = Summing()
    model.compile("sgd")
    history = model.fit(X, Y, 8, epochs=2, steps_per_epoch=2, verbose=0).history
    assert sum(history["seen"]) == pytest.approx(Y.sum(), abs=1e-4)  # every row once


def test_super_and_overrides():
    class More(keras.Model):
        def __init__(self):
            super().__init__()
            self.out = layers.Dense(1, kernel_initializer="ones")

        def call(self, x):
            return self.out(x)

        def train_step(self, data):
            logs = super().train_step(data)
            return {**logs, "again": logs["loss"]}

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return 2 * super().compute_loss(x, y, y_pred, sample_weight, training)

        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            logs = super().compute_metrics(x, y, y_pred, sample_weight)
            return {**logs, "rows": ops.cast(ops.shape(y_pred)[0], "float32") + 0 * y_pred[0, 0]}

    history, evaluated, on_batch = trained(More(), "sgd", "mse", metrics=["mae"])
    plain = keras.Sequential([layers.Dense(1, kernel_initializer="ones")])
    expected = trained(
        plain, "sgd", lambda y, p: 2 * losses.mean_squared_error(y, p), metrics=["mae"]
    )
    assert list(history) == ["again", "loss", "mae", "rows", "val_loss", "val_mae", "val_rows"]
    np.testing.assert_allclose(history["loss"], expected[0]["loss"], rtol=1e-6)
    np.testing.assert_allclose(history["mae"], expected[0]["mae"], rtol=1e-6)
    assert history["again"] == history["loss"] and history["val_rows"] == [8, 8]
    assert evaluated[-1] == 8 and on_batch[3] == 32


def gan():
    class Gan(keras.Model):
        def __init__(self):
            super().__init__()
            self.discriminator = keras.Sequential([layers.Dense(4, "relu"), layers.Dense(1)])
            self.generator = keras.Sequential([layers.Dense(4)])
            self.seeds = random.SeedGenerator(1)

        def compile(self, d_optimizer, g_optimizer, loss_fn):
            super().compile()
            self.d_optimizer, self.g_optimizer, self.loss_fn = d_optimizer, g_optimizer, loss_fn
            self.d_loss, self.g_loss = metrics.Mean(name="d_loss"), metrics.Mean(name="g_loss")

        @property
        def metrics(self):
            return [self.d_loss, self.g_loss]

        def train_step(self, real):
            n = ops.shape(real)[0]
            fake = self.generator(random.normal((n, 2), seed=self.seeds))
            labels = ops.concatenate([ops.ones((n, 1)), ops.zeros((n, 1))], axis=0)
            loss = self.loss_fn(labels, self.discriminator(ops.concatenate([fake, real], axis=0)))
            weights = self.discriminator.trainable_weights
            self.d_optimizer.apply(keras.gradients(loss, weights), weights)
            fake = self.generator(random.normal((n, 2), seed=self.seeds))
            g_loss = self.loss_fn(ops.zeros((n, 1)), self.discriminator(fake))
            weights = self.generator.trainable_weights
            self.g_optimizer.apply(keras.gradients(g_loss, weights), weights)
            self.d_loss.update_state(loss)
            self.g_loss.update_state(g_loss)
            return {"d_loss": self.d_loss.result(), "g_loss": self.g_loss.result()}

    model = Gan()
    model.compile(
        optimizers.Adam(1e-2), optimizers.Adam(1e-2), losses.BinaryCrossentropy(from_logits=True)
    )
    return model


@pytest.mark.parametrize("single", [False, True])
def test_steps_without_call(single):
    keras.utils.set_random_seed(1)
    model = gan()
    if single:
        assert len(model.train_on_batch(X)) == 2
    else:
        history = model.fit(X, batch_size=16, epochs=3, verbose=0).history
        assert (
            list(history) == ["d_loss", "g_loss"] and history["d_loss"][-1] < history["d_loss"][0]
        )
    steps = 1 if single else 6
    assert int(model.d_optimizer.iterations) == int(model.g_optimizer.iterations) == steps
    assert [len(x.weights) for x in (model.discriminator, model.generator)] == [4, 2]
    with pytest.raises(NotImplementedError, match="expected a subclass that defines call"):
        model.predict(X)


@pytest.mark.parametrize("step", ["backward", "state", "logs"])
def test_steps_for_other_libraries(step):
    class Other(Net):
        def train_step(self, data, *more):
            if step == "logs":
                return 3
            if step == "state":
                raise TypeError("train_step() missing 1 required positional argument: 'data'")
            self.compute_loss(*data, self(data[0])).backward()

    model = Other()
    model.compile("sgd", "mse")
    message = "expected a dictionary" if step == "logs" else "written for (torch|jax); write grads"
    with pytest.raises(
        TypeError, match=f"train_step: expected .*{message}" if step != "logs" else message
    ):
        model.fit(X, Y, verbose=0)


def test_own_optimizer():
    class Momentum(keras.Optimizer):
        def __init__(self, learning_rate=0.01, momentum=0.9, name="own", **kwargs):
            super().__init__(learning_rate=learning_rate, name=name, **kwargs)
            self.momentum = momentum

        def build(self, variables):
            if self.built:
                return
            super().build(variables)
            self.momentums = self.add_optimizer_variables(variables, "m")
            self.count = self.add_variable((), name="count")

        def update_step(self, gradient, variable, learning_rate):
            m = self.momentums[self._get_variable_index(variable)]
            step = self.momentum * m - gradient * ops.cast(learning_rate, variable.dtype)
            self.assign(m, step)
            self.assign_add(variable, step)
            self.assign_add(self.count, 1.0)

        def get_config(self):
            return {**super().get_config(), "momentum": self.momentum}

    own, known = Momentum(0.1), optimizers.SGD(0.1, momentum=0.9)
    results = []
    for optimizer in (own, known):
        model = keras.Sequential([layers.Dense(1, kernel_initializer="ones")])
        results.append(trained(model, optimizer, "mse")[1])
    np.testing.assert_allclose(*results, rtol=1e-6)
    assert float(own.count) == 2 * int(own.iterations)
    both = Momentum().add_optimizer_variables(model.trainable_variables, ["a", "b"], ["ones", 2.0])
    assert [float(x[0].numpy()[0, 0]) for x in both] == [1.0, 2.0]
    again = Momentum.from_config(own.get_config())
    again.build(model.trainable_variables)
    again.set_weights([v.numpy() for v in own.variables])
    assert float(again.count) == float(own.count)
    with pytest.raises(ValueError, match="own: expected 5 arrays, got 0"):
        again.set_weights([])


def test_build_config():
    layer = layers.Dense(3)
    assert layer.get_build_config() is None
    layer(X)
    config = layer.get_build_config()
    again = layers.Dense(3)
    again.build_from_config(config)
    assert again.kernel.shape == (4, 3) and config == {"input_shape": (None, 4)}


def test_saved_without_the_arguments_of_an_own_compile(tmp_path):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.out = layers.Dense(1)

        def call(self, x):
            return self.out(x)

        def compile(self, how):
            super().compile("sgd", how)

    model = Own()
    model.compile("mse")
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "own.keras")
    other = keras.models.load_model(tmp_path / "own.keras", custom_objects={"Own": Own})
    assert not other.compiled
    np.testing.assert_array_equal(other.predict(X), model.predict(X))


def test_a_model_with_nothing_to_train():
    model = keras.Sequential([keras.Input((3,)), layers.Rescaling(2.0)])
    model.compile("adam", "mse")
    with pytest.warns(UserWarning, match="expected trainable weights"):
        loss = model.fit(np.ones((4, 3)), np.zeros((4, 3)), verbose=0).history["loss"]
    assert loss == [4.0]


def test_numpy_in_a_formula_is_refused_and_works_on_variables():
    class Tanh(layers.Layer):
        def call(self, x):
            return np.tanh(x)

    with pytest.raises(TypeError, match=r"use dlcore\.ops instead of NumPy"):
        Tanh()(np.ones((1, 2), "float32"))
    with pytest.raises(TypeError, match=r"use dlcore\.ops"):
        np.exp(keras.Input((2,)))
    weight = keras.Variable([0.0, 1.0])
    np.testing.assert_allclose(np.exp(weight), [1.0, np.e], rtol=1e-6)
    total = np.ones(2, "float32")
    total += weight
    np.testing.assert_array_equal(total, [1.0, 2.0])


def test_a_call_that_lacks_return():
    class Forgetful(layers.Layer):
        def call(self, x):
            x + 1

    layer = Forgetful(name="own")
    for x in (keras.Input((2,)), np.ones((1, 2), "float32")):
        with pytest.raises(TypeError, match="own: expected call to return tensors, got None"):
            layer(x)


def test_names_of_weights():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1, name="out")], name="model")
    assert [v.path for v in model.weights] == ["model/out/kernel", "model/out/bias"]
    assert [v.name for v in model.weights] == ["kernel", "bias"]


class Block(layers.Layer):
    def __init__(self, name):
        super().__init__(name=name)
        self.dense = layers.Dense(2, use_bias=False, name="dense")

    def build(self, input_shape):
        self.scale = self.add_weight((), name="scale")

    def call(self, x):
        return self.dense(x) * self.scale


def test_paths_of_weights_name_all_layers_around_them():
    class Blocks(keras.Model):
        def __init__(self):
            super().__init__(name="model")
            self.first, self.second = Block("first"), Block("second")

        def call(self, x):
            return self.second(self.first(x))

    model = Blocks()
    model.build((None, 2))
    inside = "first/scale", "first/dense/kernel", "second/scale", "second/dense/kernel"
    assert [v.path for v in model.weights] == [f"model/{x}" for x in inside]
    optimizer = keras.optimizers.SGD(momentum=0.9)
    optimizer.build(model.trainable_variables[1:2])
    assert optimizer.variables[-1].name == "model_first_dense_kernel_momentum"

    x = keras.Input((2,))
    graph = keras.Model(x, Block("block")(x), name="graph")  # which is made after its weights
    assert graph.weights[1].path == "block/dense/kernel"
    stack = keras.Sequential([Block("late"), layers.Dense(1, name="out")], name="stack")
    stack(np.ones((1, 2)))
    assert stack.weights[1].path == "stack/late/dense/kernel"
    assert stack.weights[2].path == "stack/out/kernel"


@pytest.mark.parametrize(
    ("layer", "path"),
    [
        (layers.LSTM(2, name="rnn"), "rnn/lstm_cell"),
        (layers.RNN(layers.GRUCell(2, name="own"), name="rnn"), "rnn/own"),
        (layers.Bidirectional(layers.GRU(2, name="g"), name="two"), "two/forward_g/gru_cell"),
        (layers.TimeDistributed(layers.Dense(2, name="dense"), name="each"), "each/dense"),
        (
            layers.RNN(layers.StackedRNNCells([layers.GRUCell(2, name="a")], name="b"), name="rnn"),
            "rnn/b/a",
        ),
    ],
)
def test_paths_of_weights_of_wrapped_layers(layer, path):
    layer(np.ones((1, 3, 2), "float32"))
    assert layer.weights[0].path == f"{path}/kernel"


def test_a_model_for_one_size_of_batches():
    x = keras.Input((3,), batch_size=4)
    y = ops.reshape(layers.Dense(2)(x), (2, 4))
    model = keras.Model(x, layers.Dense(1)(ops.reshape(y, (4, 2))))
    model.compile("sgd", "mse")
    history = model.fit(np.ones((8, 3)), np.ones((8, 1)), batch_size=4, verbose=0)
    assert len(history.history["loss"]) == 1
    assert model.predict(np.ones((8, 3)), batch_size=4).shape == (8, 1)
    model.summary()


def test_more_than_a_value_beside_gradients():
    def f(w, x):
        y = x @ w
        return ops.sum(y), {"y": y}

    w, x = np.ones((3, 1), "float32"), np.ones((2, 3), "float32")
    (value, more), gradient = keras.value_and_grad(f, has_aux=True)(w, x)
    assert value == 6 and more["y"].shape == (2, 1)
    np.testing.assert_array_equal(gradient, [[2], [2], [2]])


@pytest.mark.parametrize("loss", ["mse", "crossentropy"])
def test_targets_made_in_the_step(loss):
    """Metrics of `compile` see their shapes there first."""

    class Reads(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def train_step(self, x):
            y, y_pred = x[:, :3], self.dense(x)
            loss = self.compute_loss(y=y, y_pred=y_pred)
            weights = self.trainable_variables
            self.optimizer.apply(keras.gradients(loss, weights), weights)
            return self.compute_metrics(None, y, y_pred)

    model = Reads()
    model.compile("sgd", loss, metrics=["mae", "accuracy"])
    history = model.fit(X, batch_size=8, epochs=2, verbose=0).history
    assert history["mae"][0] > 0 and 0 <= history["accuracy"][0] <= 1


def test_steps_that_call_the_model_on_something_else(capsys):
    class Graph(keras.Model):
        def __init__(self, nodes):
            super().__init__()
            self.nodes, self.out = nodes, layers.Dense(3)

        def call(self, inputs):
            nodes, scale = inputs
            return self.out(nodes) * scale

        def train_step(self, data):
            rows, y = data
            loss = self.compute_loss(y=y, y_pred=ops.take(self((self.nodes, 2.0)), rows, axis=0))
            variables = self.trainable_variables
            self.optimizer.apply(keras.gradients(loss, variables), variables)
            return {"loss": loss}

        def predict_step(self, data):
            return ops.softmax(ops.take(self((self.nodes, 2.0)), data, axis=0))

    model = Graph(np.ones((6, 4), "float32"))
    model.compile("sgd", "mse")
    rows = np.arange(40) % 6
    history = model.fit(rows, np.ones((40, 3)), batch_size=8, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]
    y = model.predict(rows, batch_size=8)
    assert y.shape == (40, 3)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-5)
    model.summary()
    assert "Parameters: 15" in capsys.readouterr().out


@pytest.mark.parametrize("with_call", [False, True])
def test_targets_unlike_the_outputs(with_call):
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.a, self.b = layers.Dense(2), layers.Dense(1)

        def train_step(self, data):
            x, y = data
            boxes, total = (y["boxes"], y["rest"][0]) if isinstance(y, dict) else (y, y[:, :1])
            loss = ops.mean(ops.square(self.a(x) - boxes)) + ops.mean(ops.abs(self.b(x) - total))
            weights = self.trainable_variables
            self.optimizer.apply(keras.gradients(loss, weights), weights)
            return {"loss": loss}

    class Called(Two):
        def call(self, x):
            return self.a(x), self.b(x), x

    model = Called() if with_call else Two()
    model.compile("sgd")
    boxes, total = X[:, :2], X[:, 2:3]
    for y in (boxes, {"boxes": boxes, "rest": (total,)}):
        assert len(model.fit(X, y, epochs=2, verbose=0).history["loss"]) == 2
    if with_call:
        with pytest.raises(ValueError, match="expected 3 outputs"):
            model.evaluate(X, boxes)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_several_updates_in_a_step(name):
    """Each gradient is that at the weights of its time, as if every update were a step."""

    def trained(updates, calls):
        w, optimizer = keras.Variable([2.0, 3.0]), optimizers.get(name)

        @keras.function
        def step(x):
            for _ in range(updates):
                loss = ops.sum(ops.square(w) * x)
                optimizer.apply(keras.gradients(loss, [w]), [w])

        for _ in range(calls):
            step(np.array([1.0, 2.0], "float32"))
        return w.numpy()

    np.testing.assert_allclose(trained(3, 1), trained(1, 3), rtol=1e-6)


def test_gradients_begin_where_a_variable_is_assigned():
    w, mask = keras.Variable([2.0, 3.0]), np.array([1.0, 0.0], "float32")

    @keras.function
    def step(x):
        before = ops.sum(w * x)
        w.assign(w * mask)
        after = ops.sum(ops.square(w) * x)
        return keras.gradients(before, [w])[0], keras.gradients(before + after, [w])[0]

    first, both = step(np.array([5.0, 7.0], "float32"))
    np.testing.assert_array_equal(first, [5, 7])
    np.testing.assert_array_equal(both, [5 + 2 * 2 * 5, 7])
    np.testing.assert_array_equal(w.numpy(), [2, 0])


def test_a_step_may_compare_one_of_two_outputs():
    class Scored(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x):
            return self.dense(x), x

        def train_step(self, data):
            x, y = data
            y_pred = self(x, training=True)[0]
            loss = self.compute_loss(y=y, y_pred=y_pred)
            weights = self.trainable_variables
            self.optimizer.apply(keras.gradients(loss, weights), weights)
            return self.compute_metrics(x, y, y_pred)

    model = Scored()
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(X, np.arange(len(X)) % 3, epochs=2, verbose=0).history
    assert set(history) == {"loss", "accuracy"}
    batches = iter([(X, (X, Y))])

    class Nested(Scored):
        def train_step(self, data):
            _, (x2, y) = data
            return {"sum": ops.sum(x2) + ops.sum(y)}

    model = Nested()
    model.compile("sgd", "mse")
    found = model.fit(batches, verbose=0).history["sum"][0]
    assert found == pytest.approx(X.sum() + Y.sum(), rel=1e-4)


def test_a_loss_of_the_users_takes_targets_of_any_form():
    """As for triplets: two outputs, and targets that nobody looks at."""

    class Distances(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            near, far = y_pred
            return ops.mean(ops.maximum(near - far + 1.0, 0.0)) + 0.0 * ops.sum(y)

    a, b = layers.Input((3,)), layers.Input((3,))
    shared = layers.Dense(2)
    near = ops.sum(ops.square(shared(a) - shared(b)), axis=-1)
    model = Distances([a, b], [near, ops.sum(shared(a), axis=-1)])
    model.compile("sgd")
    x = np.random.default_rng(0).normal(size=(2, 12, 3)).astype("float32")
    y = np.zeros(12, "float32")
    losses = model.fit([*x], y, batch_size=6, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert model.evaluate([*x], y, verbose=0) < losses[0]


def test_a_loss_of_the_users_without_training():
    """It is called by name, with what it takes."""

    class Distiller(keras.Model):
        def __init__(self, student, teacher):
            super().__init__()
            self.student, self.teacher = student, teacher

        def call(self, x):
            return self.student(x)

        def compute_loss(self, sample_weight=None, x=None, y=None, y_pred=None):
            return ops.mean(ops.square(y_pred - self.teacher(x, training=False)))

    teacher, student = layers.Dense(1, trainable=False), layers.Dense(1)
    model = Distiller(student, teacher)
    model.compile("adam")
    model.fit(X, Y, verbose=0)
    expected = np.mean(np.square(student(X) - teacher(X)))
    np.testing.assert_allclose(model.evaluate(X, Y, verbose=0), expected, rtol=1e-5)


def test_arithmetic_on_results():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.out = layers.Dense(1, kernel_initializer="ones")
            self.error = metrics.MeanSquaredError()

        def call(self, x):
            return self.out(x)

        def train_step(self, data):
            logs = super().train_step(data)
            self.error.update_state(data[1], self(data[0]))
            error = self.error.result()
            found = {"twice": 2 * logs["loss"], "root": ops.sqrt(error), "gain": 1 - error / 4.0}
            return {**logs, "error": error, **found, "most": ops.maximum(error, 0.5)}

    model = Net()
    model.compile("sgd", "mse")
    history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0).history
    loss, error = np.array(history["loss"]), np.array(history["error"])
    expected = {
        "twice": 2 * loss, "root": error**0.5, "gain": 1 - error / 4, "most": error.clip(0.5),
    }  # fmt: skip
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5)


@pytest.mark.parametrize(
    "use, message",
    [
        (lambda loss, r: loss * r, "multiply: expected numbers and results of metrics"),
        (lambda loss, r: float(r), "result: expected to be asked for a number after the step"),
        (lambda loss, r: 0 if r > 1 else loss, "use ops.where"),
    ],
)
def test_results_are_not_known_inside_a_step(use, message):
    class Net(keras.Sequential):
        def train_step(self, data):
            logs = super().train_step(data)
            return {"loss": use(ops.mean(self(data[0])), logs["loss"])}

    model = Net([layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(TypeError, match=message):
        model.fit(X, Y, verbose=0)


def test_symbols_of_another_model_are_refused():
    x = layers.Input((4,))
    y = layers.Dense(1)(x)

    class Net(keras.Model):
        def call(self, x):
            return ops.mean(x) + y

    with pytest.raises(TypeError, match="expected an array with values, got <KerasTensor"):
        Net()(X)


@pytest.mark.parametrize("pairs", ["axis", "tuple", "dict"])
@pytest.mark.parametrize("kind", ["graph", "stack"])
def test_steps_make_the_inputs_of_connected_layers(pairs, kind):
    """The model takes one row; the step is given two of each."""

    class Pairs:
        def train_step(self, data):
            if pairs == "axis":
                a, b = data[:, 0], data[:, 1]
            else:
                a, b = data[0] if pairs == "tuple" else (data["a"], data["b"])
            distance = ops.sum(ops.square(self(a, training=True) - self(b, training=True)), axis=1)
            loss = self.compute_loss(y=ops.zeros(distance.shape), y_pred=distance)
            variables = self.trainable_variables
            self.optimizer.apply(keras.gradients(loss, variables), variables)
            return {"loss": loss}

    class Graph(Pairs, keras.Model):
        pass

    class Stack(Pairs, keras.Sequential):
        pass

    x, dense = layers.Input((4,)), layers.Dense(2, kernel_initializer="ones")
    model = Graph(x, dense(x)) if kind == "graph" else Stack([x, dense])
    model.compile(optimizers.Adam(0.05), "mse")
    both = np.stack([X, X[::-1]], axis=1)
    a, b = both[:, 0], both[:, 1]
    batches = (((a[i : i + 8], b[i : i + 8]),) for _ in range(3) for i in range(0, 32, 8))
    given = {"axis": both, "tuple": batches, "dict": {"a": a, "b": b}}[pairs]
    how = {"steps_per_epoch": 4} if pairs == "tuple" else {"batch_size": 8}
    loss = model.fit(given, epochs=3, verbose=0, **how).history["loss"]
    assert loss[-1] < loss[0]
    with pytest.raises(ValueError, match="expected"):
        model.predict(both)


class Annealed(keras.Model):
    """Reports an attribute as its loss."""

    def __init__(self):
        super().__init__()
        self.out, self.scale = layers.Dense(1), 0.0

    def call(self, x):
        return self.out(x) * self.scale

    def train_step(self, data):
        self(data[0])
        return {"scale": ops.full((), self.scale)}


def test_attributes_that_callbacks_change():
    class Rise(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.scale = epoch / 2

    class RiseByBatch(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seen = []

        def on_train_batch_begin(self, batch, logs=None):
            self.model.scale = float(batch)

        def on_train_batch_end(self, batch, logs=None):
            self.seen.append(logs["scale"])

    model, by_batch = Annealed(), RiseByBatch()
    model.compile("sgd", "mse")
    history = model.fit(X, Y, epochs=3, batch_size=12, callbacks=[Rise()], verbose=0).history
    assert history["scale"] == [0.0, 0.5, 1.0]
    for data in ((X, Y), (((X[i : i + 12], Y[i : i + 12]) for i in (0, 12, 24)),)):
        by_batch.seen.clear()
        model.fit(*data, batch_size=12, callbacks=[by_batch], verbose=0)
        assert by_batch.seen == [0.0, 1.0, 2.0]


def test_attributes_changed_between_calls():
    x = layers.Input((4,))
    inner = keras.Model(x, layers.Dense(3, activation="softmax", name="out")(x))
    model = keras.Sequential([layers.Input((4,)), inner])
    model.compile("sgd", "mse")
    zeros = np.zeros((32, 3))
    for rows in (X, X[:8]):
        assert model.predict(rows, batch_size=8, verbose=0).min() > 0
    before = model.evaluate(X, zeros, verbose=0)
    inner.get_layer("out").activation = None
    for rows in (X, X[:8]):
        expected = rows @ inner.get_layer("out").kernel.numpy()
        y = model.predict(rows, batch_size=8, verbose=0)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    after = model.evaluate(X, zeros, verbose=0)
    assert after != before and after == model.test_on_batch(X, zeros)


def test_programs_stay_where_nothing_changes():
    model = Annealed()
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    changes = model._changes
    model.scale, model.stop_training = 0.0, True
    model.out.trainable = False  # waits for the next compile
    model.fit(X, Y, verbose=0)
    assert model._changes == changes
    model.scale = 1.0
    assert model._changes == changes + 1


@pytest.mark.parametrize("built", [False, True])
def test_batches_of_unequal_rows(built):
    """As where few samples have labels: a batch has many rows without and some with them."""

    class Half(keras.Model):
        def __init__(self):
            super().__init__()
            self.out = layers.Dense(1, kernel_initializer="ones")
            self.seen = metrics.Mean(name="seen")

        @property
        def metrics(self):
            return [self.seen]

        def call(self, x):
            return self.out(x)

        def train_step(self, data):
            (free, _), (x, y) = data
            rows = ops.concatenate([free, x], axis=0)
            loss = self.compute_loss(y=y, y_pred=self(x)) + 0.1 * ops.mean(ops.abs(self(rows)))
            variables = self.trainable_variables
            self.optimizer.apply(keras.gradients(loss, variables), variables)
            self.seen.update_state(float(rows.shape[0]))
            return {"seen": self.seen.result(), "loss": loss}

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            few = slice(i * 3, i * 3 + 3)
            return (X[i * 8 : i * 8 + 8], Y[:8]), (X[few], Y[few])

    model = Half()
    if built:
        model(X)
    model.compile("sgd", "mse")
    history = model.fit(Batches(), epochs=8, verbose=0).history
    assert history["seen"] == [11.0] * 8 and history["loss"][-1] < history["loss"][0]
    assert model.optimizer.iterations == 32


@pytest.mark.parametrize(
    "loss, message",
    [
        (lambda y, p: None, "lack return"),
        (lambda y, p: 0.0, "no gradient"),
        (lambda y, p: ops.mean(ops.square(ops.round(p) - y)), "no gradient"),
    ],
)
def test_losses_that_cannot_train_are_refused(loss, message):
    model = keras.Sequential([layers.Input((2,)), layers.Dense(1)])
    model.compile("sgd", loss)
    with pytest.raises((TypeError, ValueError), match=message):
        model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)


class _MakesLayer(keras.Model):
    def call(self, x):
        return layers.Dense(1)(layers.Flatten()(x))


class _MakesWeight(layers.Layer):
    def call(self, x):
        return x @ self.add_weight((2, 1))


@pytest.mark.parametrize("layer", [_MakesLayer, _MakesWeight])
def test_weights_made_in_call_are_refused(layer):
    with pytest.raises(ValueError, match="in call"):
        layer()(np.ones((4, 2)))


def test_layers_made_in_build_may_have_weights():
    class Block(layers.Layer):
        def build(self, input_shape):
            self.net = keras.Sequential([layers.Input(input_shape[1:]), layers.Dense(3)])

        def call(self, x):
            return layers.ReLU()(self.net(x))

    block = Block()
    assert block(np.ones((4, 2))).shape == (4, 3) and len(block.weights) == 2


def test_summary_of_a_model_that_is_not_called(capsys):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = keras.Sequential([layers.Input((2,)), layers.Dense(1)])

        def train_step(self, x):
            weights = self.inner.trainable_weights
            loss = ops.mean(self.inner(x))
            self.optimizer.apply(keras.gradients(loss, weights), weights)
            return {"loss": loss}

    model = Net()
    model.compile("sgd")
    model.fit(np.ones((4, 2)), verbose=0)
    model.summary()
    assert "Parameters: 3" in capsys.readouterr().out
