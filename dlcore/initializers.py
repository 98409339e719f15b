"""Initializers: the first values of weights.

An initializer is called with a shape and a dtype and returns an array. Random ones draw from
`dlcore.random` (counters, so the values are the same on every backend); one that is made with a
seed returns the same values at every call, one without draws its seed once, from the seed of
`dlcore.utils.set_random_seed`.

Sources: Glorot and Bengio 2010; He et al. 2015, https://arxiv.org/abs/1502.01852; LeCun et al. 1998
(Efficient BackProp); Saxe et al. 2014, https://arxiv.org/abs/1312.6120.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from dlcore import lookup, random
from dlcore.config import floatx

# Standard deviation of a unit normal cut at two standard deviations.
_TRUNCATED_STDDEV = 0.87962566103423978


class Initializer(lookup.Configurable):
    """Base class; subclasses define __call__(shape, dtype=None)."""

    def __call__(self, shape, dtype=None):
        raise NotImplementedError(
            f"{type(self).__name__}: expected a subclass that defines __call__"
        )

    def clone(self):
        """A new initializer with the same arguments."""
        return type(self).from_config(self.get_config())


class _RandomInitializer(Initializer):
    def __init__(self, seed=None):
        self._given_seed = seed
        self.seed = int(random.global_rng().integers(2**63)) if seed is None else seed

    def get_config(self):
        seed = self._given_seed  # copies of one without a seed draw theirs
        return super().get_config() | {"seed": seed if isinstance(seed, int) else None}


def _shape(shape):
    return (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(int(n) for n in shape)


class Zeros(Initializer):
    """All 0.

    Examples
    --------
    >>> print(Zeros()((2, 2)))
    [[0. 0.]
     [0. 0.]]
    """

    def __call__(self, shape, dtype=None):
        return np.zeros(_shape(shape), dtype or floatx())


class Ones(Initializer):
    """All 1.

    Examples
    --------
    >>> print(Ones()((2, 2)))
    [[1. 1.]
     [1. 1.]]
    """

    def __call__(self, shape, dtype=None):
        return np.ones(_shape(shape), dtype or floatx())


class Constant(Initializer):
    """All `value` (a number, or an array that broadcasts to the shape).

    Examples
    --------
    >>> print(Constant(0.5)((2, 2)))
    [[0.5 0.5]
     [0.5 0.5]]
    """

    def __init__(self, value=0.0):
        self.value = value

    def __call__(self, shape, dtype=None):
        return np.full(_shape(shape), self.value, dtype or floatx())

    def get_config(self):
        value = self.value
        return {"value": value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value}


class Identity(Initializer):
    """gain on the diagonal of a matrix, else 0.

    Parameters
    ----------
    gain : float, default 1

    Examples
    --------
    >>> print(Identity()((2, 2)))
    [[1. 0.]
     [0. 1.]]
    """

    def __init__(self, gain=1.0):
        self.gain = gain

    def __call__(self, shape, dtype=None):
        shape = _shape(shape)
        if len(shape) != 2:
            raise ValueError(f"Identity: expected the shape of a matrix, got {shape}")
        return np.asarray(self.gain * np.eye(*shape), dtype or floatx())


class RandomNormal(_RandomInitializer):
    """Normal with the given mean and standard deviation.

    Parameters
    ----------
    mean : float, default 0
    stddev : float, default 0.05
    seed : int, SeedGenerator or None

    Examples
    --------
    >>> w = RandomNormal(seed=1)((200, 100))
    >>> w.shape, round(float(w.std()), 2)
    ((200, 100), 0.05)
    """

    def __init__(self, mean=0.0, stddev=0.05, seed=None):
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def __call__(self, shape, dtype=None):
        return random.normal(_shape(shape), self.mean, self.stddev, dtype or floatx(), self.seed)


class TruncatedNormal(_RandomInitializer):
    """Normal, with values beyond two standard deviations drawn again.

    Parameters
    ----------
    mean : float, default 0
    stddev : float, default 0.05
        Of the normal before it is cut.
    seed : int, SeedGenerator or None

    Examples
    --------
    >>> w = TruncatedNormal(seed=1)((200, 100))
    >>> w.shape, round(float(w.std()), 2)
    ((200, 100), 0.04)
    """

    def __init__(self, mean=0.0, stddev=0.05, seed=None):
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def __call__(self, shape, dtype=None):
        return random.truncated_normal(
            _shape(shape), self.mean, self.stddev, dtype or floatx(), self.seed
        )


class RandomUniform(_RandomInitializer):
    """Uniform in [minval, maxval).

    Parameters
    ----------
    minval, maxval : float, default -0.05, 0.05
    seed : int, SeedGenerator or None

    Examples
    --------
    >>> w = RandomUniform(seed=1)((200, 100))
    >>> w.shape, round(float(w.std()), 2)
    ((200, 100), 0.03)
    """

    def __init__(self, minval=-0.05, maxval=0.05, seed=None):
        super().__init__(seed)
        self.minval, self.maxval = minval, maxval

    def __call__(self, shape, dtype=None):
        return random.uniform(_shape(shape), self.minval, self.maxval, dtype or floatx(), self.seed)


def compute_fans(shape):
    """(fan_in, fan_out) of a weight; all axes but the last two are a filter's extent."""
    if len(shape) < 2:
        n = shape[0] if shape else 1
        return n, n
    extent = math.prod(shape[:-2])
    return extent * shape[-2], extent * shape[-1]


class VarianceScaling(_RandomInitializer):
    """Zero mean and variance scale / n, with n the fan in, the fan out or their average.

    Parameters
    ----------
    scale : float, default 1
    mode : "fan_in", "fan_out" or "fan_avg"
    distribution : "truncated_normal" ("normal"), "untruncated_normal" or "uniform"
    seed : int, SeedGenerator or None

    Examples
    --------
    >>> w = VarianceScaling(seed=1)((200, 100))
    >>> w.shape, round(float(w.std()), 2)
    ((200, 100), 0.07)
    """

    def __init__(self, scale=1.0, mode="fan_in", distribution="truncated_normal", seed=None):
        super().__init__(seed)
        if not scale > 0:
            raise ValueError(f"VarianceScaling: expected scale > 0, got {scale}")
        modes = ("fan_in", "fan_out", "fan_avg")
        if mode not in modes:
            raise ValueError(f"VarianceScaling: expected mode in {modes}, got {mode!r}")
        distribution = "truncated_normal" if distribution == "normal" else distribution
        distributions = ("truncated_normal", "untruncated_normal", "uniform")
        if distribution not in distributions:
            raise ValueError(
                f"VarianceScaling: expected distribution in {distributions}, got {distribution!r}"
            )
        self.scale, self.mode, self.distribution = scale, mode, distribution

    def __call__(self, shape, dtype=None):
        shape, dtype = _shape(shape), dtype or floatx()
        fan_in, fan_out = compute_fans(shape)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        stddev = math.sqrt(self.scale / max(1.0, n))
        if self.distribution == "uniform":
            limit = math.sqrt(3.0) * stddev
            return random.uniform(shape, -limit, limit, dtype, self.seed)
        if self.distribution == "untruncated_normal":
            return random.normal(shape, 0.0, stddev, dtype, self.seed)
        return random.truncated_normal(shape, 0.0, stddev / _TRUNCATED_STDDEV, dtype, self.seed)


class _Scaled(VarianceScaling):
    """VarianceScaling whose only argument is the seed."""

    arguments = ()

    def __init__(self, seed=None):
        super().__init__(*self.arguments, seed=seed)


class GlorotUniform(_Scaled):
    """Uniform in +-sqrt(6 / (fan_in + fan_out)).

    Examples
    --------
    >>> w = GlorotUniform(seed=1)((200, 100))
    >>> w.shape, round(float(w.std()), 2)
    ((200, 100), 0.08)
    """

    arguments = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Scaled):
    """Truncated normal of variance 2 / (fan_in + fan_out).

    Examples
    --------
    >>> w = GlorotNormal(seed=1)((200, 100))
    >>> w.shape, round(float(w.std()), 2)
    ((200, 100), 0.08)
    """

    arguments = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_Scaled):
    """Uniform in +-sqrt(6 / fan_in).

    Examples
    --------
    >>> w = HeUniform(seed=1)((200, 100))
    >>> w.shape, round(float(w.std()), 2)
    ((200, 100), 0.1)
    """

    arguments = (2.0, "fan_in", "uniform")


class HeNormal(_Scaled):
    """Truncated normal of variance 2 / fan_in.

    Examples
    --------
    >>> w = HeNormal(seed=1)((200, 100))
    >>> w.shape, round(float(w.std()), 2)
    ((200, 100), 0.1)
    """

    arguments = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_Scaled):
    """Uniform in +-sqrt(3 / fan_in).

    Examples
    --------
    >>> w = LecunUniform(seed=1)((200, 100))
    >>> w.shape, round(float(w.std()), 2)
    ((200, 100), 0.07)
    """

    arguments = (1.0, "fan_in", "uniform")


class LecunNormal(_Scaled):
    """Truncated normal of variance 1 / fan_in.

    Examples
    --------
    >>> w = LecunNormal(seed=1)((200, 100))
    >>> w.shape, round(float(w.std()), 2)
    ((200, 100), 0.07)
    """

    arguments = (1.0, "fan_in", "truncated_normal")


class Orthogonal(_RandomInitializer):
    """gain times a matrix with orthonormal rows or columns, whichever are fewer.

    It is Q of a normal matrix's QR decomposition, with signs that make R's diagonal positive, which
    makes Q uniform over the orthogonal matrices (Mezzadri 2007). Axes before the last are flattened
    to rows.

    Parameters
    ----------
    gain : float, default 1
    seed : int, SeedGenerator or None

    Examples
    --------
    >>> w = Orthogonal(seed=1)((3, 3))
    >>> print(abs(w.T @ w).round(3))
    [[1. 0. 0.]
     [0. 1. 0.]
     [0. 0. 1.]]
    """

    def __init__(self, gain=1.0, seed=None):
        super().__init__(seed)
        self.gain = gain

    def __call__(self, shape, dtype=None):
        shape = _shape(shape)
        if len(shape) < 2:
            raise ValueError(f"Orthogonal: expected a shape of two axes or more, got {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        tall = (max(rows, columns), min(rows, columns))
        q, r = np.linalg.qr(np.asarray(random.normal(tall, 0.0, 1.0, "float64", self.seed)))
        q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
        q = q if rows >= columns else q.T
        return np.ascontiguousarray(self.gain * q.reshape(shape), dtype or floatx())


zeros, ones, constant, identity, orthogonal = Zeros, Ones, Constant, Identity, Orthogonal
IdentityInitializer, OrthogonalInitializer = Identity, Orthogonal
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
variance_scaling, glorot_uniform, glorot_normal = VarianceScaling, GlorotUniform, GlorotNormal
he_uniform, he_normal, lecun_uniform, lecun_normal = HeUniform, HeNormal, LecunUniform, LecunNormal

_TABLE = lookup.table_of(
    [
        Initializer, Zeros, Ones, Constant, Identity, RandomNormal, RandomUniform, TruncatedNormal,
        VarianceScaling, GlorotUniform, GlorotNormal, HeUniform, HeNormal, LecunUniform,
        LecunNormal, Orthogonal,
    ],
    {
        "zero": Zeros, "one": Ones, "normal": RandomNormal, "uniform": RandomUniform,
        "eye": Identity, "IdentityInitializer": Identity, "OrthogonalInitializer": Orthogonal,
    },
)  # fmt: skip


def get(identifier):
    """The initializer that None, a name, a dictionary, a class or a callable stands for."""
    return lookup.get("initializer", _TABLE, identifier)


def serialize(initializer):
    """{"class_name": ..., "config": {...}} of an initializer."""
    return lookup.serialize(initializer)


def deserialize(config, custom_objects=None):
    """The initializer that `serialize` wrote."""
    return lookup.deserialize("initializer", _TABLE, config, custom_objects)


if not TYPE_CHECKING:  # checkers of types know what is there
    __getattr__ = lookup.refusing(__name__)
