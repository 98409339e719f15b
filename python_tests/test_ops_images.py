"""Targets, patches, images and linear algebra, held to NumPy and to definitions."""

import colorsys

import numpy as np
import pytest
from numpy_cases import Case, check_gradient, check_values

import dlcore
from dlcore import ops


def _softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _patches(x, size, step):
    """Windows of (N, H, W, C) one after the other."""
    places = [range(0, n - size + 1, step) for n in x.shape[1:3]]
    rows = [[x[:, i : i + size, j : j + size] for j in places[1]] for i in places[0]]
    y = np.stack([np.stack(row, 1) for row in rows], 1)
    return y.reshape(*y.shape[:3], -1)


def _positive(m, x):
    """A symmetric positive matrix, differentiable."""
    return m.matmul(x, m.swapaxes(x, -1, -2)) + m.eye(x.shape[-1], dtype=str(x.dtype))


MATRICES = ((2, 3, 3),)

CASES = [
    Case(
        "binary_crossentropy",
        lambda m, y, p: m.binary_crossentropy(y, p),
        ((4, 3), (4, 3)),
        lambda y, p: -(y * np.log(p) + (1 - y) * np.log(1 - p)),
        low=0.1,
        high=0.9,
    ),
    Case(
        "binary_crossentropy of logits",
        lambda m, y, x: m.binary_crossentropy(y, x, from_logits=True),
        ((4, 3), (4, 3)),
        lambda y, x: np.maximum(x, 0) - x * y + np.log1p(np.exp(-abs(x))),
    ),
    Case(
        "categorical_crossentropy",
        lambda m, y, p: m.categorical_crossentropy(y, p, axis=0),
        ((4, 3), (4, 3)),
        lambda y, p: -(y * np.log(p / p.sum(0))).sum(0),
        low=0.1,
        high=0.9,
    ),
    Case(
        "categorical_crossentropy of logits",
        lambda m, x: m.categorical_crossentropy(np.eye(4)[[1, 3, 0]], x, from_logits=True),
        ((3, 4),),
        lambda x: -np.log(_softmax(x)[np.arange(3), [1, 3, 0]]),
    ),
    *(
        Case(
            f"sparse_categorical_crossentropy {'of logits' * logits}",
            lambda m, p, y, logits=logits: m.sparse_categorical_crossentropy(y, p, logits),
            ((2, 3, 4), (2, 3)),
            lambda p, y, logits=logits: -np.log(
                np.take_along_axis(
                    _softmax(p) if logits else p / p.sum(-1, keepdims=True), y[..., None], -1
                )[..., 0]
            ),
            dtypes=(None, "i4"),
            low=0.1,
            high=0.9,
        )
        for logits in (False, True)
    ),
    Case("psnr", lambda m, a, b: m.psnr(a, b, 2.0), ((4, 3), (4, 3)),
         lambda a, b: 20 * np.log10(2.0) - 10 * np.log10(np.mean((a - b) ** 2))),
    *(
        Case(
            f"extract_patches {size} {step}",
            lambda m, x, size=size, step=step: m.image.extract_patches(x, size, step),
            ((2, 7, 6, 3),),
            lambda x, size=size, step=step: _patches(x, size, step or size),
        )
        for size, step in ((1, None), (2, None), (3, None), (3, 1), (2, 3))
    ),
    Case(
        "unfold",
        lambda m, x: m.unfold(x, 3, padding=1, stride=2),
        ((2, 3, 5, 7),),
        lambda x: np.moveaxis(
            _patches(np.moveaxis(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), 1, -1), 3, 2)
            .reshape(2, 12, 9, 3), (1, 2, 3), (3, 2, 1),
        ).reshape(2, 27, 12),
    ),
    Case("rgb_to_grayscale", lambda m, x: m.image.rgb_to_grayscale(x), ((2, 3, 4, 3),),
         lambda x: (x @ [0.2989, 0.587, 0.114])[..., None]),
    *(
        Case(
            name,
            lambda m, x, name=name: getattr(m.image, name)(x),
            ((2, 3, 4, 3),),
            lambda x, f=f: np.apply_along_axis(lambda c: f(*c), -1, x),
            low=0.01,
            high=0.99,
        )
        for name, f in (("rgb_to_hsv", colorsys.rgb_to_hsv), ("hsv_to_rgb", colorsys.hsv_to_rgb))
    ),
    *(
        Case(f"norm {ord} {axis}",
             lambda m, x, o=ord, a=axis: (m.linalg if m is np else m).norm(x, o, a), ((4, 5),))
        for ord, axis in (
            (None, None), (None, 1), (1, 0), (2, 1), (3, 1), (np.inf, 1), (-np.inf, 0),
            ("fro", (0, 1)), (1, (0, 1)), (-1, (1, 0)), (np.inf, None), (-np.inf, (0, 1)),
        )
    ),
    *(
        Case(
            name,
            lambda m, x, name=name, pick=pick: pick(
                getattr(m.linalg if m is np else m, name)(_positive(m, x))
            ),
            MATRICES,
        )
        for name, pick in (
            ("inv", lambda y: y), ("det", lambda y: y), ("slogdet", lambda y: y[1]),
            ("cholesky", lambda y: y),
        )
    ),
    Case("solve", lambda m, a, b: (m.linalg if m is np else m).solve(_positive(m, a), b),
         ((2, 3, 3), (2, 3, 2)), rtol=1e-5),
    Case("solve_triangular", lambda m, a, b: m.solve_triangular(_positive(m, a), b, lower=True),
         ((3, 3), (3, 2)), lambda a, b: np.linalg.solve(np.tril(_positive(np, a)), b), rtol=1e-5),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_value(case, dtype):
    check_values(case, dtype)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_gradient(case):
    check_gradient(case)


def test_crossentropies_of_a_softmax_use_its_logits():
    x = np.array([[200.0, 0.0]], "float32")
    f = dlcore.function(lambda x: ops.sparse_categorical_crossentropy([1], ops.softmax(x)))
    np.testing.assert_allclose(f(x), [200.0])
    g = dlcore.function(lambda x: ops.binary_crossentropy(np.zeros((1, 2)), ops.sigmoid(x)))
    np.testing.assert_allclose(g(x), [[200.0, np.log(2.0)]], rtol=1e-6)


def test_fold_is_the_transpose_of_unfold():
    rng = np.random.default_rng(0)
    options = {"kernel_size": (2, 3), "dilation": 2, "padding": (1, 2), "stride": (2, 1)}
    x = rng.normal(size=(2, 3, 5, 6))
    columns = ops.unfold(x, **options)
    y = rng.normal(size=columns.shape)
    folded = ops.fold(y, (5, 6), **options)
    np.testing.assert_allclose(np.sum(folded * x), np.sum(y * columns), rtol=1e-12)


def test_many_hot():
    np.testing.assert_array_equal(ops.multi_hot([[0, 2], [1, 1]], 3), [[1, 0, 1], [0, 1, 0]])


@pytest.mark.parametrize(("h", "p"), [(7, 3), (8, 4), (5, 5), (3, 7), (9, 1)])
def test_adaptive_pooling(h, p):
    x = np.random.default_rng(0).normal(size=(2, h, 6, 3)).astype("float32")
    windows = [slice(i * h // p, -(-(i + 1) * h // p)) for i in range(p)]
    for f, of in ((ops.adaptive_average_pool, np.mean), (ops.adaptive_max_pool, np.max)):
        pairs = of(x.reshape(2, h, 3, 2, 3), 3)
        expected = np.stack([of(pairs[:, w], 1) for w in windows], 1)
        np.testing.assert_allclose(f(x, (p, 3)), expected, rtol=1e-5, atol=1e-6)
        first = f(np.moveaxis(x, -1, 1), (p, 3), data_format="channels_first")
        np.testing.assert_allclose(np.moveaxis(first, 1, -1), expected, rtol=1e-5, atol=1e-6)


def test_rearrange():
    x = np.random.default_rng(0).normal(size=(2, 8, 6, 3))
    patches = ops.rearrange(x, "b (h p) (w q) c -> b (h w) (p q c)", p=4, q=3)
    np.testing.assert_array_equal(
        patches.reshape(2, 2, 2, 4, 3, 3), x.reshape(2, 2, 4, 2, 3, 3).transpose(0, 1, 3, 2, 4, 5)
    )
    back = ops.rearrange(patches, "b (h w) (p q c) -> b (h p) (w q) c", h=2, p=4, q=3)
    np.testing.assert_array_equal(back, x)
    np.testing.assert_array_equal(
        ops.rearrange(x, "b ... c -> c ... 1 b")[:, :, :, 0], x.T.swapaxes(1, 2)
    )
    for pattern in ("a b -> b a", "a b c d -> a b c", "a b c (d e) -> a b c d e", "a b c d"):
        with pytest.raises(ValueError, match="rearrange: expected"):
            ops.rearrange(x, pattern)


def test_edges_and_similarity():
    x = np.random.default_rng(0).uniform(size=(2, 12, 13, 2)).astype("float32")
    around = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    down = around[:, 2:] - around[:, :-2]
    down = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
    edges = ops.image.sobel_edges(x)
    assert edges.shape == (*x.shape, 2)
    np.testing.assert_allclose(edges[..., 0], down, atol=1e-5)
    np.testing.assert_allclose(
        ops.image.sobel_edges(np.swapaxes(x, 1, 2))[..., 1], np.swapaxes(down, 1, 2), atol=1e-5
    )
    np.testing.assert_allclose(ops.image.ssim(x, x), 1, rtol=1e-5)
    assert -0.1 < ops.image.ssim(x, x[::-1]).max() < 0.3


def test_borders_of_images():
    x = np.arange(24.0, dtype="float32").reshape(1, 4, 6, 1)
    np.testing.assert_array_equal(
        ops.image.crop_images(x, 1, 2, target_height=2, target_width=3), x[:, 1:3, 2:5]
    )
    np.testing.assert_array_equal(
        ops.image.pad_images(x[0], 1, 2, target_height=7, target_width=9),
        np.pad(x[0], ((1, 2), (2, 1), (0, 0))),
    )
    with pytest.raises(ValueError, match="crop_images: expected two of"):
        ops.image.crop_images(x, 1, 1)


def test_blurring_keeps_what_is_inside():
    x = np.zeros((1, 7, 7, 2), "float32")
    x[0, 3, 3] = 1
    y = ops.image.gaussian_blur(x, (5, 3), (0.5, 2.0))
    np.testing.assert_allclose(y.sum((1, 2)), 1, rtol=1e-6)
    rows, columns = np.nonzero(y[0, :, :, 0])
    assert set(rows) == {1, 2, 3, 4, 5} and set(columns) == {2, 3, 4}


@pytest.mark.parametrize("order", (0, 1))
def test_elements_at_places(order):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 6)).astype("float32")
    at = np.stack(np.meshgrid(np.arange(5), np.arange(6), indexing="ij")).astype("float32")
    np.testing.assert_array_equal(ops.image.map_coordinates(x, at, order), x)
    outside = at + np.array([7, 0])[:, None, None]
    read = {"constant": np.full_like(x, 2.5), "nearest": x[[4] * 5], "wrap": np.roll(x, -2, 0),
            "reflect": x[[2, 1, 0, 0, 1]], "mirror": x[[1, 0, 1, 2, 3]]}  # fmt: skip
    for mode, expected in read.items():
        y = ops.image.map_coordinates(x, outside, order, mode, 2.5)
        np.testing.assert_allclose(y, expected, rtol=1e-6, err_msg=mode)
    if order:
        half = ops.image.map_coordinates(x, at[:, :4] + np.array([0.5, 0])[:, None, None], 1)
        np.testing.assert_allclose(half, (x[:4] + x[1:]) / 2, rtol=1e-5, atol=1e-6)


def test_decompositions_of_arrays():
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    q, r = ops.qr(x)
    np.testing.assert_allclose(q @ r, x, atol=1e-5)
    u, s, vt = ops.svd(x, full_matrices=False)
    np.testing.assert_allclose((u * s[:, None]) @ vt, x, atol=1e-5)
    values, vectors = ops.eigh(np.swapaxes(x, 1, 2) @ x)
    np.testing.assert_allclose(values[:, ::-1], s**2, rtol=1e-4)
    assert vectors.dtype == "float32" and ops.matrix_rank(x).tolist() == [3, 3]
    np.testing.assert_allclose(ops.pinv(x) @ x, np.broadcast_to(np.eye(3), (2, 3, 3)), atol=1e-5)
    np.testing.assert_allclose(ops.lstsq(x[0], x[0] @ [1, 2, 3]), [1, 2, 3], rtol=1e-4)
    np.testing.assert_allclose(ops.norm(x, 2, (1, 2)), s[:, 0], rtol=1e-5)
    with pytest.raises(TypeError, match="svd: expected a concrete array"):
        dlcore.function(ops.svd)(x)
    with pytest.raises(ValueError, match="inv: expected square matrices"):
        ops.inv(x)
    with pytest.raises(ValueError, match="cholesky: expected a matrix that has one"):
        ops.cholesky(-np.eye(3, dtype="float32"))


def test_modules_as_in_keras():
    import dlcore.ops.nn
    import dlcore.ops.numpy  # noqa: F401

    assert ops.numpy.einsum is ops.einsum and ops.nn.relu is ops.relu
    assert ops.linalg.norm is ops.norm and ops.linalg.inv is ops.inv
    with pytest.raises(AttributeError, match="expected"):
        ops.linalg.nothing  # noqa: B018
