"""Metrics over batches against counts and sums over all samples at once; eagerly and inside
programs.
"""

import json
import math

import numpy as np
import pytest

import dlcore
from dlcore import metrics, ops

RNG = np.random.default_rng(11)
N, C = 60, 5
SCORES = RNG.uniform(0, 1, (N, C))
SCORES /= SCORES.sum(-1, keepdims=True)
LABELS = RNG.integers(0, C, N)
HOT = np.eye(C)[LABELS]
P = RNG.uniform(0, 1, N)
Y = (RNG.uniform(0, 1, N) < P).astype(int)
MULTI_P = RNG.uniform(0, 1, (N, C))
MULTI_Y = (RNG.random((N, C)) < 0.4).astype(int)
# Exact in float32, so that only the metric's own rounding counts.
REAL_Y = (RNG.normal(size=(N, 3)) + 50).astype("float32").astype(float)
REAL_P = (REAL_Y + 0.3 * RNG.normal(size=(N, 3))).astype("float32").astype(float)
W = RNG.uniform(0.1, 2, N).astype("float32").astype(float)


def average(values, w):
    return sum(a * b for a, b in zip(values, w, strict=True)) / sum(w)


def right(y, s):
    return [float(max(range(len(r)), key=lambda j: r[j]) == k) for k, r in zip(y, s, strict=True)]


def in_top(k):
    return lambda y, s: [float((r > r[c]).sum() < k) for c, r in zip(y, s, strict=True)]


def rows(f):
    return lambda y, p: [
        np.mean([f(a, b) for a, b in zip(u, v, strict=True)]) for u, v in zip(y, p, strict=True)
    ]


def counted(y, p, w, t=0.5):
    """True positives, false positives, true negatives, false negatives over all elements."""
    w = np.broadcast_to(np.asarray(w).reshape(-1, *(1,) * (p.ndim - 1)), p.shape)
    c = [0.0] * 4
    for a, b, u in zip(y.flat, p.flat, w.flat, strict=True):
        c[(0 if a else 1) if b > t else (3 if a else 2)] += u
    return c


def precision(y, p, w, t=0.5):
    c = counted(y, p, w, t)
    return c[0] / (c[0] + c[1]) if c[0] else 0.0


def recall(y, p, w, t=0.5):
    c = counted(y, p, w, t)
    return c[0] / (c[0] + c[3]) if c[0] else 0.0


def f_scores(beta, y, hot, w):
    result = []
    for j in range(y.shape[1]):
        tp, fp, _, fn = counted(y[:, j], hot[:, j], w)
        p, r = tp / (tp + fp), tp / (tp + fn)
        result.append((1 + beta**2) * p * r / (beta**2 * p + r))
    return np.array(result)


def top2(p):
    kept = np.zeros_like(p)
    for r, k in zip(p, kept, strict=True):
        k[sorted(range(len(r)), key=lambda j: -r[j])[:2]] = 1
    return kept


BEST = np.eye(C)[SCORES.argmax(-1)]


def r2(y, p, w):
    mean = (w[:, None] * y).sum(0) / w.sum()
    return 1 - (w[:, None] * (y - p) ** 2).sum(0) / (w[:, None] * (y - mean) ** 2).sum(0)


def cross(y, p):
    return [-math.log(r[k]) for k, r in zip(y, p, strict=True)]


def cosines(y, p):
    lengths = np.linalg.norm(y, axis=1) * np.linalg.norm(p, axis=1)
    return np.einsum("nd,nd->n", y, p) / lengths


def rank_auc(y, p, w):
    """Weighted share of pairs (positive, negative) in the right order: the exact ROC area."""
    pos, neg = y == 1, y == 0
    order = (p[pos][:, None] > p[neg]) + 0.5 * (p[pos][:, None] == p[neg])
    pairs = w[pos][:, None] * w[neg]
    return (order * pairs).sum() / pairs.sum()


GRID = np.round(P * 199) / 199 * 0.999 + 0.0005  # so that 200 thresholds tell all values apart


def overlaps(y, p, w, classes):
    either = [w[(y == c) | (p == c)].sum() for c in classes]
    return np.mean([w[(y == c) & (p == c)].sum() / e for c, e in zip(classes, either, strict=True)])


def best(wanted, bounded, least):
    def formula(y, p, w):
        counts = [counted(y, p, w, np.float32(t)) for t in np.linspace(0, 1, 200)]
        figures = {
            "recall": [c[0] / (c[0] + c[3]) for c in counts],
            "precision": [c[0] / max(c[0] + c[1], 1e-9) for c in counts],
            "specificity": [c[2] / (c[2] + c[1]) for c in counts],
        }
        pairs = zip(figures[wanted], figures[bounded], strict=True)
        return max(a for a, b in pairs if b >= least)

    return formula


def correlations(y, p, concordance=False):
    result = []
    for a, b in zip(y, p, strict=True):
        cov = np.mean((a - a.mean()) * (b - b.mean()))
        spread = a.var() + b.var() + (a.mean() - b.mean()) ** 2 + 1e-7
        result.append(2 * cov / spread if concordance else cov / (a.std() * b.std()))
    return result


SCORES_AS_CLASSES = SCORES.argmax(-1)

# name, arguments, y_true, y_pred, formula of (y, p, w), tolerance
ROWS = [
    ("Accuracy", {}, LABELS[:, None], SCORES.argmax(-1)[:, None],
     lambda y, p, w: average(y[:, 0] == p[:, 0], w), 1e-6),
    ("BinaryAccuracy", {}, Y[:, None], P[:, None],
     lambda y, p, w: average((p[:, 0] > 0.5) == y[:, 0], w), 1e-6),
    ("BinaryAccuracy", {}, Y, P, lambda y, p, w: average((p > 0.5) == y, w), 1e-6),
    ("MeanAbsoluteError", {}, Y, P, lambda y, p, w: average(abs(p - y), w), 1e-6),
    ("RootMeanSquaredError", {}, Y, P, lambda y, p, w: math.sqrt(average((p - y) ** 2, w)), 1e-6),
    ("BinaryAccuracy", {"threshold": 0.3}, MULTI_Y, MULTI_P,
     lambda y, p, w: average(((p > 0.3) == y).mean(-1), w), 1e-6),
    ("CategoricalAccuracy", {}, HOT, SCORES, lambda y, p, w: average(right(LABELS, p), w), 1e-6),
    ("SparseCategoricalAccuracy", {}, LABELS, SCORES,
     lambda y, p, w: average(right(y, p), w), 1e-6),
    ("SparseCategoricalAccuracy", {}, LABELS[:, None], SCORES,
     lambda y, p, w: average(right(LABELS, p), w), 1e-6),
    ("TopKCategoricalAccuracy", {"k": 2}, HOT, SCORES,
     lambda y, p, w: average(in_top(2)(LABELS, p), w), 1e-6),
    ("SparseTopKCategoricalAccuracy", {"k": 3}, LABELS, SCORES,
     lambda y, p, w: average(in_top(3)(y, p), w), 1e-6),
    ("TruePositives", {}, MULTI_Y, MULTI_P, lambda y, p, w: counted(y, p, w)[0], 1e-6),
    ("FalsePositives", {"thresholds": 0.7}, MULTI_Y, MULTI_P,
     lambda y, p, w: counted(y, p, w, 0.7)[1], 1e-6),
    ("TrueNegatives", {}, MULTI_Y, MULTI_P, lambda y, p, w: counted(y, p, w)[2], 1e-6),
    ("FalseNegatives", {"thresholds": [0.2, 0.8]}, MULTI_Y, MULTI_P,
     lambda y, p, w: [counted(y, p, w, t)[3] for t in (0.2, 0.8)], 1e-6),
    ("Precision", {}, Y, P, precision, 1e-6),
    ("Precision", {}, Y[:, None], P[:, None], precision, 1e-6),
    ("Precision", {"thresholds": [0.2, 0.9, 1.0]}, MULTI_Y, MULTI_P,
     lambda y, p, w: [precision(y, p, w, t) for t in (0.2, 0.9, 1.0)], 1e-6),
    ("Precision", {"class_id": 2}, MULTI_Y, MULTI_P,
     lambda y, p, w: precision(y[:, 2], p[:, 2], w), 1e-6),
    ("Precision", {"top_k": 2}, MULTI_Y, MULTI_P, lambda y, p, w: precision(y, top2(p), w), 1e-6),
    ("Recall", {}, Y, P, recall, 1e-6),
    ("Recall", {"top_k": 2, "thresholds": 0.5}, MULTI_Y, MULTI_P,
     lambda y, p, w: recall(y, top2(p) * p, w), 1e-6),
    ("F1Score", {}, HOT, SCORES, lambda y, p, w: f_scores(1, y, BEST, w), 1e-6),
    ("F1Score", {"average": "macro"}, LABELS, SCORES,
     lambda y, p, w: f_scores(1, HOT, BEST, w).mean(), 1e-6),
    ("F1Score", {"average": "weighted"}, HOT, SCORES,
     lambda y, p, w: average(f_scores(1, y, BEST, w), w @ y), 1e-6),
    ("F1Score", {"average": "micro"}, HOT, SCORES,
     lambda y, p, w: average(right(LABELS, p), w), 1e-6),
    ("F1Score", {"threshold": 0.4}, MULTI_Y, MULTI_P,
     lambda y, p, w: f_scores(1, y, p > 0.4, w), 1e-6),
    ("F1Score", {}, Y, P, lambda y, p, w: f_scores(1, y[:, None], p[:, None] > 0.5, w), 1e-6),
    ("FBetaScore", {"beta": 2.0}, HOT, SCORES, lambda y, p, w: f_scores(2, y, BEST, w), 1e-6),
    ("AUC", {}, Y, GRID, rank_auc, 1e-6),
    ("AUC", {}, Y[:, None], GRID[:, None],
     lambda y, p, w: rank_auc(y[:, 0], p[:, 0], w), 1e-6),
    ("AUC", {"from_logits": True}, Y, np.log(GRID / (1 - GRID)), rank_auc, 1e-6),
    ("AUC", {"multi_label": True, "num_thresholds": 2000}, MULTI_Y, MULTI_P,
     lambda y, p, w: np.mean([rank_auc(y[:, j], p[:, j], w) for j in range(C)]), 2e-3),
    ("MeanSquaredError", {}, REAL_Y, REAL_P,
     lambda y, p, w: average(rows(lambda a, b: (a - b) ** 2)(y, p), w), 1e-6),
    ("RootMeanSquaredError", {}, REAL_Y, REAL_P,
     lambda y, p, w: math.sqrt(average(rows(lambda a, b: (a - b) ** 2)(y, p), w)), 1e-6),
    ("MeanAbsoluteError", {}, REAL_Y, REAL_P,
     lambda y, p, w: average(rows(lambda a, b: abs(a - b))(y, p), w), 1e-6),
    ("MeanAbsolutePercentageError", {}, REAL_Y, REAL_P,
     lambda y, p, w: average(rows(lambda a, b: 100 * abs(a - b) / abs(a))(y, p), w), 1e-6),
    ("MeanSquaredLogarithmicError", {}, REAL_Y, REAL_P,
     lambda y, p, w: average(rows(lambda a, b: math.log((1 + a) / (1 + b)) ** 2)(y, p), w), 1e-5),
    ("LogCoshError", {}, REAL_Y, REAL_P,
     lambda y, p, w: average(rows(lambda a, b: math.log(math.cosh(a - b)))(y, p), w), 1e-5),
    ("CosineSimilarity", {}, REAL_Y, REAL_P, lambda y, p, w: average(cosines(y, p), w), 1e-6),
    ("R2Score", {}, REAL_Y, REAL_P, lambda y, p, w: r2(y, p, w).mean(), 1e-9),
    ("R2Score", {"class_aggregation": None}, REAL_Y, REAL_P, r2, 1e-9),
    ("R2Score", {"class_aggregation": "variance_weighted_average"}, REAL_Y, REAL_P,
     lambda y, p, w: 1 - (w[:, None] * (y - p) ** 2).sum()
     / (w[:, None] * (y - w @ y / w.sum()) ** 2).sum(), 1e-9),
    ("BinaryCrossentropy", {}, Y[:, None], GRID[:, None],
     lambda y, p, w: average([-math.log(b if a else 1 - b) for a, b in zip(Y, GRID, strict=True)],
                             w), 1e-5),
    ("CategoricalCrossentropy", {}, HOT, SCORES,
     lambda y, p, w: average(cross(LABELS, p), w), 1e-6),
    ("SparseCategoricalCrossentropy", {}, LABELS, SCORES,
     lambda y, p, w: average(cross(y, p), w), 1e-6),
    ("KLDivergence", {}, HOT, SCORES, lambda y, p, w: average(cross(LABELS, p), w), 1e-4),
    ("Poisson", {}, REAL_Y, REAL_P,
     lambda y, p, w: average(rows(lambda a, b: b - a * math.log(b))(y, p), w), 1e-5),
    ("Hinge", {}, 2 * MULTI_Y - 1, MULTI_P,
     lambda y, p, w: average(rows(lambda a, b: max(0, 1 - a * b))(y, p), w), 1e-6),
    ("SquaredHinge", {}, 2 * MULTI_Y - 1, MULTI_P,
     lambda y, p, w: average(rows(lambda a, b: max(0, 1 - a * b) ** 2)(y, p), w), 1e-6),
    ("CategoricalHinge", {}, HOT, SCORES,
     lambda y, p, w: average([1 - r[k] + max(v for j, v in enumerate(r) if j != k)
                              for k, r in zip(LABELS, p, strict=True)], w), 1e-6),
    ("ConfusionMatrix", {"num_classes": C}, LABELS, SCORES,
     lambda y, p, w: [[w[(y == i) & (p.argmax(-1) == j)].sum() for j in range(C)]
                      for i in range(C)], 1e-6),
    ("ConfusionMatrix", {"num_classes": 2}, Y, P[:, None],
     lambda y, p, w: [[w[(y == i) & ((p[:, 0] > 0.5) == j)].sum() for j in range(2)]
                      for i in range(2)], 1e-6),
    ("IoU", {"num_classes": C, "target_class_ids": [0, 2]}, LABELS, SCORES_AS_CLASSES,
     lambda y, p, w: overlaps(y, p, w, [0, 2]), 1e-6),
    ("MeanIoU", {"num_classes": C, "ignore_class": 1}, LABELS, SCORES_AS_CLASSES,
     lambda y, p, w: overlaps(y[y != 1], p[y != 1], w[y != 1], range(C)), 1e-6),
    ("MeanIoU", {"num_classes": C, "sparse_y_pred": False}, LABELS, SCORES,
     lambda y, p, w: overlaps(y, p.argmax(-1), w, range(C)), 1e-6),
    ("OneHotIoU", {"num_classes": C, "target_class_ids": [1]}, HOT, SCORES,
     lambda y, p, w: overlaps(y.argmax(-1), p.argmax(-1), w, [1]), 1e-6),
    ("OneHotMeanIoU", {"num_classes": C}, HOT, SCORES,
     lambda y, p, w: overlaps(y.argmax(-1), p.argmax(-1), w, range(C)), 1e-6),
    ("BinaryIoU", {"threshold": 0.4}, Y, P,
     lambda y, p, w: overlaps(y, p >= 0.4, w, [0, 1]), 1e-6),
    ("SensitivityAtSpecificity", {"specificity": 0.7}, Y, P,
     best("recall", "specificity", 0.7), 1e-6),
    ("SpecificityAtSensitivity", {"sensitivity": 0.7}, Y, P,
     best("specificity", "recall", 0.7), 1e-6),
    ("PrecisionAtRecall", {"recall": 0.6, "class_id": 1}, MULTI_Y, MULTI_P,
     lambda y, p, w: best("precision", "recall", 0.6)(y[:, 1], p[:, 1], w), 1e-6),
    ("RecallAtPrecision", {"precision": 0.6}, Y, P, best("recall", "precision", 0.6), 1e-6),
    ("PearsonCorrelation", {}, REAL_Y - 50, REAL_P - 50,
     lambda y, p, w: average(correlations(y, p), w), 1e-4),
    ("ConcordanceCorrelation", {}, REAL_Y - 50, REAL_P - 50,
     lambda y, p, w: average(correlations(y, p, True), w), 1e-4),
    ("SparseCategoricalCrossentropy", {"ignore_class": 1}, LABELS, SCORES / SCORES.sum(-1)[:, None],
     lambda y, p, w: average([0 if k == 1 else v for k, v in zip(y, cross(y, p), strict=True)], w),
     1e-5),
]  # fmt: skip
IDS = [f"{r[0]}-{'-'.join(r[1])}{i}" for i, r in enumerate(ROWS)]
BATCHES = [slice(0, 25), slice(25, 50), slice(50, 60)]


def as_input(x):
    return x if x.dtype.kind in "ib" else x.astype("float32")


def run(metric, y, p, w=None, update=None):
    update = update or metric.update_state
    metric.reset_state()
    for b in BATCHES:
        update(*(as_input(x[b]) for x in ((y, p) if w is None else (y, p, w))))
    return metric.result()


@pytest.mark.parametrize("row", ROWS, ids=IDS)
@pytest.mark.parametrize("traced", [False, True], ids=["eager", "traced"])
def test_value(row, traced):
    name, kwargs, y, p, formula, tol = row
    metric = getattr(metrics, name)(**kwargs)
    update = dlcore.function(lambda *batch: metric.update_state(*batch)) if traced else None
    for w in (None, W):
        result = run(metric, y, p, w, update)
        expected = formula(y, p, np.ones(N) if w is None else w)
        if np.ndim(expected) == 0:
            assert type(result) is float
        np.testing.assert_allclose(result, expected, rtol=tol, atol=tol)
    metric.reset_state()
    assert all(not v.numpy().any() for v in metric.variables)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_configuration(row):
    name, kwargs, y, p, _, _ = row
    metric = getattr(metrics, name)(name="mine", **kwargs)
    copy = metrics.get(json.loads(json.dumps(metrics.serialize(metric))))
    assert type(copy) is type(metric) and copy.name == "mine"
    assert copy.get_config() == metric.get_config()
    np.testing.assert_array_equal(run(copy, y, p), run(metric, y, p))


def test_sums_are_exact_beyond_float32():
    mean, total = metrics.Mean(), metrics.Sum()
    for _ in range(3):
        mean.update_state(np.full(10, 2.0**24, "float32"))
        mean.update_state(np.ones(10, "float32"))
        total.update_state([2.0**24, 2.0])
        total.update_state(0.5)
    assert mean.result() == (2**24 + 1) / 2
    assert total.result() == 3 * (2**24 + 2.5)


def test_mean_weights():
    mean = metrics.Mean()
    assert mean([1.0, 3.0, 5.0, 7.0]) == 4.0
    mean.reset_state()
    assert mean([1.0, 3.0, 5.0, 7.0], sample_weight=[1, 1, 0, 0]) == 2.0
    mean.reset_state()
    assert mean.result() == 0.0
    assert mean([[1.0, 3.0], [5.0, 7.0]], sample_weight=[1, 0]) == 2.0
    assert metrics.Sum()([[1.0, 3.0], [5.0, 7.0]], [1, 0]) == 4.0


def test_against_scikit_learn():
    sk = pytest.importorskip("sklearn.metrics")
    assert run(metrics.R2Score(), REAL_Y, REAL_P) == pytest.approx(
        sk.r2_score(REAL_Y, REAL_P), rel=1e-6
    )
    for average in ("micro", "macro", "weighted"):
        expected = sk.f1_score(LABELS, SCORES.argmax(-1), average=average)
        assert run(metrics.F1Score(average), LABELS, SCORES) == pytest.approx(expected, rel=1e-6)
    assert run(metrics.AUC(2000), Y, P, W) == pytest.approx(
        sk.roc_auc_score(Y, P, sample_weight=W), abs=2e-3
    )
    expected = sk.average_precision_score(Y, P)
    assert run(metrics.AUC(2000, curve="PR"), Y, P) == pytest.approx(expected, abs=0.02)
    lower = run(metrics.AUC(2000, "PR", "minoring"), Y, P)
    upper = run(metrics.AUC(2000, "PR", "majoring"), Y, P)
    assert lower < run(metrics.AUC(2000, curve="PR"), Y, P) < upper
    np.testing.assert_array_equal(
        run(metrics.ConfusionMatrix(C), LABELS, SCORES),
        sk.confusion_matrix(LABELS, SCORES.argmax(-1)),
    )
    expected = sk.top_k_accuracy_score(LABELS, SCORES, k=2)
    assert run(metrics.SparseTopKCategoricalAccuracy(2), LABELS, SCORES) == pytest.approx(expected)


def test_pr_area_of_a_known_curve():
    # Predictions 0.9, 0.6, 0.4 of positive, negative, positive: 1/2 + integral of TP / P from (1,
    # 2) to (2, 3).
    metric = metrics.AUC(curve="PR", thresholds=[0.5, 0.8])
    expected = 0.5 + 0.5 * (1 - math.log(3 / 2))
    assert metric([1, 0, 1], [0.9, 0.6, 0.4]) == pytest.approx(expected, rel=1e-6)


def test_adjusted_r2():
    plain, n = run(metrics.R2Score(), REAL_Y, REAL_P), N
    adjusted = run(metrics.R2Score(num_regressors=4), REAL_Y, REAL_P)
    assert adjusted == pytest.approx(1 - (1 - plain) * (n - 1) / (n - 5), rel=1e-12)


def test_class_weights_of_auc():
    one = metrics.AUC(multi_label=True, num_labels=C, label_weights=[0, 0, 1, 0, 0])
    only = run(metrics.AUC(), MULTI_Y[:, 2], MULTI_P[:, 2])
    assert run(one, MULTI_Y, MULTI_P) == pytest.approx(only, rel=1e-6)


@pytest.mark.parametrize(
    ("identifier", "true", "pred", "found"),
    [
        ("accuracy", (8,), (8, 1), "BinaryAccuracy"), ("acc", (8, 1), (8, 1), "BinaryAccuracy"),
        ("accuracy", (8,), (8,), "BinaryAccuracy"),
        ("Accuracy", (8,), (8, 3), "SparseCategoricalAccuracy"),
        ("acc", (8, 1), (8, 3), "SparseCategoricalAccuracy"),
        ("accuracy", (8, 3), (8, 3), "CategoricalAccuracy"),
        ("accuracy", (8, 4), (8, 4, 3), "SparseCategoricalAccuracy"),
        ("crossentropy", (8,), (8, 3), "SparseCategoricalCrossentropy"),
        ("ce", (8, 3), (8, 3), "CategoricalCrossentropy"),
        ("mse", (8, 1), (8, 1), "MeanSquaredError"), ("MAE", (8, 1), (8, 1), "MeanAbsoluteError"),
        ("rmse", (8, 1), (8, 1), "RootMeanSquaredError"), ("auc", (8,), (8, 1), "AUC"),
        ("precision", (8,), (8, 1), "Precision"), ("r2_score", (8,), (8, 1), "R2Score"),
        ("f1_score", (8,), (8, 1), "F1Score"), ("KLDivergence", (8, 2), (8, 2), "KLDivergence"),
        ("top_k_categorical_accuracy", (8, 9), (8, 9), "TopKCategoricalAccuracy"),
    ],
)  # fmt: skip
def test_resolve(identifier, true, pred, found):
    metric = metrics.resolve(identifier, true, pred, "int64")
    assert type(metric).__name__ == found and metric.name == identifier


def test_functions_and_own_metrics():
    def off(y_true, y_pred):
        return ops.mean(ops.abs(y_true - y_pred), axis=-1)

    metric = metrics.resolve(off)
    assert metric.name == "off"
    assert metric(np.arange(4), np.arange(4.0)[:, None] + 1) == 1.0
    config = metrics.serialize(metrics.MeanMetricWrapper(metrics.binary_accuracy, threshold=0.2))
    assert metrics.get(config)([0, 1], [0.3, 0.1]) == 0.0

    class Largest(metrics.Metric):
        def __init__(self, name="largest", **kwargs):
            super().__init__(name=name, **kwargs)
            self.top = self.add_weight(name="top", initializer="zeros")

        def update_state(self, y_true, y_pred, sample_weight=None):
            error = ops.max(ops.abs(ops.cast(y_true, "float64") - ops.cast(y_pred, "float64")))
            self.top.assign(ops.maximum(self.top, error))

        def result(self):
            return self.top.numpy()

    metric = Largest()
    update = dlcore.function(metric.update_state)
    update(np.zeros(3), np.array([0.5, -2.0, 1.0]))
    update(np.zeros(3), np.ones(3))
    assert metric.result() == 2.0
    copy = metrics.deserialize(metrics.serialize(metric), {"Largest": Largest})
    assert copy.name == "largest" and copy.result() == 0.0


def test_targets_without_the_last_axis():
    y, p = RNG.normal(size=8), RNG.normal(size=(8, 1))
    for name in ("MeanSquaredError", "MeanAbsoluteError", "RootMeanSquaredError", "R2Score"):
        metric = getattr(metrics, name)
        assert metric()(y, p) == pytest.approx(metric()(y[:, None], p), rel=1e-12)
    assert metrics.BinaryAccuracy()([0, 1, 1, 0], [[0.1], [0.9], [0.2], [0.4]]) == 0.75


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("mean_squared_error: expected y_true of", lambda: metrics.MeanSquaredError()(Y, MULTI_P)),
        ("expected y_true of shape", lambda: metrics.CategoricalAccuracy()(LABELS, SCORES)),
        ("expected y_true of shape", lambda: metrics.SparseCategoricalAccuracy()(HOT, SCORES)),
        ("expected y_true of shape", lambda: metrics.SparseTopKCategoricalAccuracy()(HOT, SCORES)),
        ("expected y_true of shape", lambda: metrics.Precision()(LABELS, SCORES)),
        ("expected y_pred", lambda: metrics.F1Score()(HOT[None], SCORES[None])),
        ("expected sample_weight", lambda: metrics.Mean()(P, W[:5])),
        ("threshold between", lambda: metrics.BinaryAccuracy(threshold=2)),
        ("recall_at_precision: expected num_thr", lambda: metrics.RecallAtPrecision(0.5, 0)),
        ("expected precision in 0", lambda: metrics.RecallAtPrecision(1.5)),
        (r"target_class_ids in 0\.\.1, got", lambda: metrics.IoU(2, [2])),
        ("as many targets as predictions", lambda: metrics.MeanIoU(2)([0, 1], [1])),
        ("thresholds in", lambda: metrics.Precision(thresholds=[0.5, 1.5])),
        ("average in", lambda: metrics.F1Score("all")),
        ("curve", lambda: metrics.AUC(curve="roc")),
        ("num_thresholds", lambda: metrics.AUC(1)),
        ("num_classes", lambda: metrics.ConfusionMatrix(1)),
        ("class_aggregation", lambda: metrics.R2Score("mean")),
        ("did you mean 'precision'", lambda: metrics.get("precison")),
        ("did you mean 'accuracy'", lambda: metrics.get("acuracy")),
    ],
)  # fmt: skip
def test_errors(message, call):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("f", [metrics.accuracy, metrics.binary_accuracy])
def test_accuracies_of_elements(f):
    y = np.array([[0, 1], [1, 1]])
    assert np.array_equal(f(y, [[0, 1], [0, 1]]), [[1, 1], [0, 1]])


def test_a_function_without_a_name_is_called_lambda():
    assert metrics.MeanMetricWrapper(lambda y, p: y - p).name == "lambda"


def test_a_loss_as_a_metric_has_its_name():
    assert metrics.MeanMetricWrapper(dlcore.losses.MeanSquaredError()).name == "mean_squared_error"
