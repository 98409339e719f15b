"""Elements by index and orders, held to NumPy, in traces too."""

import numpy as np
import pytest
from numpy_cases import Case, check_gradient, check_values

import dlcore
from dlcore import ops

CASES = [
    *(
        Case(
            f"take_along_axis {axis} {shape}",
            lambda m, x, i, axis=axis: m.take_along_axis(x, i - 2, axis),
            ((4, 5, 3), shape),
            dtypes=(None, "i5"),
        )
        for axis, shape in ((0, (7, 5, 3)), (1, (4, 2, 1)), (-1, (1, 5, 6)))
    ),
    Case(
        "take_along_axis flat",
        lambda m, x, i: m.take_along_axis(x, i, None),
        ((4, 5), (7,)),
        dtypes=(None, "i20"),
    ),
    *(Case(f"sort {a}", lambda m, x, a=a: m.sort(x, a), ((4, 5),)) for a in (-1, 0, None)),
    *(
        Case(f"argsort {a}", lambda m, x, a=a: m.argsort(x, a), ((4, 5),), None, False)
        for a in (-1, 0, None)
    ),
    Case(
        "top_k",
        lambda m, x: m.top_k(x, 2),
        ((4, 5),),
        lambda x: [np.sort(x)[:, ::-1][:, :2], np.argsort(-x)[:, :2]],
    ),
    *(
        Case(f"pad {mode}", lambda m, x, mode=mode: m.pad(x, ((1, 2), (0, 2)), mode), ((4, 5),))
        for mode in ("reflect", "symmetric")
    ),
    Case("max initial", lambda m, x: m.max(x, axis=1, initial=0.5), ((4, 5),)),
    Case("min initial", lambda m, x: m.min(x, axis=1, initial=-0.5), ((4, 5),)),
]


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_value(case, dtype):
    check_values(case, dtype)


@pytest.mark.parametrize("case", [c for c in CASES if c.gradient], ids=lambda c: c.name)
def test_gradient(case):
    check_gradient(case)


def test_indices_outside_give_zeros():
    x = np.ones((2, 3), "float32")
    y = ops.take_along_axis(x, np.array([[0, 3], [-4, -1]]), 1)
    np.testing.assert_array_equal(y, [[1, 0], [0, 1]])


def test_a_loss_that_sorts_can_be_trained():
    def loss(x):
        values, _ = ops.top_k(x * x, 2)
        return ops.sum(values * ops.cumsum(values, axis=-1))

    x = np.array([[1.0, -3.0, 2.0]], "float32")  # 9 * 9 + 4 * 13
    value, dx = dlcore.value_and_grad(loss)(x)
    assert float(value) == 133
    np.testing.assert_allclose(dx, [[0, -6 * (2 * 9 + 4), 4 * (9 + 2 * 4)]])


def test_one_hot_of_floats():
    np.testing.assert_array_equal(ops.one_hot(np.array([2.0, 0.0]), 3), [[0, 0, 1], [1, 0, 0]])


def test_one_hot_on_any_axis():
    y = ops.one_hot(np.array([[0, 2], [1, 1]]), 3, axis=1)
    np.testing.assert_array_equal(y, np.moveaxis(np.eye(3)[[[0, 2], [1, 1]]], -1, 1))


def test_unique():
    x = np.array([3, 1, 3, 2])
    values, first, back, counts = ops.unique(
        x, return_index=True, return_inverse=True, return_counts=True
    )
    np.testing.assert_array_equal(values[back], x)
    np.testing.assert_array_equal(x[first], values)
    assert counts.tolist() == [1, 1, 2] and counts.dtype == "int32"
    assert ops.unique(x, size=5, fill_value=-1).tolist() == [1, 2, 3, -1, -1]
    assert ops.unique(x, size=2).tolist() == [1, 2]
    values, counts = ops.unique(x, return_counts=True, size=4)
    assert values.tolist() == [1, 2, 3, 0] and counts.tolist() == [1, 1, 2, 0]
    rows = ops.unique(np.array([[1, 2], [1, 2], [0, 1]]), axis=0)
    assert rows.tolist() == [[0, 1], [1, 2]]


def test_distances_of_even_spaces():
    values, step = ops.linspace(0, 1, 5, retstep=True)
    assert values.dtype == "float32" and step == 0.25
    assert ops.linspace([0, 1], [1, 2], 3, axis=1).shape == (2, 3)


def test_what_is_a_tensor():
    seen = []
    dlcore.function(lambda x: seen.extend((ops.is_tensor(x), ops.dtype(x))) or x)(
        np.ones(2, "int32")
    )
    assert seen == [True, "int32"] and not ops.is_tensor([1.0]) and ops.is_tensor(np.ones(2))


def test_mirrors_must_fit():
    with pytest.raises(ValueError, match="pad: expected widths of at most 2 on axis 0"):
        ops.pad(np.ones(3), 3, "reflect")


@pytest.mark.parametrize(
    "key",
    [
        (np.arange(3), np.array([0, 3, -1])),
        (np.arange(3, dtype="uint8"), 1),
        (np.array([[0], [2]]), [1, 2]),
        np.array([2, 0]),
        [True, False, True],
        np.eye(3, 4) > 0,
    ],
)
def test_arrays_as_indices_in_a_trace(key):
    x = np.arange(12, dtype="float32").reshape(3, 4)
    np.testing.assert_array_equal(dlcore.function(lambda x: x[key])(x), x[key])
    hits = np.zeros_like(x)
    np.add.at(hits, key, 1)
    np.testing.assert_array_equal(dlcore.grad(lambda x: ops.sum(x[key]))(x), hits)


@pytest.mark.parametrize(
    "key, message",
    [
        (lambda x: x > 0, "a mask that is known"),
        (lambda x: np.array([3]), "an index in -3..2"),
        (lambda x: np.array([True, False]), "a mask of shape"),
    ],
)
def test_arrays_that_are_no_indices_in_a_trace(key, message):
    with pytest.raises((TypeError, IndexError), match=message):
        dlcore.function(lambda x: x[key(x)])(np.ones((3, 4), "float32"))


@pytest.mark.parametrize(
    "use, message",
    [
        (lambda x: x.sum(), r"ops.sum\(x\)"),
        (lambda x: float(x), "leave float"),
        (lambda x: x.__setitem__(0, 1), "ops.slice_update"),
    ],
)
def test_what_tensors_do_not_do_says_what_does(use, message):
    with pytest.raises((TypeError, AttributeError), match=message):
        dlcore.function(use)(np.ones(3, "float32"))
