"""Initializers: moments, limits, reproducibility, configuration."""

import math

import numpy as np
import pytest

from dlcore import initializers, utils

SHAPE = (200, 300)
# initializer, standard deviation, largest magnitude
ROWS = [
    (initializers.RandomNormal(0.0, 0.05, seed=1), 0.05, 0.4),
    (initializers.RandomUniform(-0.05, 0.05, seed=1), 0.1 / math.sqrt(12), 0.05),
    (initializers.TruncatedNormal(0.0, 0.05, seed=1), 0.05 * 0.8796, 0.1),
    (initializers.GlorotUniform(seed=1), math.sqrt(2 / 500), math.sqrt(6 / 500)),
    (initializers.GlorotNormal(seed=1), math.sqrt(2 / 500), 2.3 * math.sqrt(2 / 500)),
    (initializers.HeUniform(seed=1), math.sqrt(2 / 200), math.sqrt(6 / 200)),
    (initializers.HeNormal(seed=1), math.sqrt(2 / 200), 2.3 * math.sqrt(2 / 200)),
    (initializers.LecunUniform(seed=1), math.sqrt(1 / 200), math.sqrt(3 / 200)),
    (initializers.LecunNormal(seed=1), math.sqrt(1 / 200), 2.3 * math.sqrt(1 / 200)),
    (initializers.VarianceScaling(3.0, "fan_out", "untruncated_normal", seed=1), 0.1, 0.6),
    (initializers.VarianceScaling(2.5, "fan_avg", "uniform", seed=1), 0.1, 0.1 * math.sqrt(3)),
]
IDS = [type(r[0]).__name__ for r in ROWS]


@pytest.mark.parametrize("row", ROWS, ids=IDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_moments(row, dtype):
    initializer, stddev, largest = row
    x = np.asarray(initializer(SHAPE, dtype))
    n = x.size
    assert x.shape == SHAPE and x.dtype == dtype
    assert abs(x.mean()) < 5 * stddev / math.sqrt(n)
    assert abs(x.std() / stddev - 1) < 5 / math.sqrt(n)
    assert abs(x).max() <= largest * (1 + 1e-6)
    assert len(np.unique(x)) > 0.5 * n


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_reproducible(row):
    initializer = row[0]
    a, b = initializer((3, 4)), initializer((3, 4))
    np.testing.assert_array_equal(a, b)
    copy = initializers.get(initializers.serialize(initializer))
    assert type(copy) is type(initializer)
    np.testing.assert_array_equal(copy((3, 4)), a)
    np.testing.assert_array_equal(initializer.clone()((3, 4)), a)


def test_a_copy_without_a_seed_draws_another():
    for name in ("glorot_uniform", "orthogonal", "random_normal"):
        one, seeded = initializers.get(name), type(initializers.get(name))(seed=3)
        assert one.get_config()["seed"] is None and seeded.get_config()["seed"] == 3
        np.testing.assert_array_equal(one((2, 2)), one((2, 2)))
        assert (one.clone()((2, 2)) != one((2, 2))).any()
        np.testing.assert_array_equal(seeded.clone()((2, 2)), seeded((2, 2)))


def test_default_seeds_differ_and_follow_the_global_seed():
    def draw():
        return [np.asarray(initializers.get("glorot_uniform")((5, 5))) for _ in range(2)]

    utils.set_random_seed(3)
    a, b = draw()
    assert not np.array_equal(a, b)
    utils.set_random_seed(3)
    c, d = draw()
    np.testing.assert_array_equal(a, c)
    np.testing.assert_array_equal(b, d)


@pytest.mark.parametrize("shape", [(5, 5), (8, 3), (3, 8), (2, 3, 4)])
def test_orthogonal(shape):
    q = np.asarray(initializers.Orthogonal(2.0, seed=0)(shape, "float64")).reshape(-1, shape[-1])
    small = q @ q.T if q.shape[0] < q.shape[1] else q.T @ q
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


def test_constants():
    np.testing.assert_array_equal(initializers.Zeros()((2, 3)), np.zeros((2, 3), "float32"))
    np.testing.assert_array_equal(initializers.Ones()(4, "float64"), np.ones(4))
    np.testing.assert_array_equal(initializers.Constant(2.5)((2,)), [2.5, 2.5])
    np.testing.assert_array_equal(initializers.Constant([1, 2])((2, 2)), [[1, 2], [1, 2]])
    np.testing.assert_array_equal(initializers.Identity(3.0)((2, 3)), [[3, 0, 0], [0, 3, 0]])
    copy = initializers.get(initializers.serialize(initializers.Constant(np.array([1.0, 2.0]))))
    np.testing.assert_array_equal(copy((2,)), [1, 2])


@pytest.mark.parametrize(
    ("shape", "fans"),
    [
        ((), (1, 1)),
        ((7,), (7, 7)),
        ((3, 4), (3, 4)),
        ((3, 3, 8, 16), (72, 144)),
        ((5, 2, 3), (10, 15)),
    ],
)
def test_fans(shape, fans):
    assert initializers.compute_fans(shape) == fans


NAMES = [
    "zeros", "ones", "constant", "identity", "random_normal", "random_uniform", "truncated_normal",
    "variance_scaling", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal",
    "lecun_uniform", "lecun_normal", "orthogonal", "normal", "uniform", "zero", "one",
    "GlorotUniform", "HeNormal", "LecunNormal", "RandomUniform",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names(name):
    x = np.asarray(initializers.get(name)((4, 4)))
    assert x.shape == (4, 4) and x.dtype == "float32" and np.isfinite(x).all()


def test_callables_and_errors():
    assert initializers.get(None) is None
    assert initializers.get(np.zeros) is np.zeros
    with pytest.raises(ValueError, match="did you mean 'he_normal'"):
        initializers.get("he_normall")
    for call in (
        lambda: initializers.VarianceScaling(0.0),
        lambda: initializers.VarianceScaling(mode="fan"),
        lambda: initializers.VarianceScaling(distribution="cauchy"),
        lambda: initializers.Identity()((2, 2, 2)),
        lambda: initializers.Orthogonal()((3,)),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()
