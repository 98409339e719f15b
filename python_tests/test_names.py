"""Names around models: registered classes, `with` blocks, `backend`, `utils`, `InputSpec`."""

import importlib

import numpy as np
import pytest

import dlcore as keras
from dlcore import config, layers, ops, saving, utils

X = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
Y = X[:, :1] * 2


def test_public_names_are_there():
    for name in ("", *(f".{m}" for m in keras._MODULES)):
        module = importlib.import_module(f"dlcore{name}")
        for public in {*dir(module), *getattr(module, "__all__", ())}:
            getattr(module, public)


@pytest.mark.parametrize(
    ("module", "name", "nearest"),
    [("", "layer", "layers"), (".layers", "Dens", "Dense"), (".ops", "matmull", "matmul"),
     (".utils", "to_categoric", "to_categorical")],
)  # fmt: skip
def test_the_nearest_name_is_suggested(module, name, nearest):
    message = f"dlcore{module}: expected a public name, got '{name}'; did you mean '{nearest}'"
    with pytest.raises(AttributeError, match=message):
        getattr(importlib.import_module(f"dlcore{module}"), name)


@pytest.mark.parametrize(
    ("module", "name", "instead"),
    [("", "applications", "your own weights"), ("", "GradientTape", "train_step"),
     (".layers", "RandomPerspective", "RandomShear"),
     (".ops", "eig", "ops.eigh"), (".ops.linalg", "lu_factor", "ops.solve"),
     (".ops.image", "elastic_transform", "map_coordinates"), (".ops.nn", "polar", "pairs"),
     (".optimizers", "MultiOptimizer", "train_step"), (".callbacks", "RemoteMonitor", "Lambda"),
     (".utils", "FeatureSpace", "CategoryEncoding"), (".initializers", "STFT", "ops.stft")],
)  # fmt: skip
def test_absent_names_say_what_there_is_instead(module, name, instead):
    message = f"expected a public name, got '{name}', which is not in dlcore; .*{instead}"
    with pytest.raises(AttributeError, match=message):
        getattr(importlib.import_module(f"dlcore{module}"), name)


@pytest.fixture
def registered():
    """Classes that files know by name, forgotten after the test."""
    known = dict(saving.get_custom_objects())
    yield saving.register_keras_serializable("lesson")
    saving.get_custom_objects().clear()
    saving.get_custom_objects().update(known)


def own_classes():
    class Scale(layers.Layer):
        def __init__(self, factor=1.0, inner=None, **kwargs):
            super().__init__(**kwargs)
            self.factor, self.inner = factor, inner

        def call(self, x):
            return self.inner(x) * self.factor

        def get_config(self):
            inner = saving.serialize_keras_object(self.inner)
            return {**super().get_config(), "factor": self.factor, "inner": inner}

        @classmethod
        def from_config(cls, config):
            inner = saving.deserialize_keras_object(config.pop("inner"))
            return cls(inner=inner, **config)

    class Half(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return ops.mean(ops.square(y_true - y_pred), axis=-1) / 2

    class Largest(keras.metrics.Metric):
        def __init__(self, name="largest", **kwargs):
            super().__init__(name=name, **kwargs)
            self.value = self.add_weight(name="value", initializer="zeros")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.value.assign(ops.maximum(self.value, ops.max(y_pred)))

        def result(self):
            return self.value

    def double(x):
        return 2 * x

    return Scale, Half, Largest, double


@pytest.mark.parametrize("known_by", ["registration", "custom_objects", "scope"])
def test_model_with_own_classes_loads(tmp_path, registered, known_by):
    classes = own_classes()
    if known_by == "registration":
        for c in classes:
            registered(c)
    scale, half, largest, double = classes
    model = keras.Sequential(
        [keras.Input((4,)), scale(3.0, layers.Dense(2)), layers.Dense(1, activation=double)]
    )
    model.compile("sgd", half(), metrics=[largest()])
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "m.keras")
    names = {c.__name__: c for c in classes}
    if known_by == "scope":
        with utils.CustomObjectScope(names):
            other = keras.models.load_model(tmp_path / "m.keras")
    else:
        given = names if known_by == "custom_objects" else None
        other = saving.load_model(tmp_path / "m.keras", custom_objects=given)
    np.testing.assert_array_equal(other.predict(X), model.predict(X))
    assert other.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    if known_by == "registration":
        assert saving.get_registered_name(scale) == "lesson>Scale"
        assert saving.get_registered_object("lesson>Scale") is scale
    else:
        with pytest.raises(ValueError, match="Scale"):
            keras.models.load_model(tmp_path / "m.keras")


def test_registration_wants_get_config():
    with pytest.raises(ValueError, match="expected a class with get_config, got Plain"):

        @saving.register_keras_serializable()
        class Plain:
            pass


@pytest.mark.parametrize(
    "obj",
    [
        None, 3, "text", [1, {"a": 2.0}], np.arange(3.0),
        layers.Dense(3, "relu", name="d"), keras.losses.Huber(0.5), keras.metrics.Hinge(),
        keras.losses.Hinge(), keras.optimizers.Adam(0.1), keras.initializers.HeNormal(1),
        keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5), keras.regularizers.L2(0.1),
        keras.constraints.MaxNorm(3), keras.activations.relu, keras.losses.mean_squared_error,
        keras.DTypePolicy("mixed_bfloat16"),
    ],
    ids=lambda x: type(x).__name__,
)  # fmt: skip
def test_objects_round_trip(obj):
    again = saving.deserialize_keras_object(saving.serialize_keras_object(obj))
    assert type(again) is type(obj)
    if hasattr(obj, "get_config"):
        assert again.get_config() == obj.get_config()
    else:
        np.testing.assert_equal(again, obj)


def test_top_level():
    assert keras.version() == keras.__version__
    assert issubclass(keras.losses.Huber, keras.Loss) and issubclass(
        keras.metrics.AUC, keras.Metric
    )
    assert issubclass(keras.regularizers.L2, keras.Regularizer)
    assert issubclass(keras.initializers.Zeros, keras.Initializer)
    assert issubclass(keras.optimizers.Adam, keras.Optimizer)
    with keras.name_scope("block"), keras.device("/CPU:0"):
        assert keras.get_device() == "cpu"
    for bad, message in (("cpu:1", "the first device"), ("tpu", "'cpu' or 'gpu'")):
        with pytest.raises(ValueError, match=message), keras.device(bad):
            pass


def test_backend():
    backend = keras.backend
    assert backend.backend() == "dlcore" and backend.floatx() == "float32"
    x = np.array([1.0, -4.0], "float32")
    assert float(backend.mean(backend.square(x))) == 8.5
    np.testing.assert_array_equal(backend.flatten(x[None]), x)
    assert backend.result_type("int32", float) == backend.result_type("int64", "float32")
    assert backend.is_float_dtype("float64") and backend.is_int_dtype("uint8")
    v = backend.variable([1.0, 2.0])
    backend.set_value(v, [3, 4])
    assert backend.get_value(v).tolist() == [3.0, 4.0]
    with pytest.raises(AttributeError, match=r"dlcore\.backend: expected a name"):
        backend.no_such_name  # noqa: B018
    backend.clear_session()
    assert (backend.get_uid("a"), backend.get_uid("a"), backend.get_uid("b")) == (1, 2, 1)
    assert layers.Dense(1).name == "dense"


def test_most_epochs_and_steps():
    model = keras.Sequential([layers.Dense(1)])
    model.compile("sgd", "mse")
    config.set_max_epochs(2)
    config.set_max_steps_per_epoch(3)
    try:
        history = model.fit(X, Y, 2, epochs=9, verbose=0)
        assert len(history.history["loss"]) == config.max_epochs() == 2
        assert int(model.optimizer.iterations) == 2 * config.max_steps_per_epoch()
    finally:
        config.set_max_epochs(None)
        config.set_max_steps_per_epoch(None)
    with pytest.raises(ValueError, match="set_max_epochs: expected an int above 0 or None, got 0"):
        config.set_max_epochs(0)


def test_pack_and_unpack():
    assert utils.unpack_x_y_sample_weight(utils.pack_x_y_sample_weight(1)) == (1, None, None)
    assert utils.pack_x_y_sample_weight([1], None) == ([1],)
    assert utils.unpack_x_y_sample_weight(utils.pack_x_y_sample_weight(1, 2, 3)) == (1, 2, 3)
    with pytest.raises(ValueError, match="got 4 entries"):
        utils.unpack_x_y_sample_weight((1, 2, 3, 4))


def test_source_inputs():
    a, b = keras.Input((3,)), keras.Input((3,))
    y = layers.Dense(2)(a + b)
    assert [x is s for x, s in zip(utils.get_source_inputs(y), (a, b), strict=True)] == [True] * 2
    assert utils.is_keras_tensor(y) and not utils.is_keras_tensor(X)


def test_progbar(capsys):
    bar = utils.Progbar(3, stateful_metrics=["rate"])
    for i in range(3):
        bar.update(i + 1, [("loss", float(i)), ("rate", i)])
    assert bar.figures() == {"loss": 1.0, "rate": 2.0}
    assert capsys.readouterr().out.count("\n") == 1
    other = utils.Progbar(2, verbose=0, stateless_metrics=["loss"])
    for i in range(2):
        other.add(1, [("loss", float(i)), ("rate", i)])
    assert other.figures() == {"loss": 0.5, "rate": 1.0}
    utils.Progbar(None, verbose=0).add(1)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("sizes", [(0.75, None), (12, None), (None, 4), (None, 0.25), (12, 4)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_split_dataset(sizes, shuffle):
    left, right = utils.split_dataset((X, Y), *sizes, shuffle=shuffle, seed=1)
    assert [len(a) for a in (*left, *right)] == [12, 12, 4, 4]
    np.testing.assert_array_equal(left[0][:, :1] * 2, left[1])
    assert sorted(np.concatenate([left[1], right[1]]).ravel()) == sorted(Y.ravel())
    batches = utils.split_dataset(iter(range(16)), *sizes, shuffle=shuffle)
    assert [len(part) for part in batches] == [12, 4]
    with pytest.raises(ValueError, match=r"split_dataset: expected parts of 1\.\.15 of 16"):
        utils.split_dataset(X, 16)


def test_text_dataset_from_directory(tmp_path):
    for name, texts in (("bad", ["so poor", "sad"]), ("good", ["fine", "what a joy"])):
        (tmp_path / name).mkdir()
        for i, text in enumerate(texts):
            (tmp_path / name / f"{i}.txt").write_text(text, encoding="utf-8")
    data = utils.text_dataset_from_directory(tmp_path, batch_size=3, shuffle=False, verbose=False)
    assert data.class_names == ["bad", "good"]
    (texts, y), (last, _) = data
    assert texts.tolist() == ["so poor", "sad", "fine"] and y.tolist() == [0, 0, 1]
    assert last.tolist() == ["what a joy"]
    vectorize = layers.TextVectorization(output_sequence_length=3)
    vectorize.adapt(data.map(lambda x, y: x))
    model = keras.Sequential([layers.Embedding(20, 4), layers.Flatten(), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(data.map(lambda x, y: (vectorize(x), y)).prefetch(1), verbose=0)


def test_smart_resize():
    x = np.arange(2 * 4 * 8 * 1, dtype="float32").reshape(2, 4, 8, 1)
    y = keras.preprocessing.image.smart_resize(x, (4, 4))
    np.testing.assert_allclose(y, x[:, :, 2:6])
    assert keras.preprocessing.image.smart_resize(x[0], (2, 2)).shape == (2, 2, 1)


@pytest.mark.parametrize(
    "spec, shape, dtype, trouble",
    [
        ({"ndim": 2}, (2, 3), "float32", None),
        ({"ndim": 2}, (2, 3, 1), "float32", "of 2 axes, got"),
        ({"min_ndim": 3}, (2, 3), "float32", "of at least 3 axes, got"),
        ({"max_ndim": 1}, (2, 3), "float32", "of at most 1 axes, got"),
        ({"axes": {-1: 3}}, (2, 3), "float32", None),
        ({"axes": {-1: 4}}, (2, 3), "float32", "with 4 at axis -1, got"),
        ({"shape": (None, 3)}, (2, 3), "float32", None),
        ({"shape": (None, 4)}, (2, 3), "float32", r"of shape \(None, 4\), got"),
        ({"shape": (None, 3), "allow_last_axis_squeeze": True}, (2, 3, 1), "float32", None),
        ({"dtype": "int32"}, (2, 3), "float32", "of type int32, got float32"),
        ({"dtype": "int32"}, (2, 3), "int32", None),
    ],
)
def test_input_spec(spec, shape, dtype, trouble):
    class Same(layers.Layer):
        def __init__(self):
            super().__init__(name="same")
            self.input_spec = keras.InputSpec(**spec)

        def call(self, x):
            return x + 0

    x = np.zeros(shape, dtype)
    if trouble is None:
        assert Same()(x).shape == shape
    else:
        with pytest.raises(ValueError, match=f"same: expected an input {trouble}"):
            Same()(x)
    assert keras.InputSpec.from_config(keras.InputSpec(**spec).get_config()).axes is not None


def test_variables_are_made_of_values_or_initializers():
    v = keras.Variable(initializer=np.arange(4), shape=(4,), dtype="int", trainable=False)
    assert v.dtype == "int64" and not v.trainable and v.numpy().tolist() == [0, 1, 2, 3]
    normal = keras.initializers.RandomNormal(seed=1)
    np.testing.assert_array_equal(keras.Variable(normal, shape=(3,)).numpy(), normal((3,)))
    with pytest.raises(ValueError, match="Variable: expected a value of shape"):
        keras.Variable([1.0], shape=(2,))
    with pytest.raises(ValueError, match="Variable: expected a shape for an initializer, got None"):
        keras.Variable(normal)


def test_nested_structures():
    from collections import OrderedDict, namedtuple

    tree = keras.tree
    pair = namedtuple("pair", "x y")
    nest = [1, {"b": 2, "a": (3, [None])}, pair(4, 5), OrderedDict(z=6, a=7)]
    assert tree.flatten(nest) == [1, 3, None, 2, 4, 5, 6, 7]
    assert tree.pack_sequence_as(nest, tree.flatten(nest)) == nest
    assert tree.map_structure(lambda x: x, nest) == nest
    assert tree.lists_to_tuples([1, [2]]) == (1, (2,))
    assert tree.traverse(lambda x: tree.MAP_TO_NONE if x == 2 else None, [1, [2]]) == [1, [None]]
    tree.assert_same_paths([1, (2,)], [3, [4]])
    for wrong in (
        lambda: tree.map_structure(max, [1, (2,)], [3, [4]]),
        lambda: tree.map_structure(max, {"a": 1}, {"b": 2}),
        lambda: tree.assert_same_structure([1], 1),
        lambda: tree.assert_same_paths([1], {"a": 1}),
        lambda: tree.pack_sequence_as([1], [2, 3]),
    ):
        with pytest.raises(ValueError, match="expected"):
            wrong()


def own_layer(**kwargs):
    class Scale(layers.Layer):
        def __init__(self, **kwargs):
            self.factor = kwargs.pop("factor")
            super().__init__(**kwargs)

    return Scale(factor=2, **kwargs)


def compiled():
    model = keras.Sequential([layers.Input((4,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    ("who", "wrong", "nearest", "call"),
    [
        ("Dense", "activaton", "activation", lambda: layers.Dense(10, activaton="relu")),
        ("Dense", "unit", "units", lambda: layers.Dense(unit=10)),
        ("Scale", "nam", "name", lambda: own_layer(nam="x")),
        ("Adam", "learningrate", "learning_rate",
         lambda: keras.optimizers.Adam(learningrate=0.1)),
        ("EarlyStopping", "patiance", "patience",
         lambda: keras.callbacks.EarlyStopping(patiance=3)),
        ("ModelCheckpoint", "save_best", "save_best_only",
         lambda: keras.callbacks.ModelCheckpoint("x", save_best=True)),
        ("CategoricalCrossentropy", "from_logit", "from_logits",
         lambda: keras.losses.CategoricalCrossentropy(from_logit=True)),
        ("L2", "l", "l2", lambda: keras.regularizers.L2(l=0.1)),
        ("Model", "input", "inputs", lambda: keras.Model(input=None, outputs=None)),
        ("fit", "epoch", "epochs", lambda: compiled().fit(X, Y, epoch=3)),
        ("compile", "optimiser", "optimizer", lambda: compiled().compile(optimiser="sgd")),
        ("Input", "shap", "shape", lambda: layers.Input(shap=(3,))),
        ("sum", "axs", "axis", lambda: ops.sum(X, axs=1)),
        ("to_categorical", "numclasses", "num_classes",
         lambda: utils.to_categorical([0, 1], numclasses=2)),
    ],
)  # fmt: skip
def test_the_nearest_argument_is_suggested(who, wrong, nearest, call):
    message = f"^{who}: expected one of its arguments, got '{wrong}'; did you mean '{nearest}'[?]$"
    with pytest.raises(TypeError, match=message):
        call()


def test_errors_behind_right_arguments_stay_as_they_are():
    with pytest.raises(TypeError, match="Zeros: expected no arguments, got 3"):
        keras.initializers.Zeros(3)
    with pytest.raises(TypeError, match="methods of Callback, got 'on_epoch_en'"):
        keras.callbacks.LambdaCallback(on_epoch_en=print)
    with pytest.raises(TypeError, match="array: expected"):
        ops.sum(np.array(["a"]), axis=0)
    loss = keras.losses.LossFunctionWrapper(keras.losses.mse, any_name=3)
    assert loss.fn is keras.losses.mean_squared_error
    assert keras.metrics.MSE is keras.losses.mse


@pytest.mark.parametrize(
    "read", [np.asarray, np.array, ops.convert_to_numpy, ops.convert_to_tensor]
)
def test_what_is_read_of_a_variable_stays(read):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, kernel_initializer="ones")])
    before = read(model.layers[0].kernel)
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 2)), np.zeros((4, 1)), verbose=0)
    assert (before == 1).all() and (read(model.layers[0].kernel) != 1).all()
