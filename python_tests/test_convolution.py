"""Convolution: generated geometries that must match exactly, hand-written loops, what rides in the
kernels, errors."""

import functools
import itertools
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from test_fusion import adam_step, kernels, traced

import dlcore
from dlcore import layers, ops
from dlcore.check import oracle
from dlcore.program import gradients
from dlcore.program.fuse import find_layouts, fuse
from dlcore.program.schedule import plan

GEOMETRIES, STEP = 360, 12


def geometry(seed):
    """(x shape, w shape, attributes) of a convolution drawn at random."""
    rng = np.random.default_rng(seed)
    rank = int(rng.choice([1, 2, 2, 2, 3]))
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    depthwise = rng.random() < 0.2
    channels = int(rng.choice([1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 24]))
    filters = int(rng.choice([1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 24, 33]))
    if depthwise:
        groups, channels, filters = channels, 1, int(rng.integers(1, 3))
    window = tuple(int(n) for n in rng.integers(1, 5 if rank < 3 else 4, rank))
    strides = tuple(int(n) for n in rng.integers(1, 4, rank))
    dilation = tuple(int(n) for n in rng.integers(1, 4, rank))
    padding = rng.choice(["valid", "same", "pairs", "causal" if rank == 1 else "same"])
    if padding == "pairs":
        padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 4, (rank, 2)))
    spans = [(r - 1) * d + 1 for r, d in zip(window, dilation, strict=True)]
    sizes = tuple(int(rng.integers(e, e + 8 if rank < 3 else e + 3)) for e in spans)
    if padding == "same":
        sizes = tuple(int(n) for n in rng.integers(1, 12 if rank < 3 else 5, rank))
    x_shape = (int(rng.integers(1, 4)), *sizes, channels * groups)
    w_shape = (*window, channels, filters * groups)
    return x_shape, w_shape, {"strides": strides, "padding": padding, "dilation_rate": dilation}


def integers(rng, shape, dtype="float32"):
    return rng.integers(-3, 4, shape).astype(dtype)


def all_results(attrs):
    """f(x, w, b, dy) -> relu(conv(x, w) + b) and its gradients."""

    def f(x, w, b, dy):
        y = ops.relu(ops.conv(x, w, **attrs) + b)
        return (y, *gradients(ops.sum(y * dy), [x, w, b]))

    return f


# Sizes like those of real networks: the kernels have ways of their own for each
NETWORKS = [
    ((4, 28, 28, 1), (3, 3, 1, 32), {}),
    ((3, 32, 32, 3), (3, 3, 3, 32), {"padding": "same"}),
    ((2, 45, 45, 3), (7, 7, 3, 64), {"strides": 2, "padding": ((3, 3), (3, 3))}),
    ((3, 26, 26, 32), (3, 3, 32, 64), {}),
    ((2, 15, 15, 64), (3, 3, 64, 64), {"padding": "same"}),
    ((2, 14, 14, 64), (3, 3, 64, 128), {"strides": 2, "padding": "same"}),
    ((1, 7, 7, 256), (3, 3, 256, 256), {"padding": "same"}),
    ((3, 14, 14, 64), (1, 1, 64, 256), {}),
    ((2, 28, 28, 64), (1, 1, 64, 128), {"strides": 2}),
    ((3, 28, 28, 128), (3, 3, 1, 128), {"padding": "same"}),
    ((3, 28, 28, 40), (5, 5, 1, 40), {"padding": "same", "strides": 2}),
    ((2, 17, 17, 32), (3, 3, 1, 64), {"padding": "same", "dilation_rate": 2}),
    ((2, 100, 16), (9, 16, 48), {"padding": "causal", "dilation_rate": 4}),
    ((1, 9, 10, 11, 16), (3, 3, 3, 16, 32), {"padding": "same"}),
    ((2, 20, 20, 64), (3, 3, 16, 64), {"padding": "same"}),
    ((2, 9, 12, 48), (3, 3, 48, 80), {"padding": ((0, 2), (1, 0))}),
]  # fmt: skip


@pytest.mark.parametrize("case", NETWORKS, ids=lambda c: f"{c[0]}*{c[1]}")
def test_sizes_of_networks_match_exactly(case):
    check_exactly(0, case)


def check_exactly(seed, case=None):
    """Forward and both gradients of a geometry, in both types, against the float64 formula."""
    x_shape, w_shape, attrs = case or geometry(seed)
    rng = np.random.default_rng(seed)
    x, w, b = (integers(rng, s) for s in (x_shape, w_shape, w_shape[-1:]))
    arrays = (x, w, b, integers(rng, ops.conv(x, w, **attrs).shape))
    f = all_results(attrs)
    expected = oracle.run(f, [a.astype("float64") for a in arrays])
    for dtype in ("float32", "float64"):
        results = dlcore.function(f)(*(a.astype(dtype) for a in arrays))
        for name, y, e in zip(("y", "dx", "dw", "db"), results, expected, strict=True):
            assert y.dtype == dtype
            np.testing.assert_array_equal(y, e, err_msg=f"{name} of {case or geometry(seed)}")


@pytest.mark.parametrize("start", range(0, GEOMETRIES, STEP))
def test_small_integers_match_exactly(start):
    for seed in range(start, start + STEP):
        check_exactly(seed)


@pytest.mark.parametrize("isa", dlcore.isas())
def test_every_instruction_set_matches_exactly(isa):
    if isa == dlcore.isa():
        pytest.skip("the other tests ran on it")
    code = f"import test_convolution as t; [t.check_exactly(i) for i in range({GEOMETRIES})]"
    tests = os.path.dirname(os.path.abspath(__file__))
    paths = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"DLCORE_ISA": isa, "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_kernels_are_native():
    x, w = np.ones((1, 5, 5, 2), "f"), np.ones((3, 3, 2, 4), "f")
    run = dlcore.function(all_results({}))
    names = [
        i["kernel"] for i in run.compiled(x, w, w[0, 0, 0], np.ones((1, 3, 3, 4), "f")).instructions
    ]
    if dlcore.isa() != "numpy":
        assert {"conv", "conv_input_grad", "conv_filter_grad"} <= set(names)


def test_minimal_filtering_runs_where_it_pays():
    """16 products for 2 x 2 outputs of a 3 x 3 filter instead of 36, for every direction."""

    def share(x_shape, w_shape, **attrs):
        x, w = np.ones(x_shape, "f"), np.ones(w_shape, "f")
        y = ops.conv(x, w, **attrs)
        products = 2 * y.size * np.prod(w_shape[:-1])
        calls = (
            (ops.conv, (x, w), attrs),
            (ops.conv_input_grad, (y, w), attrs | {"input_shape": x_shape}),
            (ops.conv_filter_grad, (x, y), attrs | {"kernel_shape": w_shape}),
        )
        for op, arrays, attributes in calls:
            run = dlcore.function(functools.partial(op, **attributes))
            (call,) = run.compiled(*arrays).instructions
            yield call["flops"] / products

    if dlcore.isa() == "numpy":
        pytest.skip("formulas have no kernels")
    same = {"padding": "same"}
    assert list(share((1, 8, 8, 32), (3, 3, 32, 64), **same)) == [4 / 9] * 3
    for x_shape, w_shape, attrs in (
        ((1, 8, 8, 3), (3, 3, 3, 64), same),  # transforms would cost more than they save
        ((1, 5, 5, 64), (3, 3, 64, 64), same),
        ((1, 8, 8, 32), (3, 3, 32, 64), same | {"strides": 2}),
        ((1, 8, 8, 32), (5, 5, 32, 64), same),
    ):
        assert list(share(x_shape, w_shape, **attrs)) == [1] * 3


@pytest.mark.parametrize("seed", (0, 1))
def test_error_of_minimal_filtering(seed):
    """Up to 1.1 roundings of the sum of |x w| were seen, 0.6 without it: 2 are allowed."""
    rng = np.random.default_rng(seed)
    attrs = {"padding": "same"}
    x, w, dy = (rng.normal(size=s) for s in ((2, 14, 14, 64), (3, 3, 64, 32), (2, 14, 14, 32)))

    def all_of(x, w, dy):
        return (
            ops.conv(x, w, **attrs),
            ops.conv_input_grad(dy, w, x.shape, **attrs),
            ops.conv_filter_grad(x, dy, w.shape, **attrs),
        )

    arrays = [a.astype("float32") for a in (x, w, dy)]
    exact = oracle.run(all_of, [a.astype("float64") for a in arrays])
    sums = oracle.run(all_of, [np.abs(a).astype("float64") for a in arrays])
    for got, expected, size in zip(all_of(*arrays), exact, sums, strict=True):
        assert np.max(np.abs(got - expected) / size) < 2 * np.finfo("float32").eps


# Hand-written loops: what the formula itself is held to


def loops(x, w, y_shape, strides, dilation, before):
    """conv by its definition, value by value."""
    groups, per_group = x.shape[-1] // w.shape[-2], w.shape[-1] // (x.shape[-1] // w.shape[-2])
    channels = w.shape[-2]
    y = np.zeros(y_shape)
    for p in np.ndindex(*y_shape[1:-1]):
        for r in np.ndindex(*w.shape[:-2]):
            h = tuple(np.add(np.multiply(p, strides), np.multiply(r, dilation)) - before)
            if any(not 0 <= i < n for i, n in zip(h, x.shape[1:-1], strict=True)):
                continue
            for g in range(groups):
                a, k = (
                    slice(g * channels, (g + 1) * channels),
                    slice(g * per_group, (g + 1) * per_group),
                )
                y[(slice(None), *p, k)] += x[(slice(None), *h, a)] @ w[(*r, slice(None), k)]
    return y


def before_of(padding, sizes, window, strides, dilation):
    """Zeros in front of each axis."""
    spans = [(r - 1) * d + 1 for r, d in zip(window, dilation, strict=True)]
    if padding == "valid":
        return [0] * len(sizes)
    if padding == "causal":
        return [spans[0] - 1]
    if padding == "same":
        return [
            max((int(np.ceil(h / s)) - 1) * s + e - h, 0) // 2
            for h, s, e in zip(sizes, strides, spans, strict=True)
        ]
    return [a for a, _ in padding]


@pytest.mark.parametrize("seed", range(0, GEOMETRIES, 9))
def test_formula_equals_hand_written_loops(seed):
    x_shape, w_shape, attrs = geometry(seed)
    rng = np.random.default_rng(seed)
    x, w = integers(rng, x_shape, "float64"), integers(rng, w_shape, "float64")
    (y,) = oracle.run(lambda x, w: ops.conv(x, w, **attrs), [x, w])
    strides, dilation = attrs["strides"], attrs["dilation_rate"]
    before = before_of(attrs["padding"], x_shape[1:-1], w_shape[:-2], strides, dilation)
    np.testing.assert_array_equal(y, loops(x, w, y.shape, strides, dilation, before))
    if attrs["padding"] in ("same", "causal"):
        assert y.shape[1:-1] == tuple(
            -(-h // s) for h, s in zip(x_shape[1:-1], strides, strict=True)
        )


@pytest.mark.parametrize("seed", range(1, GEOMETRIES, 12))
def test_backward_kernels_as_ops(seed):
    """Both are the adjoints of conv: <conv(x, w), dy> = <x, dx> = <w, dw>."""
    x_shape, w_shape, attrs = geometry(seed)
    rng = np.random.default_rng(seed)
    x, w = integers(rng, x_shape), integers(rng, w_shape)
    y = ops.conv(x, w, **attrs)
    dy = integers(rng, y.shape)
    dx = ops.conv_input_grad(dy, w, x_shape, **attrs)
    dw = ops.conv_filter_grad(x, dy, w_shape, **attrs)
    assert dx.shape == x_shape
    assert dw.shape == w_shape
    product = np.sum(y * dy, dtype="float64")
    assert product == np.sum(x * dx, dtype="float64") == np.sum(w * dw, dtype="float64")


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "strides"),
    [
        ((1, 83, 90, 8), (3, 3, 8, 16), 2),
        ((1, 83, 90, 3), (5, 4, 3, 16), 2),  # lanes are products
        ((2, 70, 65, 8), (3, 3, 8, 8), (3, 1)),
        ((2, 70, 65, 8), (3, 3, 1, 8), 2),  # each channel alone
    ],
)
def test_phases_of_large_images_take_turns(x_shape, w_shape, strides):
    """Boxes of the phases of an input gradient follow each other in runs."""
    attrs = {"strides": strides, "padding": "same"}
    rng = np.random.default_rng(0)
    w = integers(rng, w_shape)
    dy = integers(rng, ops.conv(np.ones(x_shape, "f"), w, **attrs).shape)
    (expected,) = oracle.run(lambda dy, w: ops.conv_input_grad(dy, w, x_shape, **attrs), [dy, w])
    np.testing.assert_array_equal(ops.conv_input_grad(dy, w, x_shape, **attrs), expected)


@pytest.mark.parametrize("seed", range(2, 120, 8))
def test_second_derivatives(seed):
    """The derivative of |dx|^2 + |dw|^2 along a direction, against finite differences."""
    x_shape, w_shape, attrs = geometry(seed)
    rng = np.random.default_rng(seed)
    x, w = (rng.normal(size=s) for s in (x_shape, w_shape))

    def f(x, w):
        y = ops.conv(x, w, **attrs)
        dx, dw = gradients(ops.sum(y * y), [x, w])
        return ops.mean(dx * dx) + ops.mean(dw * dw)

    _, grads = dlcore.value_and_grad(f, (0, 1))(x, w)
    direction = [rng.normal(size=s) for s in (x_shape, w_shape)]
    step = 1e-5
    ends = [
        float(
            oracle.run(f, [a + sign * step * d for a, d in zip((x, w), direction, strict=True)])[0]
        )
        for sign in (1, -1)
    ]
    slope = sum(np.sum(g * d) for g, d in zip(grads, direction, strict=True))
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5)


# Channels first, transposed, depthwise, separable


def first(x):
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


@pytest.mark.parametrize("seed", range(3, GEOMETRIES, 15))
def test_channels_first_is_the_transpose(seed):
    x_shape, w_shape, attrs = geometry(seed)
    rng = np.random.default_rng(seed)
    x, w = integers(rng, x_shape), integers(rng, w_shape)
    y = ops.conv(x, w, **attrs)
    dy = integers(rng, y.shape)
    attrs_first = attrs | {"data_format": "channels_first"}
    np.testing.assert_array_equal(ops.conv(first(x), w, **attrs_first), first(y))
    np.testing.assert_array_equal(
        ops.conv_input_grad(first(dy), w, first(x).shape, **attrs_first),
        first(ops.conv_input_grad(dy, w, x_shape, **attrs)),
    )
    np.testing.assert_array_equal(
        ops.conv_filter_grad(first(x), first(dy), w_shape, **attrs_first),
        ops.conv_filter_grad(x, dy, w_shape, **attrs),
    )


@pytest.mark.parametrize("padding", ("valid", "same"))
@pytest.mark.parametrize("output_padding", (None, 0, 1))
@pytest.mark.parametrize(
    ("window", "stride", "dilation"), list(itertools.product((1, 2, 3, 4), (1, 2, 3), (1, 2)))
)
def test_transposed_convolution_undoes_the_shape(padding, output_padding, window, stride, dilation):
    """It is the gradient by its inputs of the convolution that leads from its result back."""
    rng = np.random.default_rng(0)
    x, w = integers(rng, (2, 5, 3)), integers(rng, (window, 4, 3))
    span = (window - 1) * dilation + 1
    if output_padding is not None and padding == "same" and output_padding >= stride + span % 2:
        pytest.skip("no convolution has that shape")
    y = ops.conv_transpose(x, w, stride, padding, output_padding, dilation_rate=dilation)
    if padding == "valid":
        size = (
            4 * stride
            + span
            + (max(stride - span, 0) if output_padding is None else output_padding)
        )
    else:
        size = 5 * stride if output_padding is None else 4 * stride + span % 2 + output_padding
    assert y.shape == (2, size, 4)
    cut = max(
        (span - span % 2 - (stride - span % 2 if output_padding is None else output_padding)) // 2,
        0,
    )
    expected = np.zeros((2, 200, 4))
    for p, r in itertools.product(range(5), range(window)):
        expected[:, 20 + p * stride + r * dilation] += x[:, p] @ w[r].T
    start = 20 + (cut if padding == "same" else 0)
    np.testing.assert_array_equal(y, expected[:, start : start + size])


def test_depthwise_and_separable_equal_grouped_convolutions():
    rng = np.random.default_rng(1)
    x, w, v = (integers(rng, s) for s in ((2, 9, 8, 5), (3, 2, 5, 2), (1, 1, 10, 7)))
    attrs = {"strides": (2, 1), "padding": "same", "dilation_rate": (1, 2)}
    y = ops.depthwise_conv(x, w, **attrs)
    np.testing.assert_array_equal(y, ops.conv(x, w.reshape(3, 2, 1, 10), **attrs))
    np.testing.assert_array_equal(ops.separable_conv(x, w, v, **attrs), y @ v[0, 0])


def test_nan_reaches_what_sees_it_and_nothing_else():
    x, w = np.ones((2, 9, 9, 3), "f"), np.ones((3, 3, 3, 5), "f")
    x[1, 4, 6, 2] = np.nan
    y = ops.conv(x, w, padding="same")
    expected = np.zeros(y.shape, bool)
    expected[1, 3:6, 5:8] = True
    np.testing.assert_array_equal(np.isnan(y), expected)
    dx = ops.conv_input_grad(y, w, x.shape, padding="same")
    expected[1, 2:7, 4:9] = True
    np.testing.assert_array_equal(np.isnan(dx), expected[..., :3])


def test_empty_batches():
    x, w = np.ones((0, 5, 5, 3), "f"), np.ones((3, 3, 3, 4), "f")
    y = ops.conv(x, w)
    assert y.shape == (0, 3, 3, 4)
    assert ops.conv_input_grad(y, w, x.shape).shape == x.shape
    np.testing.assert_array_equal(ops.conv_filter_grad(x, y, w.shape), 0 * w)


# What rides in the kernels


def test_bias_and_activation_ride_in_the_convolution():
    def f(x, w, b):
        return ops.relu(ops.conv(x, w, padding="same") + b)

    assert kernels(traced(f, (2, 8, 8, 3), (3, 3, 3, 4), (4,))) == ["conv"]


def test_normalisation_of_channels_rides_in_the_convolution():
    def f(x, w, b, mean, variance, gamma, beta):
        y = ops.conv(x, w) + b
        scale = gamma * ops.rsqrt(variance + 1e-3)
        return ops.relu((y - mean) * scale + beta)

    graph = traced(f, (2, 8, 8, 3), (3, 3, 3, 4), *[(4,)] * 5)
    assert kernels(graph) == ["conv", "pointwise"]  # the scale, of 4 numbers, by itself


def test_activation_gradient_rides_in_the_gradient_of_the_layer_above():
    def f(x, w, v):
        h = ops.relu(ops.conv(x, w))
        y = ops.conv(h, v)
        return gradients(ops.sum(y * y), [w, v])

    names = kernels(traced(f, (2, 8, 8, 3), (3, 3, 3, 4), (3, 3, 4, 5)))
    assert names == ["conv", "conv", "conv_filter_grad", "conv_filter_grad", "conv_input_grad"]


def test_update_of_the_filter_rides_in_its_gradient_and_in_place():
    w, m, v = (dlcore.Variable(np.zeros((3, 3, 3, 4), "f")) for _ in range(3))
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("f")
    w.assign(np.random.default_rng(1).normal(size=w.shape))
    step = adam_step(w, m, v, ops.conv)
    graph = traced(step, x.shape)
    layouts = find_layouts(graph)
    result = plan(graph, layouts, fuse(graph, layouts))
    update = next(u for u in result.units if any(n.op.name == "adam_update" for n in u.nodes))
    assert update.anchor.op.name == "conv_filter_grad"
    assert {home[1] for home in result.homes.values() if home[0] == "variable"} == {w, m, v}
    copies = [dlcore.Variable(a.numpy()) for a in (w, m, v)]
    run, reference = dlcore.function(step), traced(adam_step(*copies, ops.conv), x.shape)
    for _ in range(3):
        loss = run(x)
        assert loss == pytest.approx(dlcore.backends.arrays.interpret(reference, [x])[0], rel=1e-5)
    for a, b in zip((w, m, v), copies, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=3e-5, atol=1e-6)


def test_gradients_pass_pooling_and_reshape_at_the_size_of_what_comes_back():
    """relu's gradient is taken behind the pooling, in the kernels that make dy; db sums that."""

    def f(x, w, b, v, m):
        h = ops.max_pool(ops.relu(ops.conv(x, w) + b), 2)
        h = ops.max_pool(ops.relu(ops.conv(h, v)), 2)
        y = ops.matmul(ops.reshape(h, (2, -1)), m)
        return gradients(ops.sum(y * y), [w, b, v])

    shapes = ((2, 14, 14, 3), (3, 3, 3, 4), (4,), (3, 3, 4, 5), (20, 3))
    graph = traced(f, *shapes)
    assert kernels(graph) == [
        "conv", "conv", "conv_filter_grad", "conv_filter_grad", "conv_input_grad", "matmul",
        "matmul", "max_pool", "max_pool", "max_pool_grad", "max_pool_grad", "reduce",
    ]  # fmt: skip
    assert {n.outputs[0].shape for n in graph.nodes if n.op.name == "relu_grad"} == {
        (2, 20),
        (2, 6, 6, 4),
    }
    arrays = [np.random.default_rng(i).normal(size=s) for i, s in enumerate(shapes)]
    results = dlcore.function(f)(*arrays)
    for i, g in zip((1, 2, 3), results, strict=True):

        def loss(*a):
            h = ops.max_pool(ops.relu(ops.conv(a[0], a[1]) + a[2]), 2)
            h = ops.max_pool(ops.relu(ops.conv(h, a[3])), 2)
            return ops.sum(ops.square(ops.matmul(ops.reshape(h, (2, -1)), a[4])))

        slopes = [r for r in oracle.finite_differences(loss, arrays) if r[0] == i]
        for _, at, slope in slopes:
            assert g.flat[at] == pytest.approx(slope, rel=1e-5, abs=1e-5)


def test_channels_first_layers_copy_only_at_the_ends():
    model = [
        layers.Conv2D(4, 3, padding="same", activation="relu", data_format="channels_first")
        for _ in range(3)
    ]

    def f(x):
        for layer in model:
            x = layer(x)
        return x

    assert kernels(traced(f, (2, 3, 8, 8))) == ["conv", "conv", "conv", "copy", "dense"]


def test_channels_first_networks_copy_no_more_than_channels_last():
    def copies(data_format, shape):
        axis = 1 if data_format == "channels_first" else -1
        kwargs = {"padding": "same", "data_format": data_format}
        model = [
            layers.Conv2D(8, 3, **kwargs),
            layers.BatchNormalization(axis=axis),
            layers.Activation("relu"),
            layers.MaxPooling2D(2, data_format=data_format),
            layers.Conv2D(8, 3, activation="relu", **kwargs),
        ]

        def step(x):
            for layer in model:
                x = layer(x, training=True)
            return gradients(ops.sum(x * x), [model[0].kernel, model[1].gamma, model[4].kernel])

        return kernels(traced(step, shape))

    first, last = copies("channels_first", (2, 3, 16, 16)), copies("channels_last", (2, 16, 16, 3))
    assert sorted(first) == sorted([*last, "dense"])  # the images


# What bad input gets

X, W = (2, 8, 8, 4), (3, 3, 4, 6)
WRONG = [
    ("conv", (2, 2, 2, 4), W, {}, "expected a window that fits into the padded input (2, 2)"),
    ("conv", X, W, {"dilation_rate": 4}, "expected a window that fits into the padded input"),
    ("conv", X, W, {"strides": 0}, "expected strides as an int or 2 ints"),
    ("conv", X, W, {"strides": (1, -1)}, "expected strides as an int or 2 ints"),
    ("conv", X, W, {"strides": 2**31}, "expected strides as an int or 2 ints"),
    ("conv", X, W, {"strides": 1.5}, "expected strides as an int or 2 ints"),
    ("conv", X, W, {"strides": (1, 1, 1)}, "expected strides as an int or 2 ints"),
    ("conv", X, W, {"dilation_rate": 0}, "expected dilation_rate as an int or 2 ints"),
    ("conv", X, W, {"padding": "causal"}, "expected padding 'valid', 'same' or 2 pairs"),
    ("conv", X, W, {"padding": ((1, 1),)}, "expected padding 'valid', 'same' or 2 pairs"),
    ("conv", X, W, {"padding": ((1, -1), (0, 0))}, "expected padding 'valid', 'same' or 2 pairs"),
    ("conv", X, W, {"padding": ((2**31 - 1,) * 2,) * 2}, "expected a result of at most 2**59"),
    ("conv", X, W, {"data_format": "NHWC"}, "expected data_format 'channels_last' or"),
    ("conv", X, (3, 3, 3, 6), {}, "expected 3 channels in each of some groups"),
    ("conv", X, (3, 3, 2, 5), {}, "expected 2 channels in each of some groups that divide the 5"),
    ("conv", X, (3, 3, 0, 6), {}, "expected a kernel without empty axes"),
    ("conv", X, (3, 4, 6), {}, "expected inputs (batch, 1 to 3 spatial axes, channels)"),
    ("conv", (2, 4), (4, 6), {}, "expected inputs (batch, 1 to 3 spatial axes, channels)"),
    ("conv", (2, *[3] * 4, 4), (*[1] * 4, 4, 6), {}, "expected inputs (batch, 1 to 3 spatial"),
    ("conv", (2, 0, 8, 4), W, {"padding": "same"}, "expected a window that fits"),
    ("depthwise_conv", X, (3, 3, 3, 2), {}, "expected a kernel (size.., channels, multiplier)"),
    ("conv_transpose", X, W, {}, "expected a kernel (size.., filters, channels)"),
    ("conv_transpose", X, (3, 3, 6, 4), {"output_padding": -1}, "expected output_padding as"),
    ("conv_transpose", X, (3, 3, 6, 4), {"strides": 0}, "expected strides as"),
    ("conv_transpose", X, (3, 3, 6, 4), {"padding": ((9, 9), (0, 0))}, "expected results of at"),
    ("conv_input_grad", (2, 6, 6, 5), W, {"input_shape": X}, "expected dy (2, 6, 6, 6)"),
    ("conv_filter_grad", X, (2, 5, 6, 6), {"kernel_shape": W}, "expected dy (2, 6, 6, 6)"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "x", "w", "attrs", "message"), WRONG, ids=str)
def test_wrong_arguments_are_explained(op, x, w, attrs, message):
    with pytest.raises(ValueError, match="^" + re.escape(f"{op}: {message}")) as error:
        getattr(ops, op)(np.ones(x, "f"), np.ones(w, "f"), **attrs)
    assert "\n" not in str(error.value)
