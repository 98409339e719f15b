"""Optimizers: 20 steps against loops in plain float64 Python, eagerly and as programs; schedules;
errors.
"""

import json
import math

import numpy as np
import pytest

import dlcore
from dlcore import ops, optimizers
from dlcore.optimizers import schedules

RNG = np.random.default_rng(5)
STEPS = 20
A, B0 = RNG.normal(size=(6, 3)), RNG.normal(size=(6, 2))
W0, BIAS0 = RNG.normal(size=(3, 2)), RNG.normal(size=2)


def gradient(w, b):
    """Of |A w + b - B|^2 / 6 plus cubes that keep gradients from vanishing."""
    e = A @ w + b - B0
    return A.T @ e / 3 + w**3, e.sum(0) / 3 + b**3


# Reference rules: each is a generator function that takes (w, g, t, state) for one array and
# returns w. State is a dict that starts empty; c holds the options. Written from the papers'
# pseudo-code.
def sgd(w, g, t, s, c):
    if not c.get("momentum"):
        return w - c["a"] * g
    s["u"] = c["momentum"] * s.get("u", 0 * w) - c["a"] * g
    return w + (c["momentum"] * s["u"] - c["a"] * g if c.get("nesterov") else s["u"])


def adagrad(w, g, t, s, c):
    s["h"] = s.get("h", 0 * w + c.get("initial_accumulator_value", 0.1)) + g * g
    return w - c["a"] * g * (s["h"] + 1e-7) ** -0.5


def adadelta(w, g, t, s, c):
    r = c.get("rho", 0.95)
    s["g"] = r * s.get("g", 0 * w) + (1 - r) * g * g
    step = ((s.get("x", 0 * w) + 1e-7) / (s["g"] + 1e-7)) ** 0.5 * g
    s["x"] = r * s.get("x", 0 * w) + (1 - r) * step**2
    return w - c["a"] * step


def rmsprop(w, g, t, s, c):
    r = c.get("rho", 0.9)
    s["ms"] = r * s.get("ms", 0 * w) + (1 - r) * g**2
    s["mg"] = r * s.get("mg", 0 * w) + (1 - r) * g
    var = s["ms"] - s["mg"] ** 2 if c.get("centered") else s["ms"]
    step = c["a"] * g / (var + c.get("epsilon", 1e-7)) ** 0.5
    s["mom"] = c.get("momentum", 0) * s.get("mom", 0 * w) + step
    return w - s["mom"]


def adam(w, g, t, s, c):
    b1, b2, eps = c.get("beta_1", 0.9), c.get("beta_2", 0.999), c.get("epsilon", 1e-7)
    s["m"] = b1 * s.get("m", 0 * w) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0 * w) + (1 - b2) * g * g
    s["top"] = np.maximum(s.get("top", 0 * w), s["v"])
    v = s["top"] if c.get("amsgrad") else s["v"]
    # Bias-corrected form; epsilon is scaled as in the paper's remark before section 2.1.
    m_hat, v_hat = s["m"] / (1 - b1**t), v / (1 - b2**t)
    return w - c["a"] * m_hat / (v_hat**0.5 + eps / (1 - b2**t) ** 0.5)


def adamax(w, g, t, s, c):
    b1, b2 = c.get("beta_1", 0.9), c.get("beta_2", 0.999)
    s["m"] = b1 * s.get("m", 0 * w) + (1 - b1) * g
    s["u"] = np.maximum(b2 * s.get("u", 0 * w), abs(g))
    return w - c["a"] / (1 - b1**t) * s["m"] / (s["u"] + 1e-7)


def nadam(w, g, t, s, c):
    b1, b2 = c.get("beta_1", 0.9), c.get("beta_2", 0.999)
    mu = [b1 * (1 - 0.5 * 0.96**i) for i in range(1, t + 2)]
    s["m"] = b1 * s.get("m", 0 * w) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0 * w) + (1 - b2) * g * g
    g_hat, m_hat = g / (1 - math.prod(mu[:t])), s["m"] / (1 - math.prod(mu))
    v_hat = s["v"] / (1 - b2**t)
    return w - c["a"] * ((1 - mu[t - 1]) * g_hat + mu[t] * m_hat) / (v_hat**0.5 + 1e-7)


def lion(w, g, t, s, c):
    b1, b2, m = c.get("beta_1", 0.9), c.get("beta_2", 0.99), s.get("m", 0 * w)
    s["m"] = b2 * m + (1 - b2) * g
    return w - c["a"] * np.sign(b1 * m + (1 - b1) * g)


def adafactor(w, g, t, s, c):
    b, rho = 1 - t ** c.get("beta_2_decay", -0.8), min(c["a"], t**-0.5)
    square = g * g + 1e-30
    s["v"] = b * s.get("v", 0 * w) + (1 - b) * square
    v = s["v"]
    if w.ndim > 1:  # means of the running squares are running means of their means
        v = np.outer(v.mean(1), v.mean(0)) / v.mean()
    u = g / v**0.5
    u = u / max(1, math.sqrt((u**2).mean()) / c.get("clip_threshold", 1.0))
    return w - max(1e-3, math.sqrt((w**2).mean())) * rho * u


def ftrl(w, g, t, s, c):
    n, p, a = s.get("n", 0 * w + 0.1), -c.get("learning_rate_power", -0.5), c["a"]
    l1, l2 = c.get("l1_regularization_strength", 0), c.get("l2_regularization_strength", 0)
    shrunk = g + 2 * c.get("l2_shrinkage_regularization_strength", 0) * w
    s["n"] = n + g * g
    s["z"] = s.get("z", 0 * w) + shrunk - (s["n"] ** p - n**p) / a * w
    quadratic = s["n"] ** p / a + 2 * (l2 + c.get("beta", 0) / (2 * a))
    return np.where(abs(s["z"]) <= l1, 0, (np.sign(s["z"]) * l1 - s["z"]) / quadratic)


def lamb(w, g, t, s, c):
    u = w - adam(w, g, t, s, {**c, "a": 1.0, "epsilon": 1e-7 * (1 - 0.999**t) ** 0.5})
    return w - c["a"] * np.linalg.norm(w) / np.linalg.norm(u) * u


def muon(w, g, t, s, c):
    if w.ndim != 2:
        options = {"a": c["a"] * c.get("adam_lr_ratio", 1), "beta_1": c.get("adam_beta_1", 0.9)}
        return adam(w, g, t, s, options)
    s["m"] = c.get("momentum", 0.95) * s.get("m", 0 * w) + g
    x = g + c.get("momentum", 0.95) * s["m"] if c.get("nesterov", True) else s["m"]
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(c.get("ns_steps", 5)):
        y = x @ x.T
        x = c.get("muon_a", 3.4445) * x + (-4.775 * y + 2.0315 * y @ y) @ x
    scale = c.get("rms_rate", 0.2)
    return w - c["a"] * (1 if scale is None else scale * max(w.shape) ** 0.5) * x


# class, rule, options, options that the base class handles
ROWS = [
    ("SGD", sgd, {}, {}),
    ("SGD", sgd, {"momentum": 0.9}, {}),
    ("SGD", sgd, {"momentum": 0.9, "nesterov": True}, {}),
    ("SGD", sgd, {}, {"weight_decay": 0.1}),
    ("SGD", sgd, {}, {"clipvalue": 0.3}),
    ("SGD", sgd, {"momentum": 0.5}, {"clipnorm": 0.5}),
    ("SGD", sgd, {}, {"global_clipnorm": 0.7}),
    ("Adagrad", adagrad, {}, {}),
    ("Adagrad", adagrad, {"initial_accumulator_value": 0.5}, {}),
    ("Adadelta", adadelta, {}, {}),
    ("Adadelta", adadelta, {"rho": 0.5}, {}),
    ("RMSprop", rmsprop, {}, {}),
    ("RMSprop", rmsprop, {"rho": 0.7, "momentum": 0.6}, {}),
    ("RMSprop", rmsprop, {"centered": True, "epsilon": 1e-3}, {}),
    ("RMSprop", rmsprop, {"centered": True, "epsilon": 1e-3, "momentum": 0.5}, {"clipvalue": 1.0}),
    ("Adam", adam, {}, {}),
    ("Adam", adam, {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-2}, {}),
    ("Adam", adam, {"amsgrad": True, "beta_2": 0.5}, {}),
    ("Adam", adam, {}, {"global_clipnorm": 0.7}),
    ("Adam", adam, {}, {"weight_decay": 0.2}),
    ("AdamW", adam, {}, {"weight_decay": 0.2}),
    ("AdamW", adam, {"amsgrad": True}, {"weight_decay": 0.1}),
    ("Adamax", adamax, {}, {}),
    ("Adamax", adamax, {"beta_1": 0.5, "beta_2": 0.9}, {}),
    ("Lion", lion, {}, {}),
    ("Lion", lion, {"beta_1": 0.5, "beta_2": 0.9}, {"weight_decay": 0.1}),
    ("Adafactor", adafactor, {}, {}),
    ("Adafactor", adafactor, {"clip_threshold": 0.5, "beta_2_decay": -0.5}, {"clipvalue": 1.0}),
    ("Ftrl", ftrl, {}, {}),
    ("Ftrl", ftrl, {"learning_rate_power": -0.7, "l1_regularization_strength": 0.5,
                    "l2_regularization_strength": 0.1, "beta": 0.2,
                    "l2_shrinkage_regularization_strength": 0.3}, {}),
    ("Lamb", lamb, {}, {}),
    ("Lamb", lamb, {}, {"weight_decay": 0.1}),
    ("Muon", muon, {"adam_weight_decay": None}, {"weight_decay": None}),
    ("Muon", muon, {"adam_weight_decay": 0.1, "nesterov": False, "rms_rate": None,
                    "adam_lr_ratio": 0.5, "ns_steps": 3}, {"weight_decay": 0.1}),
    ("Muon", muon, {"adam_weight_decay": 0.2, "momentum": 0.5, "adam_beta_1": 0.8},
     {"weight_decay": 0.2, "clipvalue": 0.3}),
    ("Nadam", nadam, {}, {}),
    ("Nadam", nadam, {"beta_1": 0.7}, {"clipnorm": 1.0}),
    ("Adam", adam, {}, {"use_ema": True, "ema_momentum": 0.7, "ema_overwrite_frequency": 3}),
]  # fmt: skip
IDS = [f"{r[0]}-{'-'.join({**r[2], **r[3]}) or 'plain'}{i}" for i, r in enumerate(ROWS)]


def reference(rule, options, common, rate, steps=STEPS):
    w, state = [W0.copy(), BIAS0.copy()], [{}, {}]
    means = w
    for t in range(1, steps + 1):
        g = gradient(*w)
        norms = [math.sqrt((x**2).sum()) for x in g]
        if "clipvalue" in common:
            g = [x.clip(-common["clipvalue"], common["clipvalue"]) for x in g]
        if "clipnorm" in common:
            g = [x * min(1, common["clipnorm"] / n) for x, n in zip(g, norms, strict=True)]
        if "global_clipnorm" in common:
            g = [x * min(1, common["global_clipnorm"] / math.hypot(*norms)) for x in g]
        a = rate(t - 1)
        c = {**options, "a": a}
        w = [x * (1 - a * (common.get("weight_decay") or 0)) for x in w]
        w = [rule(w[i], g[i], t, state[i], c) for i in range(2)]
        m = common.get("ema_momentum", 0) if t > 1 else 0
        means = [m * a + (1 - m) * x for a, x in zip(means, w, strict=True)]
        if common.get("ema_overwrite_frequency") and t % common["ema_overwrite_frequency"] == 0:
            w = means
    return w


def make(dtype):
    return [
        dlcore.Variable(W0, dtype=dtype, name="kernel"),
        dlcore.Variable(BIAS0, dtype=dtype, name="bias"),
    ]


def program(optimizer, variables):
    """One training step as a program."""

    def step(a, target):
        w, b = variables
        e = ops.matmul(a, w.value) + b.value - target
        loss = ops.sum(ops.square(e)) / 6.0 + 0.25 * (ops.sum(w.value**4) + ops.sum(b.value**4))
        optimizer.apply(dlcore.gradients(loss, variables), variables)
        return loss

    return dlcore.function(step)


@pytest.mark.parametrize(("dtype", "tol"), [("float32", 2e-5), ("float64", 1e-11)])
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_twenty_steps(row, dtype, tol):
    name, rule, options, common = row
    expected = reference(rule, options, common, lambda step: 0.05)
    for traced in (False, True):
        optimizer = getattr(optimizers, name)(learning_rate=0.05, **options, **common)
        variables = make(dtype)
        optimizer.build(variables)
        step = program(optimizer, variables)
        for _ in range(STEPS):
            if traced:
                step(A.astype(dtype), B0.astype(dtype))
            else:
                g = gradient(*(v.numpy().astype(float) for v in variables))
                optimizer.apply_gradients(
                    [(x.astype(dtype), v) for x, v in zip(g, variables, strict=True)]
                )
        assert int(optimizer.iterations) == STEPS
        for v, e in zip(variables, expected, strict=True):
            assert v.dtype == dtype
            np.testing.assert_allclose(v.numpy(), e, rtol=tol, atol=tol)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_configuration(row):
    name, _, options, common = row
    optimizer = getattr(optimizers, name)(learning_rate=0.25, **options, **common)
    config = json.loads(json.dumps(optimizers.serialize(optimizer)))
    copy = optimizers.get(config)
    assert type(copy) is type(optimizer) and copy.get_config() == optimizer.get_config()
    for key, value in {**options, **common, "learning_rate": 0.25}.items():
        assert copy.get_config()[key] == value


SCHEDULES = [
    (schedules.ExponentialDecay(0.1, 10, 0.5), lambda k: 0.1 * 0.5 ** (k / 10)),
    (schedules.ExponentialDecay(0.1, 10, 0.5, staircase=True), lambda k: 0.1 * 0.5 ** (k // 10)),
    (schedules.StepDecay(0.1, 7), lambda k: 0.1 * 0.1 ** (k // 7)),
    (schedules.PiecewiseConstantDecay([5, 12], [0.1, 0.05, 0.01]),
     lambda k: 0.1 if k <= 5 else 0.05 if k <= 12 else 0.01),
    (schedules.PolynomialDecay(0.1, 10, 0.01), lambda k: 0.1 - 0.09 * min(k, 10) / 10),
    (schedules.PolynomialDecay(0.1, 10, 0.01, power=2.0),
     lambda k: 0.09 * (1 - min(k, 10) / 10) ** 2 + 0.01),
    (schedules.PolynomialDecay(0.1, 10, 0.01, cycle=True),
     lambda k: 0.09 * (1 - k / (10 * max(1, math.ceil(k / 10)))) + 0.01),
    (schedules.InverseTimeDecay(0.1, 4, 0.5), lambda k: 0.1 / (1 + 0.5 * k / 4)),
    (schedules.InverseTimeDecay(0.1, 4, 0.5, True), lambda k: 0.1 / (1 + 0.5 * (k // 4))),
    (schedules.CosineDecay(0.1, 10, 0.2),
     lambda k: 0.1 * (0.8 * (1 + math.cos(math.pi * min(k, 10) / 10)) / 2 + 0.2)),
    (schedules.CosineDecay(0.02, 10, warmup_target=0.1, warmup_steps=4),
     lambda k: 0.02 + 0.08 * k / 4 if k < 4
     else 0.05 * (1 + math.cos(math.pi * min(k - 4, 10) / 10))),
    (schedules.WarmUp(0.1, 5), lambda k: 0.1 * min((k + 1) / 5, 1)),
    (schedules.WarmUp(schedules.ExponentialDecay(0.1, 10, 0.5), 5),
     lambda k: 0.1 * (k + 1) / 5 if k < 5 else 0.1 * 0.5 ** ((k - 5) / 10)),
]  # fmt: skip


def restarts(first, t_mul, m_mul, alpha):
    def rate(k):
        height, length = 1.0, float(first)
        while k >= length:
            k, length, height = k - length, length * t_mul, height * m_mul
        share = height * (1 + math.cos(math.pi * k / length)) / 2
        return 0.1 * ((1 - alpha) * share + alpha)

    return rate


for _arguments in [(5, 2.0, 1.0, 0.0), (5, 3.0, 0.5, 0.1), (4, 1.0, 0.8, 0.0), (1, 3.0, 1.0, 0.0)]:
    SCHEDULES.append((schedules.CosineDecayRestarts(0.1, *_arguments), restarts(*_arguments)))


@pytest.mark.parametrize(("schedule", "formula"), SCHEDULES)
def test_schedule(schedule, formula):
    steps = [*range(45), 121, 364, 1000]
    expected = [formula(k) for k in steps]
    traced = dlcore.function(lambda k: schedule(k))
    copy = schedules.deserialize(json.loads(json.dumps(schedules.serialize(schedule))))
    for f in (schedule, copy, lambda k: traced(np.int64(k)), lambda k: schedule(np.array(k))):
        np.testing.assert_allclose([float(f(k)) for k in steps], expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(("schedule", "formula"), SCHEDULES)
def test_schedule_in_training(schedule, formula):
    optimizer, variables = optimizers.SGD(schedule), make("float64")
    step = program(optimizer, variables)
    for _ in range(12):
        step(A, B0)
    for v, e in zip(variables, reference(sgd, {}, {}, formula, 12), strict=True):
        np.testing.assert_allclose(v.numpy(), e, rtol=1e-10)
    config = json.loads(json.dumps(optimizers.serialize(optimizer)))
    again = optimizers.get(config)
    assert float(again.learning_rate) == pytest.approx(formula(0), rel=1e-9)


def test_rate_changes_while_a_program_runs():
    optimizer, variables = optimizers.SGD(0.1), make("float64")
    step = program(optimizer, variables)
    step(A, B0)
    optimizer.learning_rate = 0.0
    before = variables[0].numpy()
    step(A, B0)
    np.testing.assert_array_equal(variables[0].numpy(), before)
    optimizer.learning_rate.assign(0.1)
    step(A, B0)
    assert not np.array_equal(variables[0].numpy(), before)
    assert optimizer.get_config()["learning_rate"] == 0.1
    optimizer.lr = 0.2
    assert float(optimizer.learning_rate) == 0.2


def test_exclusion_from_weight_decay():
    optimizer, variables = optimizers.SGD(0.1, weight_decay=0.5), make("float64")
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.apply([np.zeros_like(W0), np.zeros_like(BIAS0)], variables)
    np.testing.assert_allclose(variables[0].numpy(), 0.95 * W0)
    np.testing.assert_array_equal(variables[1].numpy(), BIAS0)
    optimizer = optimizers.AdamW(0.1, 0.5)
    optimizer.exclude_from_weight_decay(var_list=[variables[0]])
    before = variables[0].numpy()
    optimizer.apply([np.zeros_like(W0), np.zeros_like(BIAS0)], variables)
    np.testing.assert_array_equal(variables[0].numpy(), before)
    np.testing.assert_allclose(variables[1].numpy(), 0.95 * BIAS0)


def test_missing_gradients_and_old_spellings():
    variables = make("float32")
    optimizer = optimizers.SGD(lr=0.5)
    optimizer.apply([None, np.ones(2, "float32")], variables)
    np.testing.assert_array_equal(variables[0].numpy(), W0.astype("float32"))
    np.testing.assert_allclose(variables[1].numpy(), BIAS0 - 0.5, rtol=1e-6)
    decayed = optimizers.Adam(lr=0.1, decay=0.5)
    decayed.iterations.assign(2)
    assert float(decayed.learning_rate) == pytest.approx(0.05)
    callables = [lambda: 0.25, lambda step: 0.25 + 0 * ops.cast(step, "float64")]
    for rate in callables:
        assert float(optimizers.SGD(rate).learning_rate) == 0.25
    assert optimizers.Adam(use_ema=False, gradient_accumulation_steps=1) is not None


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("name", ["SGD", "Adam", "Nadam", "Adagrad", "Adafactor", "Ftrl", "Lion"])
def test_one_update_for_several_batches(name, traced):
    grads = np.random.default_rng(0).normal(size=(7, 2, 3, 4)).astype("float32")
    w, expected = (dlcore.Variable(np.ones((3, 4), "float32")) for _ in range(2))
    settings = {"weight_decay": 0.1, "clipnorm": 0.5, "learning_rate": 0.1}
    whole = getattr(optimizers, name)(**settings)
    parts = getattr(optimizers, name)(
        **settings, gradient_accumulation_steps=2, loss_scale_factor=4.0
    )
    parts.build([w])
    step = dlcore.function(lambda g: parts.apply([g], [w])) if traced else None
    assert parts.scale_loss(3.0) == 12.0
    for pair in grads:
        whole.apply([pair.mean(0)], [expected])
        before = w.numpy()
        for i, g in enumerate(pair):
            step(4 * g) if traced else parts.apply([4 * g], [w])
            assert int(parts.iterations) == int(whole.iterations) - (i == 0)
            assert i == 1 or np.array_equal(w.numpy(), before)
    np.testing.assert_allclose(w.numpy(), expected.numpy(), rtol=1e-5)
    copy = optimizers.get(optimizers.serialize(parts))
    assert copy.gradient_accumulation_steps == 2 and copy.loss_scale_factor == 4.0
    with pytest.raises(ValueError, match="expected gradient_accumulation_steps as an int > 1"):
        optimizers.SGD(gradient_accumulation_steps=0.5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_that_are_not_used_are_not_touched(dtype):
    rng = np.random.default_rng(0)
    table, ids = rng.normal(size=(50, 3)).astype(dtype), np.array([[1, 7, 1], [49, 7, 7]], "int32")
    dy, w = rng.normal(size=(2, 3, 3)).astype(dtype), dlcore.Variable(table, dtype=dtype)
    optimizer = optimizers.SGD(0.5)

    @dlcore.function
    def step(ids, dy):
        y = ops.sum(ops.take(w, ids, axis=0) * dy)
        optimizer.apply(dlcore.gradients(y, [w]), [w])
        return y

    expected = table.copy()
    for _ in range(3):
        y = step(ids, dy)
        np.testing.assert_allclose(y, (expected[ids] * dy).sum(), rtol=1e-5)
        np.add.at(expected, ids, -0.5 * dy)
    np.testing.assert_allclose(w.numpy(), expected, rtol=1e-5, atol=1e-6)
    unused = np.setdiff1d(np.arange(50), ids)
    np.testing.assert_array_equal(w.numpy()[unused], table[unused])


def test_own_optimizer():
    class SignSGD(optimizers.Optimizer):
        def __init__(self, learning_rate=0.1, **kwargs):
            super().__init__(learning_rate=learning_rate, **kwargs)

        def build(self, variables):
            super().build(variables)
            self.counts = [self.add_variable_from_reference(v, name="count") for v in variables]

        def update_step(self, gradient, variable, learning_rate):
            variable.assign_sub(learning_rate * ops.sign(gradient))

    optimizer, variables = SignSGD(0.5), make("float32")
    optimizer.apply([np.ones_like(W0, "float32"), -np.ones(2, "float32")], variables)
    np.testing.assert_allclose(variables[0].numpy(), W0 - 0.5, rtol=1e-5)
    np.testing.assert_allclose(variables[1].numpy(), BIAS0 + 0.5, rtol=1e-5)
    assert len(optimizer.variables) == 4
    config = optimizers.serialize(optimizer)
    assert float(optimizers.deserialize(config, {"SignSGD": SignSGD}).learning_rate) == 0.5


@pytest.mark.parametrize("name", ["SGD", "sgd", "ADAM", "adamw", "rmsprop", "RMSprop", "Adagrad",
                                  "adadelta", "adamax", "nadam", "lion", "Adafactor", "ftrl",
                                  "lamb"])  # fmt: skip
def test_names(name):
    assert type(optimizers.get(name)).__name__.lower() == name.lower()


def built():
    optimizer = optimizers.Adam()
    optimizer.build(make("float32"))
    return optimizer


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        *[(ValueError, "finite and not negative", lambda r=r: optimizers.SGD(r))
          for r in (-0.1, math.nan, math.inf, "fast", None, True)],
        (ValueError, "finite and not", lambda: setattr(optimizers.SGD(), "learning_rate", -1)),
        (ValueError, "not negative", lambda: schedules.ExponentialDecay(-0.1, 10, 0.5)),
        (ValueError, "decay_steps > 0", lambda: schedules.CosineDecay(0.1, 0)),
        (ValueError, "2 values for 1", lambda: schedules.PiecewiseConstantDecay([1], [1.0])),
        (ValueError, "increasing", lambda: schedules.PiecewiseConstantDecay([3, 1], [1, 1, 1])),
        (TypeError, "schedule sets",
         lambda: setattr(optimizers.SGD(schedules.WarmUp(0.1, 2)), "learning_rate", 0.1)),
        (TypeError, "once training has begun",
         lambda: setattr(built(), "learning_rate", schedules.WarmUp(0.1, 2))),
        (ValueError, "one kind of clipping", lambda: optimizers.SGD(clipnorm=1.0, clipvalue=1.0)),
        (ValueError, "clipnorm > 0", lambda: optimizers.SGD(clipnorm=0.0)),
        (ValueError, "weight_decay", lambda: optimizers.SGD(weight_decay=-1.0)),
        (ValueError, "weight_decay", lambda: optimizers.AdamW(weight_decay=None)),
        (ValueError, "beta_1 < 1", lambda: optimizers.Adam(beta_1=1.0)),
        (ValueError, "momentum <= 1", lambda: optimizers.SGD(momentum=1.5)),
        (ValueError, "ema_momentum in 0..1", lambda: optimizers.Adam(use_ema=True, ema_momentum=2)),
        (ValueError, "ema_overwrite_frequency as an int",
         lambda: optimizers.Adam(use_ema=True, ema_overwrite_frequency=0.5)),
        (TypeError, "did you mean 'beta_1'", lambda: optimizers.Adam(beta1=0.5)),
        (ValueError, "did you mean 'rmsprop'", lambda: optimizers.get("rmsprob")),
        (TypeError, "an Optimizer", lambda: optimizers.get(3)),
        (ValueError, "expected 2 gradients", lambda: built().apply([W0])),
        (ValueError, "gradient of shape", lambda: built().apply([W0.T, BIAS0])),
        (ValueError, "built with", lambda: built().apply([W0, BIAS0], make("float32"))),
    ],
)  # fmt: skip
def test_errors(error, message, call):
    with pytest.raises(error, match=message):
        call()
