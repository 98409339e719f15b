"""Branches, loops and custom gradients: on arrays, in compiled functions, and their gradients."""

import numpy as np
import pytest
from numpy_cases import Case, check_gradient, check_values

import dlcore
from dlcore import ops

CASES = [
    Case(
        "scan",
        lambda m, x: m.scan(lambda c, r: (c * 0.5 + r, c * r), 1.0, x),
        ((5, 3),),
        lambda x: _scanned(x),
    ),
    Case(
        "scan reverse",
        lambda m, x: m.scan(lambda c, r: (c * 0.5 + r, c * r), 1.0, x, reverse=True),
        ((5, 3),),
        lambda x: [y if i == 0 else y[::-1] for i, y in enumerate(_scanned(x[::-1]))],
    ),
    Case(
        "scan length",
        lambda m, x: m.scan(lambda c, _: (c * 0.5, c), x, length=2)[1],
        ((3,),),
        lambda x: np.stack([x, x / 2]),
    ),
    Case("map", lambda m, x: m.map(lambda r: r[0] * r[1], [x, x]), ((5, 3),), lambda x: x * x),
    Case(
        "vectorized_map",
        lambda m, x: m.vectorized_map(lambda r: ops.sum(r * r), x),
        ((5, 3),),
        lambda x: (x * x).sum(1),
    ),
    *(
        Case(
            f"associative_scan {n}",
            lambda m, x: m.associative_scan(lambda a, b: a * b, x, axis=1),
            ((2, n),),
            lambda x: np.cumprod(x, 1),
        )
        for n in (1, 2, 7)
    ),
    Case(
        "associative_scan of pairs",  # a recurrence h = a h + b as one scan
        lambda m, a, b: m.associative_scan(
            lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), (a, b), reverse=True
        )[1],
        ((5,), (5,)),
        lambda a, b: _recurrence(a[::-1], b[::-1])[::-1],
    ),
    Case(
        "fori_loop", lambda m, x: m.fori_loop(1, 4, lambda i, v: v * i + x, x), ((3,),),
        lambda x: ((x + x) * 2 + x) * 3 + x,
    ),
    Case(
        "while_loop",
        lambda m, x: m.while_loop(
            lambda i, v: ops.sum(ops.abs(v)) < 100.0,
            lambda i, v: (i + 1.0, v * 2),
            (0.0 * x[0], x),
            maximum_iterations=9,
        ),
        ((3,),),
        lambda x: _doubled(x),
    ),
    *(
        Case(
            f"cond {sign}",
            lambda m, x, s=sign: m.cond(ops.sum(x * x) * s > 0, lambda: x * x, lambda: x - 1),
            ((3,),),
            lambda x, s=sign: x * x if s > 0 else x - 1,
        )
        for sign in (1, -1)
    ),
    Case(
        "switch",
        lambda m, x, i: m.switch(i, [lambda x: x, lambda x: x * x, lambda x: -x], x),
        ((3,), ()),
        lambda x, i: [x, x * x, -x][int(i)],
        dtypes=(None, "i3"),
    ),
]  # fmt: skip


def _scanned(x):
    c, ys = np.float64(1), []
    for r in x:
        c, y = c * 0.5 + r, c * r
        ys.append(np.broadcast_to(y, r.shape))
    return [c, np.stack(ys)]


def _recurrence(a, b):
    h, hs = 0.0, []
    for p, q in zip(a, b, strict=True):
        h = p * h + q
        hs.append(h)
    return np.stack(hs)


def _doubled(x):
    i = 0.0
    while i < 9 and abs(x).sum() < 100:
        i, x = i + 1, x * 2
    return [np.float64(i), x]


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_value(case, dtype):
    check_values(case, dtype)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_gradient(case):
    check_gradient(case)


def test_a_branch_on_values_changes_variables_of_the_chosen_one():
    v = dlcore.Variable(np.zeros((), "float32"))

    @dlcore.function
    def step(x):
        ops.cond(ops.sum(x) > 0, lambda: v.assign(v + 1), lambda: None)
        return v * 2

    results = [float(step(np.full(2, x, "float32"))) for x in (1, 1, -1, 1)]
    assert results == [2, 4, 4, 6]
    assert float(v.value) == 3


def test_a_gradient_of_its_own():
    @ops.custom_gradient
    def log1pexp(x):
        e = ops.exp(x)

        def grad(*args, upstream=None):
            if upstream is None:
                (upstream,) = args
            return ops.multiply(upstream, 1.0 - 1.0 / ops.add(1, e))

        return ops.log(1 + e), grad

    x = np.array([0.0, 100.0], "float32")
    np.testing.assert_allclose(log1pexp(x[:1]), np.log(2.0), rtol=1e-6)
    np.testing.assert_allclose(
        dlcore.grad(lambda x: ops.sum(log1pexp(x) * 3))(x[:1]), [1.5], rtol=1e-6
    )

    @ops.custom_gradient
    def both(x, y):
        return (x + y, x * y), lambda a, b: (a * 10, b * 100)

    def loss(x, y):
        s, p = both(x, y)
        return ops.sum(s) + 2 * ops.sum(p * p)

    dx, dy = dlcore.grad(loss, (0, 1))(x[:1] + 2, x[:1] + 3)
    np.testing.assert_allclose([dx[0], dy[0]], [10, 100 * 4 * 6])


def test_a_gradient_of_its_own_in_a_model():
    from dlcore import Model, layers

    twice = ops.custom_gradient(lambda x: (x * 2, lambda g: g * 5))
    x = layers.Input((3,))
    model = Model(x, layers.Dense(1, kernel_initializer="ones", use_bias=False)(twice(x)))
    np.testing.assert_allclose(model.predict(np.ones((2, 3)), verbose=0), 6)


def test_numbers_of_steps_must_be_known_in_a_trace():
    x = np.ones(3, "float32")
    for f, name in (
        (lambda x: ops.while_loop(lambda v: ops.sum(v) < 9.0, lambda v: v * 2, x), "while_loop"),
        (lambda x: ops.fori_loop(0, ops.sum(x), lambda i, v: v, x), "fori_loop"),
    ):
        with pytest.raises(TypeError, match=f"{name}: expected .* known while tracing"):
            dlcore.function(f)(x)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: ops.scan(lambda c, y: (c, y), x), "scan: expected xs or length"),
        (lambda x: ops.map(lambda y: y, [x, x[:1]]), "map: expected arrays with one size"),
        (lambda x: ops.switch(0, []), "switch: expected at least one branch"),
    ],
)
def test_wrong_arguments_are_explained(f, message):
    with pytest.raises(ValueError, match=message):
        f(np.ones(3, "float32"))
