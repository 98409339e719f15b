"""Programs: what is fused, where results lie, that a compiled program does what formulas do."""

import numpy as np
import pytest

import dlcore
from dlcore import ops
from dlcore.backends.arrays import ArrayProgram
from dlcore.ops.normalization import normalize_channels
from dlcore.program import BatchProgram, Graph, Trace, gradients, pack
from dlcore.program.fuse import find_layouts, fuse, reshape_strides
from dlcore.program.schedule import plan


def traced(f, *shapes, dtype="float32"):
    with Trace() as trace:
        result = f(*[trace.input(s, dtype) for s in shapes])
        outputs = list(result) if isinstance(result, (list, tuple)) else [result]
        return Graph(trace, [o for o in outputs if o is not None])


def kernels(graph):
    """The units of a graph by the name of their anchor, "pointwise" without one."""
    layouts = find_layouts(graph)
    units = plan(graph, layouts, fuse(graph, layouts)).units
    return sorted(
        "copy" if not u.nodes else u.anchor.op.name if u.anchor else "pointwise" for u in units
    )


def test_dense_layer_is_one_product():
    graph = traced(lambda x, w, b: ops.relu(x @ w + b), (8, 5), (5, 4), (4,))
    assert kernels(graph) == ["matmul"]


def test_dense_layer_over_a_sequence_is_one_product():
    graph = traced(lambda x, w, b: ops.relu(x @ w + b), (8, 3, 5), (5, 4), (4,))
    assert kernels(graph) == ["matmul"]


def test_elementwise_chain_is_one_expression():
    graph = traced(lambda x: ops.tanh(ops.exp(x) * 2.0 + 1.0) / 3.0 - x, (8, 5))
    assert kernels(graph) == ["pointwise"]


def test_reduction_takes_its_prologue():
    graph = traced(lambda x, y: ops.mean(ops.square(x - y)), (8, 5), (8, 5))
    assert kernels(graph) == ["pointwise", "reduce"]


@pytest.mark.parametrize(
    "view",
    [
        ops.transpose,
        lambda t: t[::-1],
        lambda t: ops.reshape(ops.transpose(t), (3, 3)),
        lambda t: ops.broadcast_to(t[:1], (3, 3)),
    ],
)
def test_views_of_a_result_are_read_when_it_is_whole(view):
    def chain(x):
        t = ops.exp(x)
        return t + view(t)

    def joined(x):  # the second chain reads the first one's result both ways
        t = ops.exp(x)
        return ops.tanh(x * 2.0) * view(t) + t

    x = np.arange(9, dtype="float32").reshape(3, 3) / 8
    for f in (chain, joined):
        np.testing.assert_allclose(dlcore.function(f)(x), f(x), rtol=1e-6)


def test_product_whose_operand_is_also_in_its_epilogue():
    def f(x, w):
        u = ops.tanh(x)
        return ops.relu(u @ w) * u + u

    x = np.arange(9, dtype="float32").reshape(3, 3) / 8
    np.testing.assert_allclose(dlcore.function(f)(x, x), f(x, x), rtol=1e-6)


def test_gradient_of_a_sum_over_one_element():
    x = np.array([[0.5], [-0.25], [1.25]], "float32")
    loss = dlcore.value_and_grad(lambda x: ops.sum(x * ops.exp(ops.sum(x, 1, keepdims=True))))
    np.testing.assert_allclose(loss(x)[1], np.exp(x) * (1 + x), rtol=1e-6)


def test_activation_gradient_rides_in_the_product_that_makes_dy():
    def f(x, w1, w2):
        h = ops.relu(x @ w1)
        return gradients(ops.sum(h @ w2), [x])[0]

    graph = traced(f, (8, 5), (5, 4), (4, 3))
    assert kernels(graph).count("pointwise") == 0


def adam_step(w, m, v, product=ops.matmul):
    def step(x):
        loss = ops.mean(ops.square(product(x, w)))
        (g,) = gradients(loss, [w])
        new = ops.adam_update(w, g, m, v, 0.01, 0.1, 0.001, 1e-7)
        for variable, value in zip((w, m, v), new, strict=True):
            variable.assign(value)
        return loss

    return step


def variables():
    rng = np.random.default_rng(0)
    w = dlcore.Variable(rng.normal(size=(5, 4)).astype("float32"), name="w")
    return w, dlcore.Variable(np.zeros((5, 4), "f")), dlcore.Variable(np.zeros((5, 4), "f"))


def test_optimizer_update_is_the_epilogue_of_its_gradient_and_in_place():
    w, m, v = variables()
    graph = traced(adam_step(w, m, v), (8, 5))
    layouts = find_layouts(graph)
    result = plan(graph, layouts, fuse(graph, layouts))
    update = next(u for u in result.units if any(n.op.name == "adam_update" for n in u.nodes))
    assert update.anchor.op.name == "matmul"
    assert {home[1] for home in result.homes.values() if home[0] == "variable"} == {w, m, v}


def test_training_step_equals_the_formulas():
    x = np.random.default_rng(1).normal(size=(8, 5)).astype("float32")
    native, formula = variables(), variables()
    run = dlcore.function(adam_step(*native))
    reference = ArrayProgram(traced(adam_step(*formula), (8, 5)))
    for _ in range(5):
        assert run(x) == pytest.approx(reference(x)[0], rel=1e-5)
    for a, b in zip(native, formula, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=2e-5, atol=1e-6)


def test_variables_exchange_their_values():
    a, b = dlcore.Variable([1.0, 2.0]), dlcore.Variable([3.0, 4.0])

    def swap():
        old = a.value
        a.assign(b)
        b.assign(old)

    dlcore.function(swap)()
    assert a.numpy().tolist() == [3.0, 4.0]
    assert b.numpy().tolist() == [1.0, 2.0]


def test_old_value_is_read_before_it_is_overwritten():
    w = dlcore.Variable(np.eye(3, dtype="float32"))

    def step(x):
        w.assign(w + 1.0)
        return x @ w.value, x @ (w.value.T * 2.0)

    x = np.ones((2, 3), "float32")
    y, z = dlcore.function(step)(x)
    np.testing.assert_array_equal(y, x @ (np.eye(3) + 1))
    np.testing.assert_array_equal(z, x @ (2 * (np.eye(3) + 1)).T)
    np.testing.assert_array_equal(w.numpy(), np.eye(3) + 1)


def test_variable_assigned_its_own_transpose():
    w = dlcore.Variable(np.arange(9.0).reshape(3, 3))
    dlcore.function(lambda: w.assign(ops.transpose(w) * 2.0))()
    np.testing.assert_array_equal(w.numpy(), 2 * np.arange(9.0).reshape(3, 3).T)


def test_outputs_may_be_inputs_views_constants_and_repeats():
    def f(x):
        y = x * 2.0
        return x, y, y, ops.transpose(y), ops.ones((2,)), y[1]

    x = np.arange(6.0, dtype="float32").reshape(2, 3)
    results = dlcore.function(f)(x)
    expected = (x, 2 * x, 2 * x, (2 * x).T, np.ones(2), 2 * x[1])
    for y, e in zip(results, expected, strict=True):
        np.testing.assert_array_equal(y, e)


@pytest.mark.parametrize(
    ("shape", "strides", "new", "expected"),
    [
        ((4, 6), (6, 1), (24,), (1,)),
        ((4, 6), (1, 4), (24,), None),
        ((4, 6), (6, 1), (2, 2, 3, 2), (12, 6, 2, 1)),
        ((4, 1, 6), (6, 0, 1), (4, 6), (6, 1)),
        ((4, 6), (12, 2), (24,), (2,)),
        ((4, 6), (12, 1), (24,), None),
        ((4, 6), (0, 0), (24,), (0,)),
        ((1, 1), (0, 0), (), ()),
    ],
)
def test_reshape_is_a_view_where_memory_allows(shape, strides, new, expected):
    assert reshape_strides(shape, strides, new) == expected


def test_arena_reuses_memory():
    def chain(x):
        for _ in range(20):
            x = ops.softmax(x)
        return x

    graph = traced(chain, (64, 64))
    layouts = find_layouts(graph)
    assert plan(graph, layouts, fuse(graph, layouts)).arena_bytes <= 2 * 64 * 64 * 4


def test_pointwise_results_take_the_place_of_what_they_read_last():
    def f(x):
        y = ops.softmax(x)
        total = ops.sum(y)
        return ops.softmax(ops.tanh(y) * 2.0), total

    graph = traced(f, (64, 64))
    layouts = find_layouts(graph)
    assert plan(graph, layouts, fuse(graph, layouts)).arena_bytes <= 64 * 64 * 4 + 64
    x = np.random.default_rng(0).normal(size=(64, 64)).astype("float32")
    for y, e in zip(dlcore.function(f)(x), ArrayProgram(graph)(x), strict=True):
        np.testing.assert_allclose(y, e, rtol=1e-5)


def test_update_runs_as_soon_as_its_gradient_can():
    w1, w2 = (dlcore.Variable(np.ones((8, 8), "f")) for _ in range(2))
    count = dlcore.Variable(np.zeros((), "f"))

    def step(x):
        loss = ops.mean(ops.square(ops.tanh(x @ w1) @ w2))
        grads = gradients(loss, [w1, w2])
        rate = 0.1 / (count + 1.0)
        count.assign_add(1.0)
        for w, g in zip((w1, w2), grads, strict=True):
            w.assign(w - rate * g)

    graph = traced(step, (4, 8))
    layouts = find_layouts(graph)
    result = plan(graph, layouts, fuse(graph, layouts))
    written = [t for u in result.units for t in u.outputs if result.homes.get(t)]
    homes = [result.homes[t][1] for t in written if result.homes[t][0] == "variable"]
    assert homes.index(w2) < homes.index(w1)
    products = [u for u in result.units if u.anchor is not None and u.anchor.op.name == "matmul"]
    assert result.homes[products[3].outputs[0]] == ("variable", w2)


def test_large_expressions_are_cut():
    def f(*xs):
        total = xs[0]
        for x in xs[1:]:
            total = ops.tanh(total * x + x)
        return total

    xs = [np.full((3, 4), 0.1 * i, "float32") for i in range(70)]
    expected = ArrayProgram(traced(f, *[(3, 4)] * 70))(*xs)[0]
    np.testing.assert_allclose(dlcore.function(f)(*xs), expected, rtol=1e-5, atol=1e-6)


def test_pack_puts_variables_into_one_buffer_and_keeps_programs_right():
    a, b = dlcore.Variable(np.ones((3, 3), "f")), dlcore.Variable(np.arange(5, dtype="f"))
    f = dlcore.function(lambda x: x * ops.sum(a) + ops.sum(b))
    x = np.ones(2, "f")
    before = f(x)
    flat = pack([a, b])["float32"]
    assert np.shares_memory(flat, a.value)
    assert np.shares_memory(flat, b.value)
    assert b.value.ctypes.data % 64 == 0
    a.assign(np.zeros((3, 3)))
    np.testing.assert_array_equal(f(x), before - 9)


@pytest.mark.parametrize("indexed", (False, True))
@pytest.mark.parametrize("dtype", ("float32", "float64", "uint8"))
def test_batches_see_the_rows_in_order(indexed, dtype):
    rng = np.random.default_rng(2)
    x = rng.integers(0, 200, (23, 4, 2)).astype(dtype)
    labels = rng.integers(0, 5, 23)
    total = dlcore.Variable(np.zeros((4, 2)), trainable=False)

    def f(rows, y):
        total.assign_add(ops.cast(ops.sum(rows, axis=0), "float64"))
        return rows * 2.0, y

    program = BatchProgram(
        f,
        [((4, 2), dtype), ((), "int64")],
        batch=5,
        indexed=indexed,
        cast=["float32", None],
        output_rows=True,
    )
    index = rng.permutation(23) if indexed else None
    outputs = program.empty_outputs(23)
    for y in outputs:
        y[...] = 0
    assert program.run([x, labels], start=1, steps=4, index=index, outputs=outputs) == 4
    rows = np.arange(23) if index is None else index
    seen = rows[1:21]
    np.testing.assert_array_equal(total.numpy(), x[seen].astype("f").sum(axis=0))
    np.testing.assert_array_equal(outputs[0][1:21], 2 * x[seen].astype("f"))
    np.testing.assert_array_equal(outputs[1][1:21], labels[seen])
    assert not outputs[0][21:].any()
    with pytest.raises(ValueError, match="BatchProgram: expected 5 steps of 5 rows"):
        program.run([x, labels], start=0, steps=5, index=index, outputs=outputs)


def _attend(x, **options):
    x = ops.reshape(x, (1, 4, 2, 2))
    keys = ops.sin(x[:, :, :1] * 3.0)  # shared by both heads
    return ops.dot_product_attention(x, keys, ops.square(keys), **options)


_TWICE = {
    "max_pool": lambda x: ops.max_pool(ops.reshape(x, (1, 4, 4, 1)), 3, 1, "same"),
    "batch_normalization": lambda x: normalize_channels("norm", x, None, None, -1, 1e-3)[0],
    "group_normalization": lambda x: normalize_channels("norm", x, None, None, -1, 1e-3, 2)[0],
    "layer_normalization": lambda x: ops.layer_normalization(x, x[0], epsilon=1e-3),
    "rms_normalization": lambda x: ops.rms_normalization(x, x[1], epsilon=1e-3),
    "crossentropy": lambda x: ops.sparse_categorical_crossentropy(
        [3, 0, 1, 2], x, from_logits=True
    ),
    "crossentropy_of_targets": lambda x: ops.categorical_crossentropy(
        ops.softmax(x * 2.0) * x[0], x, from_logits=True
    ),
    "attention": _attend,
    "attention_bias": lambda x: _attend(x, bias=x, is_causal=True),
    "attention_mask": lambda x: _attend(x, mask=np.tri(4, k=1) > 0),
}


@pytest.mark.parametrize("f", _TWICE.values(), ids=_TWICE)
def test_second_derivatives_of_kernels(f):
    """The derivative of |dx|^2 along a direction, against finite differences of dx."""
    rng = np.random.default_rng(3)
    x, direction = rng.normal(size=(2, 4, 4))
    first = dlcore.grad(lambda x: ops.sum(ops.sin(f(x))))
    second = dlcore.grad(lambda x: ops.sum(ops.square(first(x))))(x)
    step = 1e-6
    ends = [np.sum(np.square(first(x + s * step * direction))) for s in (1, -1)]
    assert np.sum(second * direction) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


def test_second_derivatives_of_recurrences_are_refused():
    def f(x):
        return ops.lstm(ops.reshape(x, (1, 4, 4)), np.eye(4, 8), np.ones((2, 8)))[0]

    inner = dlcore.grad(lambda x: ops.sum(ops.square(f(x))))
    assert np.isfinite(inner(np.arange(16.0).reshape(4, 4))).all()
    with pytest.raises(ValueError, match="got a second one"):
        dlcore.grad(lambda x: ops.sum(ops.square(inner(x))))(np.arange(16.0).reshape(4, 4))


def test_gradients_of_slices_that_make_a_whole_are_joined():
    def slopes(x):
        with_rest = ops.sum(x[:, :3] * x[:, :3]) + 2.0 * ops.sum(x[:, 3:])
        return gradients(with_rest, [x])

    names = [n.op.name for n in traced(slopes, (2, 5)).nodes]
    assert "concatenate" in names and "place" not in names
    x = np.arange(10, dtype="float32").reshape(2, 5)
    (slope,) = dlcore.function(slopes)(x)
    np.testing.assert_array_equal(slope, np.where(np.arange(5) < 3, 2 * x, 2))


def test_sizes_are_known_where_they_follow_from_constants_alone():
    def f(x, start):
        for _ in range(60):  # each value is used twice: all paths to the start are 2^60
            start = start // 2 + (start + 1) // 2
        return ops.broadcast_to(x, (int(start), 2))

    x = np.ones((1, 2), "f")
    assert dlcore.function(lambda x: f(x, ops.convert_to_tensor(3)))(x).shape == (3, 2)
    with pytest.raises(TypeError, match="known while tracing"):
        dlcore.function(lambda x: f(x, ops.cast(ops.sum(x), "int32")))(x)
