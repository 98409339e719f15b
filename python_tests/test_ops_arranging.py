"""Sums of products, arrangements and updates, held to NumPy."""

import numpy as np
import pytest
from numpy_cases import Case, check_gradient, check_values

import dlcore
from dlcore import ops

EQUATIONS = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("bij,bjk->bik", (5, 2, 3), (5, 3, 4)),
    ("bthd,bshd->bhts", (2, 3, 4, 5), (2, 6, 4, 5)),
    ("bnd,de->bne", (2, 3, 4), (4, 5)),
    ("ijk,jil->kl", (2, 3, 4), (3, 2, 5)),
    ("ii->i", (4, 4)),
    ("ii", (4, 4)),
    ("iij->j", (3, 3, 4)),
    ("ba", (3, 4)),
    ("ij->", (3, 4)),
    ("i,i", (3,), (3,)),
    ("i,j->ij", (3,), (4,)),
    ("ij,ij->ij", (3, 4), (3, 4)),
    ("bij,bij->b", (2, 3, 4), (2, 3, 4)),
    ("ij,j,k->ik", (3, 4), (4,), (5,)),
    ("a,b,c,d->dcba", (2,), (3,), (4,), (5,)),
    ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)),
    ("...i,i->...", (2, 3, 4), (4,)),
    ("i...->...", (2, 3)),
    ("ij...,jk...->ik...", (2, 3, 4), (3, 5, 4)),
]

CASES = [
    *(Case(eq, lambda m, *xs, eq=eq: m.einsum(eq, *xs), shapes) for eq, *shapes in EQUATIONS),
    Case("tensordot", lambda m, a, b: m.tensordot(a, b, 1), ((3, 4), (4, 5))),
    Case("tensordot none", lambda m, a, b: m.tensordot(a, b, 0), ((3, 4), (2,))),
    Case(
        "tensordot pairs",
        lambda m, a, b: m.tensordot(a, b, ([0, 2], [2, 0])),
        ((3, 4, 2), (2, 5, 3)),
    ),
    Case("inner", lambda m, a, b: m.inner(a, b), ((3, 4), (2, 4))),
    Case("outer", lambda m, a, b: m.outer(a, b), ((3, 2), (4,))),
    Case("vdot", lambda m, a, b: m.vdot(a, b), ((3, 4), (3, 4))),
    Case("kron", lambda m, a, b: m.kron(a, b), ((3, 2), (2,))),
    Case("cross", lambda m, a, b: m.cross(a, b), ((4, 3), (4, 3))),
    Case("cross axis", lambda m, a, b: m.cross(a, b, axis=0), ((3, 4), (3, 4))),
    Case("trace", lambda m, x: m.trace(x, 1), ((3, 4, 2),)),
    *(
        Case(f"tile {n}", lambda m, x, n=n: m.tile(x, n), ((3, 4),))
        for n in (2, (2, 1), (2, 1, 3), (0, 1))
    ),
    Case("repeat", lambda m, x: m.repeat(x, 2), ((3, 4),)),
    Case("repeat axis", lambda m, x: m.repeat(x, 3, axis=0), ((3, 4),)),
    Case("repeat each", lambda m, x: m.repeat(x, [1, 0, 3, 2], axis=1), ((3, 4),)),
    Case("roll", lambda m, x: m.roll(x, 5), ((3, 4),)),
    Case("roll axis", lambda m, x: m.roll(x, -1, axis=1), ((3, 4),)),
    Case("roll axes", lambda m, x: m.roll(x, (1, 2), axis=(0, 1)), ((3, 4),)),
    *(Case(f"rot90 {k}", lambda m, x, k=k: m.rot90(x, k), ((3, 4),)) for k in (-1, 0, 1, 2)),
    Case("fliplr", lambda m, x: m.fliplr(x), ((3, 4),)),
    Case("flipud", lambda m, x: m.flipud(x), ((3, 4),)),
    *(Case(f"tril {k}", lambda m, x, k=k: m.tril(x, k), ((2, 3, 4),)) for k in (-1, 0, 2)),
    *(Case(f"triu {k}", lambda m, x, k=k: m.triu(x, k), ((2, 3, 4),)) for k in (-1, 0, 2)),
    *(Case(f"diag {k}", lambda m, x, k=k: m.diag(x, k), ((4,),)) for k in (-2, 0, 1)),
    *(Case(f"diag of {k}", lambda m, x, k=k: m.diag(x, k), ((3, 4),)) for k in (-3, -2, 0, 1, 5)),
    Case("diagonal", lambda m, x: m.diagonal(x, 1, 2, 0), ((3, 4, 5),)),
    Case("diagflat", lambda m, x: m.diagflat(x, 1), ((2, 2),)),
    *(
        Case(f"{name} {s}", lambda m, a, b, name=name: getattr(m, name)([a, b]), (s, s))
        for name in ("hstack", "vstack", "dstack")
        for s in ((3,), (3, 4), (2, 3, 4))
    ),
    Case("array_split", lambda m, x: m.array_split(x, 3, 1), ((3, 7),)),
    Case("hsplit", lambda m, x: m.hsplit(x, 2), ((3, 4),)),
    Case("vsplit", lambda m, x: m.vsplit(x, [1]), ((3, 4),)),
    Case("dsplit", lambda m, x: m.dsplit(x, 2), ((3, 1, 4),)),
    Case("append", lambda m, a, b: m.append(a, b), ((3, 4), (2,))),
    Case("append axis", lambda m, a, b: m.append(a, b, axis=1), ((3, 4), (3, 1))),
    *(
        Case(by, lambda m, *xs, by=by: m.meshgrid(*xs, indexing=by), ((3,), (4,), (2,)))
        for by in ("xy", "ij")
    ),
    Case("vander", lambda m, x: m.vander(x, 3), ((4,),)),
    Case(
        "unravel_index", lambda m, i: m.unravel_index(i, (3, 4)), ((5,),), None, False, ("i12",)
    ),
    Case(
        "slice",
        lambda m, x: m.slice(x, [1, 0], [2, 3]),
        ((3, 4),),
        lambda x: x[1:3, :3],
    ),
    Case(
        "slice at",
        lambda m, x, i: m.slice(x, i, [2, 3]),
        ((4, 4), (2,)),
        lambda x, i: x[i[0] : i[0] + 2, i[1] : i[1] + 3],
        dtypes=(None, "i2"),
    ),
    *(
        Case(
            f"slice_update {kind}",
            lambda m, x, u, *i: m.slice_update(x, i[0] if i else [1, 2], u),
            ((4, 4), (2, 2), *at),
            lambda x, u, i=(1, 2): _updated(x, u, *i),
            dtypes=(None, None, "i3"),
        )
        for kind, at in (("known", ()), ("at run time", ((2,),)))
    ),
    Case(
        "scatter",
        lambda m, i, u: m.scatter(i, u, (3, 2)),
        ((5, 1), (5, 2)),
        lambda i, u: _added(np.zeros((3, 2)), i[:, 0], u),
        dtypes=("i3",),
    ),
    *(
        Case(
            f"scatter_update {how}",
            lambda m, x, i, u, how=how: m.scatter_update(x, i, u, how),
            ((3, 4), (6, 2), (6,)),
            lambda x, i, u, how=how: _scattered(x, i, u, how),
            dtypes=(None, "i3"),
        )
        for how in (None, "add", "max", "min", "mul")
    ),
    *(
        Case(
            f"segment_{kind}",
            lambda m, x, i, kind=kind: getattr(m, f"segment_{kind}")(x, i, 3),
            ((12, 2), (12,)),
            lambda x, i, of=of, n=n: np.stack([of(x[i == k], axis=0, initial=n) for k in range(3)]),
            dtypes=(None, "i3"),
        )
        for kind, of, n in (
            ("sum", np.sum, 0), ("max", np.max, -np.inf), ("min", np.min, np.inf),
            ("prod", np.prod, 1),
        )
    ),
]  # fmt: skip


def _updated(x, u, i, j):
    y = x.copy()
    y[i : i + 2, j : j + 2] = u
    return y


def _added(y, i, u):
    np.add.at(y, i, u)
    return y


def _scattered(x, i, u, how):
    y, at = x.copy(), tuple(i.T)
    if how is None:
        y[at] = u
    else:
        {"add": np.add, "max": np.maximum, "min": np.minimum, "mul": np.multiply}[how].at(y, at, u)
    return y


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_value(case, dtype):
    check_values(case, dtype)


@pytest.mark.parametrize("case", [c for c in CASES if c.gradient], ids=lambda c: c.name)
def test_gradient(case):
    check_gradient(case)


def test_images_become_deeper_and_back():
    x = np.arange(2 * 4 * 6 * 3, dtype="float32").reshape(2, 4, 6, 3)
    deep = ops.space_to_depth(x, 2)
    assert deep.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(deep[0, 0, 0], x[0, :2, :2].ravel())
    np.testing.assert_array_equal(ops.depth_to_space(deep, 2), x)
    first = ops.space_to_depth(np.moveaxis(x, -1, 1), 2, "channels_first")
    np.testing.assert_array_equal(
        ops.depth_to_space(first, 2, "channels_first"), np.moveaxis(x, -1, 1)
    )


def test_new_arrays():
    np.testing.assert_array_equal(ops.tri(3, 4, 1), np.tri(3, 4, 1))
    np.testing.assert_array_equal(ops.identity(3), np.eye(3))
    assert ops.empty((2, 3)).shape == ops.empty_like(np.ones((2, 3))).shape == (2, 3)
    np.testing.assert_allclose(ops.logspace(0, 2, 3), [1, 10, 100])
    np.testing.assert_allclose(ops.geomspace(1, 100, 3), [1, 10, 100])
    np.testing.assert_allclose(ops.kaiser(5, 3.0), np.kaiser(5, 3.0), rtol=1e-6)
    np.testing.assert_array_equal(ops.extract_sequences(np.arange(6), 3, 2), [[0, 1, 2], [2, 3, 4]])
    x = np.ones(3, "float32")
    y = ops.copy(x)
    y[0] = 2
    assert x[0] == 1 and ops.array([1, 2]).dtype == "int32"


def test_integers_stay_integers():
    x = np.arange(6, dtype="int32").reshape(2, 3)
    assert ops.einsum("ij,kj->ik", x, x).tolist() == (x @ x.T).tolist()
    assert ops.einsum("ij->i", x).dtype == ops.segment_max(x, [0, 0]).dtype == "int32"


WRONG = [
    (lambda x: ops.einsum("ij,jk->iz", x, x), "einsum: expected different letters"),
    (lambda x: ops.einsum("ij,jk->ik", x, x), "einsum: expected one size for each letter"),
    (lambda x: ops.einsum("ij,jk->ik", x), "einsum: expected 2 operands"),
    (lambda x: ops.einsum("ijk->ik", x), "einsum: expected a letter for each axis"),
    (lambda x: ops.einsum("i.j->ij", x), "einsum: expected a letter for each axis"),
    (lambda x: ops.tensordot(x, x, 1), "tensordot: expected summed axes of one size"),
    (lambda x: ops.repeat(x, [1, 2], 1), "repeat: expected 1 or 3 repeats"),
    (lambda x: ops.tril(x[0]), "tril: expected at least 2 axes"),
    (lambda x: ops.slice(x, [1, 1], [2, 2]), "slice: expected a block inside"),
    (lambda x: ops.scatter([[0, 0, 0]], [1.0], (2, 3)), "scatter: expected indices"),
    (lambda x: ops.segment_sum(x, [0, 1, 2]), "segment_sum: expected data"),
    (lambda x: ops.space_to_depth(x, 2), "space_to_depth: expected images of 4 axes"),
]


@pytest.mark.parametrize(("f", "message"), WRONG, ids=lambda x: str(x)[:24])
def test_wrong_arguments_are_explained(f, message):
    with pytest.raises(ValueError, match=message):
        f(np.ones((2, 3), "float32"))


def test_they_take_symbols_of_models():
    from dlcore import Model, layers

    x = layers.Input((3, 4))
    y = ops.einsum("btd,bsd->bts", x, ops.roll(x, 1, axis=1))
    model = Model(x, ops.tile(y, (1, 2, 1)))
    data = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    expected = np.tile(np.einsum("btd,bsd->bts", data, np.roll(data, 1, 1)), (1, 2, 1))
    np.testing.assert_allclose(model.predict(data, verbose=0), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [("bnd,de->bne", ((2, 3, 4), (4, 5))), ("bthd,bshd->bhts", ((2, 3, 4, 5), (2, 6, 4, 5)))],
)
def test_a_product_of_letters_is_one_matrix_product(equation, shapes):
    xs = [np.ones(s, "float32") for s in shapes]
    program = dlcore.function(lambda *xs: ops.einsum(equation, *xs)).compiled(*xs)
    if hasattr(program, "native"):
        assert [i["kernel"] for i in program.instructions] == ["gemm"]
