"""Losses against float64 formulas written sample by sample, eagerly and traced; gradients by finite
differences.
"""

import functools
import itertools
import math

import numpy as np
import pytest

import dlcore
from dlcore import losses, metrics, ops

RNG = np.random.default_rng(7)
N, C = 6, 4
REAL_Y, REAL_P = RNG.normal(size=(N, C)), RNG.normal(size=(N, C))
POS_Y, POS_P = RNG.uniform(0.1, 3, (N, C)), RNG.uniform(0.1, 3, (N, C))
PROB_P = RNG.uniform(0.05, 1, (N, C))
PROB_P /= PROB_P.sum(-1, keepdims=True)
PROB_Y = RNG.uniform(0.05, 1, (N, C))
PROB_Y /= PROB_Y.sum(-1, keepdims=True)
UNIT_P = RNG.uniform(0.05, 0.95, (N, C))
BITS = (RNG.random((N, C)) > 0.5) * 1.0
LABELS = RNG.integers(0, C, N)
HOT = np.eye(C)[LABELS]


sparse = losses.sparse_categorical_crossentropy


def mean(f):
    return lambda y, p: math.fsum(f(a, b) for a, b in zip(y, p, strict=True)) / len(y)


def total(f):
    return lambda y, p: math.fsum(f(a, b) for a, b in zip(y, p, strict=True))


def sig(x):
    return 1 / (1 + math.exp(-x))


def soft(x):
    e = [math.exp(v) for v in x]
    return [v / sum(e) for v in e]


def nll(y, p):
    return -y * math.log(p) - (1 - y) * math.log(1 - p)


def huber(d):
    return lambda y, p: 0.5 * (y - p) ** 2 if abs(y - p) <= d else d * (abs(y - p) - d / 2)


def cosine(y, p):
    return -sum(a * b for a, b in zip(y, p, strict=True)) / (np.linalg.norm(y) * np.linalg.norm(p))


def cat_hinge(y, p):
    k = int(np.argmax(y))
    return max(0.0, 1 + max(max(v for i, v in enumerate(p) if i != k), 0.0) - p[k])


def smooth(y, s, c):
    return (1 - s) * y + s / c


def focal(y, p, gamma=2.0):
    return nll(y, p) * (1 - y * p - (1 - y) * (1 - p)) ** gamma


def overlap(y, p, alpha=0.5, beta=0.5):
    both = (y * p).sum()
    return 1 - both / (both + alpha * (y * (1 - p)).sum() + beta * ((1 - y) * p).sum() + 1e-7)


# class, function, arguments, y_true, y_pred, formula of one row
ROWS = [
    ("MeanSquaredError", "mean_squared_error", {}, REAL_Y, REAL_P, mean(lambda y, p: (y - p) ** 2)),
    ("MeanAbsoluteError", "mean_absolute_error", {}, REAL_Y, REAL_P, mean(lambda y, p: abs(y - p))),
    ("MeanAbsolutePercentageError", "mean_absolute_percentage_error", {}, POS_Y, POS_P,
     mean(lambda y, p: 100 * abs(y - p) / y)),
    ("MeanSquaredLogarithmicError", "mean_squared_logarithmic_error", {}, POS_Y, POS_P,
     mean(lambda y, p: (math.log(1 + y) - math.log(1 + p)) ** 2)),
    ("Huber", "huber", {}, 3 * REAL_Y, REAL_P, mean(huber(1.0))),
    ("Huber", "huber", {"delta": 0.5}, REAL_Y, REAL_P, mean(huber(0.5))),
    ("LogCosh", "log_cosh", {}, REAL_Y, REAL_P, mean(lambda y, p: math.log(math.cosh(y - p)))),
    ("Poisson", "poisson", {}, POS_Y, POS_P, mean(lambda y, p: p - y * math.log(p + 1e-7))),
    ("KLDivergence", "kl_divergence", {}, PROB_Y, PROB_P, total(lambda y, p: y * math.log(y / p))),
    ("CosineSimilarity", "cosine_similarity", {}, REAL_Y, REAL_P, cosine),
    ("Hinge", "hinge", {}, 2 * BITS - 1, REAL_P, mean(lambda y, p: max(0.0, 1 - y * p))),
    ("Hinge", "hinge", {}, BITS, REAL_P, mean(lambda y, p: max(0.0, 1 - (2 * y - 1) * p))),
    ("SquaredHinge", "squared_hinge", {}, 2 * BITS - 1, REAL_P,
     mean(lambda y, p: max(0.0, 1 - y * p) ** 2)),
    ("CategoricalHinge", "categorical_hinge", {}, HOT, REAL_P, cat_hinge),
    ("BinaryCrossentropy", "binary_crossentropy", {}, BITS, UNIT_P, mean(nll)),
    ("BinaryCrossentropy", "binary_crossentropy", {"label_smoothing": 0.2}, BITS, UNIT_P,
     mean(lambda y, p: nll(0.8 * y + 0.1, p))),
    ("BinaryCrossentropy", "binary_crossentropy", {"from_logits": True}, BITS, REAL_P,
     mean(lambda y, p: nll(y, sig(p)))),
    ("CategoricalCrossentropy", "categorical_crossentropy", {}, PROB_Y, PROB_P,
     total(lambda y, p: -y * math.log(p))),
    ("CategoricalCrossentropy", "categorical_crossentropy", {}, HOT, 3 * PROB_P,
     total(lambda y, p: -y * math.log(p / 3))),
    ("CategoricalCrossentropy", "categorical_crossentropy", {"label_smoothing": 0.1}, HOT, PROB_P,
     total(lambda y, p: -smooth(y, 0.1, C) * math.log(p))),
    ("CategoricalCrossentropy", "categorical_crossentropy", {"from_logits": True}, HOT, REAL_P,
     lambda y, p: total(lambda a, b: -a * math.log(b))(y, soft(p))),
    ("SparseCategoricalCrossentropy", "sparse_categorical_crossentropy", {}, LABELS, PROB_P,
     lambda y, p: -math.log(p[y])),
    ("SparseCategoricalCrossentropy", "sparse_categorical_crossentropy", {"from_logits": True},
     LABELS, REAL_P, lambda y, p: -math.log(soft(p)[y])),
    ("SparseCategoricalCrossentropy", "sparse_categorical_crossentropy", {"ignore_class": 1},
     LABELS, PROB_P, lambda y, p: 0.0 if y == 1 else -math.log(p[y])),
    ("BinaryFocalCrossentropy", "binary_focal_crossentropy", {}, BITS, UNIT_P, mean(focal)),
    ("BinaryFocalCrossentropy", "binary_focal_crossentropy",
     {"apply_class_balancing": True, "alpha": 0.3, "gamma": 1.5}, BITS, UNIT_P,
     mean(lambda y, p: (0.3 * y + 0.7 * (1 - y)) * focal(y, p, 1.5))),
    ("BinaryFocalCrossentropy", "binary_focal_crossentropy",
     {"from_logits": True, "label_smoothing": 0.2}, BITS, REAL_P,
     mean(lambda y, p: focal(0.8 * y + 0.1, sig(p)))),
    ("CategoricalFocalCrossentropy", "categorical_focal_crossentropy", {}, HOT, 3 * PROB_P,
     total(lambda y, p: -0.25 * (1 - p / 3) ** 2 * y * math.log(p / 3))),
    ("CategoricalFocalCrossentropy", "categorical_focal_crossentropy",
     {"from_logits": True, "alpha": 0.5, "gamma": 1.0, "label_smoothing": 0.1}, HOT, REAL_P,
     lambda y, p: total(lambda a, b: -0.5 * (1 - b) * smooth(a, 0.1, C) * math.log(b))(y, soft(p))),
    ("Dice", "dice", {"axis": 1}, BITS, UNIT_P,
     lambda y, p: 1 - 2 * (y * p).sum() / (y.sum() + p.sum() + 1e-7)),
    ("Tversky", "tversky", {"axis": -1, "alpha": 0.3, "beta": 0.7}, BITS, UNIT_P,
     lambda y, p: overlap(y, p, 0.3, 0.7)),
    ("CategoricalGeneralizedCrossEntropy", "categorical_generalized_cross_entropy", {"q": 0.7},
     LABELS, PROB_P, lambda y, p: (1 - p[y] ** 0.7) / 0.7),
]  # fmt: skip
IDS = [f"{r[1]}-{'-'.join(map(str, r[2].values()))}-{i}" for i, r in enumerate(ROWS)]


def close(a, b, tol):
    np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=tol, atol=tol)


def targets(y, dtype):
    return y if y.dtype.kind == "i" else y.astype(dtype)


@pytest.mark.parametrize(("dtype", "tol"), [("float32", 3e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_value(row, dtype, tol):
    _, function, kwargs, y, p, formula = row
    expected = [formula(a, b) for a, b in zip(y, p.astype(dtype), strict=True)]
    f = getattr(losses, function)
    y, p = targets(y, dtype), p.astype(dtype)
    result = f(y, p, **kwargs)
    assert str(result.dtype) == dtype
    close(result, expected, tol)
    close(dlcore.function(lambda a, b: f(a, b, **kwargs))(y, p), expected, tol)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_reductions_and_weights(row):
    name, _, kwargs, y, p, formula = row
    values = np.array([formula(a, b) for a, b in zip(y, p, strict=True)])
    w = RNG.uniform(0, 2, N)
    counted = y != kwargs["ignore_class"] if "ignore_class" in kwargs else np.ones(N, bool)
    count = counted.sum()
    cls = getattr(losses, name)
    for reduction, expected in [
        ("sum_over_batch_size", (w * values).sum() / count),
        ("mean", (w * values).sum() / count),
        ("sum", (w * values).sum()),
        ("none", w * values),
        (None, w * values),
        ("mean_with_sample_weight", (w * values).sum() / w[counted].sum()),
    ]:
        loss = cls(reduction=reduction, **kwargs)
        close(loss(y, p, sample_weight=w), expected, 1e-12)
        close(loss(y, p, w[:, None]), expected, 1e-12)
    close(cls(**kwargs)(y, p), values.sum() / count, 1e-12)
    close(cls(**kwargs)(y, p, 2.0), 2 * values.sum() / count, 1e-12)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_gradient(row):
    name, _, kwargs, y, p, _ = row
    loss = getattr(losses, name)(**kwargs)
    gradient = dlcore.grad(lambda a: loss(y, a))(p)
    for i in [(0, 0), (2, 3), (5, 1)]:
        h = 1e-6
        d = np.zeros_like(p)
        d[i] = h
        expected = (float(loss(y, p + d)) - float(loss(y, p - d))) / (2 * h)
        assert gradient[i] == pytest.approx(expected, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_configuration(row):
    name, _, kwargs, y, p, _ = row
    loss = getattr(losses, name)(reduction="sum", **kwargs)
    copy = losses.get(losses.serialize(loss))
    assert type(copy) is type(loss) and copy.get_config() == loss.get_config()
    assert float(copy(y, p)) == float(loss(y, p))


LOGITS = np.array([[40.0, -60.0, 0.0], [-200.0, 200.0, 0.0], [1.0, 2.0, 3.0]], "float32")


def test_softmax_in_a_trace_is_undone():
    y = np.array([1, 0, 2])
    exact = np.log(np.exp(LOGITS.astype(float)).sum(-1)) - LOGITS[range(3), y]
    hot = np.eye(3, dtype="float32")[y]
    for loss, target in [
        ("sparse_categorical_crossentropy", y),
        ("categorical_crossentropy", hot),
    ]:
        f = getattr(losses, loss)
        traced = dlcore.function(lambda t, x, f=f: f(t, ops.softmax(x)))
        close(traced(target, LOGITS), exact, 1e-6)
    # From concrete probabilities the loss is limited to -log(epsilon).
    limited = losses.sparse_categorical_crossentropy(y, ops.softmax(LOGITS))
    close(limited[:2], -np.log(1e-7), 1e-5)


def test_sigmoid_in_a_trace_is_undone():
    x = np.array([[60.0], [-150.0], [0.5]], "float32")
    y = np.array([[0.0], [1.0], [1.0]], "float32")
    f = dlcore.function(lambda t, a: losses.binary_crossentropy(t, ops.sigmoid(a)))
    close(f(y, x), [60, 150, math.log1p(math.exp(-0.5))], 1e-6)
    g = dlcore.grad(lambda a: losses.BinaryCrossentropy(reduction="sum")(y, ops.sigmoid(a)))
    close(g(x)[:, 0], [1, -1, sig(0.5) - 1], 1e-6)
    close(g(np.zeros_like(x))[:, 0], [0.5, -0.5, -0.5], 1e-6)


@pytest.mark.parametrize("x", [1e30, -1e30, 0.0, 1e-6, -1e-6, 30.0])
def test_log_cosh_is_stable(x):
    value = losses.log_cosh([0.0], np.array([x], "float32"))
    near = 0.5 * x * x if abs(x) < 1e-3 else abs(x) - math.log(2)
    close(value, near, 1e-6 * max(1.0, abs(x)))
    if 0 < abs(x) < 1e-3:
        assert float(value) == pytest.approx(near, rel=0.1)


def test_images_of_classes():
    y, x = RNG.integers(0, 3, (2, 4, 5)), RNG.normal(size=(2, 4, 5, 3))
    p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    expected = -np.log(np.take_along_axis(p, y[..., None], -1)[..., 0])
    close(losses.sparse_categorical_crossentropy(y, p), expected, 1e-12)
    close(losses.sparse_categorical_crossentropy(y, x, from_logits=True), expected, 1e-12)
    close(losses.categorical_crossentropy(np.eye(3)[y], x, from_logits=True), expected, 1e-12)
    first = np.moveaxis(x, -1, 1)
    close(losses.sparse_categorical_crossentropy(y, first, True, axis=1), expected, 1e-12)
    close(
        losses.categorical_crossentropy(
            np.moveaxis(np.eye(3)[y], -1, 1), np.moveaxis(p, -1, 1), axis=1
        ),
        expected,
        1e-12,
    )


@pytest.mark.parametrize("loss", ["mse", "mae", "bce", "huber", "log_cosh", "hinge", "poisson"])
@pytest.mark.parametrize("shapes", [((10,), (10, 1)), ((10, 1), (10,)), ((2, 5), (2, 5, 1))])
def test_a_trailing_one_is_matched(loss, shapes):
    y, p = (RNG.uniform(0.1, 0.9, s) for s in shapes)
    f = losses.get(loss)
    shape = max(shapes, key=len)
    close(f(y, p), f(y.reshape(shape), p.reshape(shape)), 0)
    close(losses.resolve(loss)(y, p), losses.resolve(loss)(y.ravel(), p.reshape(-1, 1)), 1e-12)
    if y.size == 10:
        y, p, w = y.ravel(), p.ravel(), RNG.uniform(0, 1, 10)
        close(losses.resolve(loss)(y, p, w), losses.resolve(loss)(y[:, None], p[:, None], w), 1e-12)


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "cosine_similarity", "kld"])
def test_classes_are_the_axis_that_targets_have_too(loss):
    y, p = RNG.dirichlet(np.ones(5), 2), RNG.dirichlet(np.ones(5), 2)
    close(losses.resolve(loss)(y, p[..., None]), losses.resolve(loss)(y, p), 1e-12)
    close(
        losses.resolve(loss)(y[0, :, None], p[0]), losses.resolve(loss)(y[0], p[0, :, None]), 1e-12
    )


def test_probabilities_are_limited_before_they_are_scaled():
    loss, p = losses.SparseCategoricalCrossentropy(), np.array([[0.0, 0.5, 0.5], [-1.0, 0.5, 2.0]])
    limited = np.clip(p, 1e-7, 1 - 1e-7)
    close(loss([0, 1], p), -np.log(limited[[0, 1], [0, 1]] / limited.sum(1)).mean(), 1e-12)
    close(dlcore.grad(lambda p: loss([0, 1], p))(p)[0], [0, 0.5, 0.5], 1e-6)


ELEMENTWISE = [
    "mean_squared_error", "mean_absolute_error", "mean_absolute_percentage_error",
    "mean_squared_logarithmic_error", "huber", "log_cosh", "poisson", "kl_divergence",
    "cosine_similarity", "hinge", "squared_hinge", "categorical_hinge", "binary_crossentropy",
    "categorical_crossentropy",
]  # fmt: skip


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize(
    "shapes", [((10, 3), (10, 1)), ((1, 3), (10, 3)), ((3,), (10, 3)), ((), (4, 1))]
)
def test_never_broadcasts(name, shapes):
    y, p = np.ones(shapes[0]), np.full(shapes[1], 0.5)
    with pytest.raises(ValueError, match=rf"^{name}: expected y_true of shape "):
        getattr(losses, name)(y, p)


def test_own_loss_does_not_broadcast_either():
    def off(y, p):
        return ops.mean(ops.abs(y - p), axis=-1)

    loss = losses.resolve(off)
    assert loss.name == "off"
    assert float(loss(np.arange(4.0), np.arange(4.0)[:, None])) == 0

    class Quartic(losses.Loss):
        def __init__(self, factor=1.0, name="quartic", **kwargs):
            super().__init__(name=name, **kwargs)
            self.factor = factor

        def call(self, y_true, y_pred):
            return self.factor * ops.mean((y_true - y_pred) ** 4, axis=-1)

    assert float(Quartic(2.0)([1, 2], [[2.0], [4.0]])) == 17.0
    config = losses.serialize(Quartic(3.0))
    assert losses.deserialize(config, {"Quartic": Quartic}).factor == 3.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sparse([0, 4], PROB_P[:2]), "labels in 0..3, got 4"),
        (lambda: sparse([-1, 0], PROB_P[:2]), "labels in 0..3, got -1"),
        (lambda: sparse(HOT, PROB_P), "use categorical_crossentropy for one-hot"),
        (lambda: sparse([0, 1], np.ones((2, 5, 3))), r"Flatten\(\), global pooling"),
        (lambda: losses.categorical_crossentropy([0, 1], PROB_P[:2]), "use sparse_categorical_cro"),
        (lambda: losses.binary_crossentropy([0, 1], PROB_P[:2]), "a last layer of 1 unit"),
        (lambda: losses.MeanSquaredError()([1.0], [1.0], [[1.0, 2.0, 3.0]]), "sample_weight"),
        (lambda: losses.MeanSquaredError()(REAL_Y, REAL_P, np.ones(N - 1)), "sample_weight of"),
        (lambda: losses.MeanSquaredError(reduction="avg"), "expected a reduction"),
        (lambda: losses.Huber(delta=-1), "expected delta > 0"),
        (lambda: losses.BinaryCrossentropy(label_smoothing=2), "label_smoothing in 0..1"),
        (lambda: losses.get("mean_square_error"), "did you mean 'mean_squared_error'"),
        (lambda: losses.get({"config": {}}), "class_name"),
    ],
)  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_one_class_is_no_class():
    with pytest.warns(UserWarning, match="binary_crossentropy is for one output"):
        losses.categorical_crossentropy([[1.0], [0.0]], [[0.3], [0.6]])
    with pytest.warns(UserWarning, match="sigmoid is for one output"):
        dlcore.layers.Dense(1, activation="softmax")(np.ones((2, 3)))


def test_label_outside_is_nan_in_a_program():
    for activation in (ops.softmax, ops.exp):
        f = dlcore.function(lambda y, x, a=activation: sparse(y, a(x)))
        value = f(np.array([0, 3, -1]), LOGITS / 100)
        assert np.isfinite(value[0]) and np.isnan(value[1:]).all()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("mse", "mean_squared_error"), ("MSE", "mean_squared_error"),
        ("mae", "mean_absolute_error"),
        ("MAPE", "mean_absolute_percentage_error"), ("msle", "mean_squared_logarithmic_error"),
        ("bce", "binary_crossentropy"), ("kld", "kl_divergence"), ("huber", "huber"),
        ("KLDivergence", "KLDivergence"), ("MeanSquaredError", "MeanSquaredError"),
    ],
)  # fmt: skip
def test_names(name, found):
    loss = losses.get(name)
    assert getattr(loss, "__name__", type(loss).__name__) == found
    assert losses.resolve(name)(REAL_Y, REAL_P) is not None


def test_crossentropy_by_shape():
    for true, pred, name in [
        ((8,), (8, 1), "binary_crossentropy"),
        ((8, 1), (8, 3), "sparse_categorical_crossentropy"),
        ((8,), (8, 3), "sparse_categorical_crossentropy"),
        ((8, 3), (8, 3), "categorical_crossentropy"),
    ]:
        assert losses.resolve("crossentropy", true, pred).fn.__name__ == name


def test_empty_batch_and_one_row():
    loss = losses.MeanSquaredError()
    assert float(loss(np.zeros((0, 3)), np.zeros((0, 3)))) == 0
    assert float(loss(np.zeros((1, 1)), np.ones((1, 1)))) == 1


def test_class_weights():
    weights = losses.class_weights_to_sample_weights([0, 2, 1, 2], {0: 0.5, 2: 3})
    np.testing.assert_array_equal(weights, [0.5, 3, 1, 3])
    hot = np.eye(3)[[0, 2, 1, 2]]
    np.testing.assert_array_equal(
        losses.class_weights_to_sample_weights(hot, {0: 0.5, 2: 3}), weights
    )
    np.testing.assert_array_equal(
        losses.class_weights_to_sample_weights(np.array([[1.0], [0.0]]), {1: 2}), [2, 1]
    )
    with pytest.raises(ValueError, match="weights >= 0"):
        losses.class_weights_to_sample_weights([0], {0: -1})
    with pytest.raises(ValueError, match="class_weight: expected classes as ints, got 'cat'"):
        losses.class_weights_to_sample_weights([0], {"cat": 1})


def test_overlaps_of_whole_arrays():
    """Without an axis they are one number, and q of the generalized cross-entropy is a share."""
    assert float(losses.Dice()(BITS, UNIT_P)) == pytest.approx(overlap(BITS, UNIT_P), rel=1e-6)
    assert losses.tversky(BITS, UNIT_P).shape == ()
    with pytest.raises(ValueError, match="expected q between 0 and 1, got 1"):
        losses.CategoricalGeneralizedCrossEntropy(q=1)


def test_focal_smoothing_along_another_axis():
    rng = np.random.default_rng(2)
    p, y = rng.random((4, 2, 3)), np.eye(3)[rng.integers(0, 3, (4, 2))]
    focal = functools.partial(losses.categorical_focal_crossentropy, label_smoothing=0.3)
    moved = focal(np.moveaxis(y, -1, 1), np.moveaxis(p, -1, 1), axis=1)
    np.testing.assert_allclose(moved, focal(y, p), rtol=1e-12)


def test_masks_of_other_libraries_are_no_masks_of_steps():
    y = np.ma.masked_array(np.ones((3, 2)), mask=[[False, True]] * 3)
    assert losses.MeanSquaredError()(np.zeros((3, 2)), y) == 1
    m = metrics.MeanSquaredError()
    m.update_state(np.zeros((3, 2)), y)
    assert m.result() == 1


def ctc_by_paths(letters, p, blank=0):
    """-log of the sum over every path that, without repetitions and blanks, spells the letters."""
    total = 0.0
    for path in itertools.product(range(p.shape[1]), repeat=len(p)):
        text = [c for i, c in enumerate(path) if i == 0 or c != path[i - 1]]
        if [c for c in text if c != blank] == list(letters):
            total += math.prod(p[t, c] for t, c in enumerate(path))
    return -math.log(total) if total else math.inf


@pytest.mark.parametrize("traced", [False, True])
def test_texts_against_all_paths(traced):
    texts, steps = [(1, 2), (2, 2), (1,), (), (2, 1, 2), (1, 1, 1)], [4, 4, 3, 2, 3, 4]
    x = RNG.normal(size=(6, 4, 3))
    p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    y = np.array([[*t, *[0] * (3 - len(t))] for t in texts])
    sizes = np.array([len(t) for t in texts])
    f = dlcore.function(ops.ctc_loss) if traced else ops.ctc_loss
    expected = [ctc_by_paths(t, q[:n]) for t, q, n in zip(texts, p, steps, strict=True)]
    np.testing.assert_allclose(f(y, x, sizes, np.array(steps)), expected, rtol=1e-10)
    got = ops.ctc_loss(y[:3] - 1, x[:3], sizes[:3], np.array([4] * 3), mask_index=2)
    last = [ctc_by_paths([c - 1 for c in t], q, 2) for t, q in zip(texts[:3], p, strict=False)]
    np.testing.assert_allclose(got, last, rtol=1e-10)
    np.testing.assert_allclose(
        losses.ctc(y[:5], x[:5]),
        [ctc_by_paths(t, q) for t, q in zip(texts[:5], p, strict=False)], rtol=1e-10,
    )  # fmt: skip
    slope = dlcore.grad(lambda x: losses.CTC()(y[:3], x))(x[:3])
    h = np.zeros_like(x[:3])
    h[1, 2, 1] = 1e-6
    rise = losses.CTC()(y[:3], x[:3] + h) - losses.CTC()(y[:3], x[:3] - h)
    np.testing.assert_allclose(slope[1, 2, 1], rise / 2e-6, rtol=1e-6)


def test_likeliest_texts():
    x = np.log(np.array([[[0.1, 0.6, 0.3], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]]))
    for f in (ops.ctc_decode, dlcore.function(ops.ctc_decode)):
        letters, scores = f(x, [4])
        assert letters.tolist() == [[[1, 2, -1, -1]]]
        np.testing.assert_allclose(scores, -x.max(-1).sum(keepdims=True))
    assert ops.ctc_decode(x, [2], merge_repeated=False)[0].tolist() == [[[1, 1, -1, -1]]]
    letters, scores = ops.ctc_decode(x, np.array([4]), "beam_search", top_paths=2)
    found = sorted(
        (ctc_by_paths(t, np.exp(x[0])), t)
        for n in range(5) for t in itertools.product((1, 2), repeat=n)
    )  # fmt: skip
    for k in range(2):
        assert [c for c in letters[k, 0].tolist() if c >= 0] == list(found[k][1])
        assert scores[0, k] == pytest.approx(-found[k][0], rel=1e-5)
    with pytest.raises(ValueError, match="expected strategy 'greedy' or 'beam_search', got 'best'"):
        ops.ctc_decode(x, [4], "best")


def test_points_of_a_class():
    x = RNG.normal(size=(6, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y, d = np.array([0, 1, 0, 2, 1, 0]), np.maximum(1 - x @ x.T, 0)
    expected = []
    for i in range(6):
        near = [j for j in range(6) if y[j] == y[i] and j != i]
        far = [j for j in range(6) if y[j] != y[i]]
        a = sum(math.exp(5 * (0.3 + d[i, j]) * (d[i, j] - 0.3)) for j in near)
        b = sum(math.exp(5 * max(1.3 - d[i, j], 0) * (0.7 - d[i, j])) for j in far)
        expected.append(math.log(1 + a * b))
    np.testing.assert_allclose(losses.circle(y, x, gamma=5, margin=0.3), expected, rtol=1e-10)
    loss = losses.get({"class_name": "Circle", "config": {"gamma": 5.0, "margin": 0.3}})
    assert loss(y, x) == pytest.approx(np.mean([v for v in expected if v > 0]))
    assert losses.deserialize(losses.serialize(loss))(y[:, None], x) == pytest.approx(loss(y, x))
    grad = dlcore.grad(lambda x: loss(y, x))(x.astype("float32"))
    assert np.isfinite(grad).all() and grad[3].any()
