"""Random tensors, with the names of `keras.random`: reproducible from a seed, the same on every
backend."""

import math
import os

import numpy as np

from dlcore.ops import pointwise as pw
from dlcore.ops import reduction
from dlcore.ops.op import to_tensor
from dlcore.ops.random import random_bits
from dlcore.program import dtypes
from dlcore.program.graph import current_trace
from dlcore.program.variable import Variable

_SEEDS = 2**63  # seeds are non-negative and fit an int64
_generator = None


class SeedGenerator:
    """A source of seeds whose state is a counter: every draw from it differs.

    Parameters
    ----------
    seed : int, optional
        In 0..2**63 - 1; by default one that `dlcore.utils.set_random_seed` determines.
    """

    def __init__(self, seed=None, name="seed_generator"):
        if seed is None:
            seed = global_rng().integers(_SEEDS)
        if not isinstance(seed, (int, np.integer)) or not 0 <= seed < _SEEDS:
            raise ValueError(f"SeedGenerator: expected a seed in 0..2**63 - 1, got {seed!r}")
        self.seed = int(seed)
        self.state = Variable(np.zeros(1, np.int64), trainable=False, name=name)

    def next(self):
        """(counter, stream) of the next draw; in a trace the counter grows once per run of the
        program."""
        trace = current_trace()
        if trace is None:
            counter = self.state.numpy()
            self.state.assign_add(np.ones(1, np.int64))
            return counter, 0
        counter = (
            trace.read(self.state) if self.state not in trace.reads else trace.reads[self.state]
        )
        if trace.state[self.state] is counter:
            self.state.assign(counter + 1)
        trace.streams += 1
        return counter, trace.streams

    def get_config(self):
        return {"seed": self.seed}


class _Global:
    def __init__(self, seed=None):
        self.rng = np.random.default_rng(seed)
        self.seeds = None
        self.lock = self.rng.bit_generator.lock


_locked = []  # while the process forks: else the child could wait for a thread that is not there


def _before_fork():
    if _generator is not None:
        _generator.lock.acquire()
        _locked.append(_generator.lock)


def _after_fork():
    while _locked:
        _locked.pop().release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


def global_rng():
    """The NumPy generator behind default seeds and shuffling; `set_random_seed` resets it."""
    global _generator
    if _generator is None:
        _generator = _Global()
    return _generator.rng


def set_random_seed(seed):
    """Make everything that follows reproducible: initial weights, shuffling, dropout; also NumPy
    and `random`.

    Parameters
    ----------
    seed : int
        In 0..2**32 - 1.
    """
    import random

    global _generator
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise ValueError(f"set_random_seed: expected an integer in 0..2**32 - 1, got {seed!r}")
    random.seed(int(seed))
    np.random.seed(int(seed))
    _generator = _Global(int(seed))


def _source(seed):
    """(counter, stream, seed) of a draw."""
    if isinstance(seed, SeedGenerator):
        return (*seed.next(), seed.seed)
    if seed is None:
        global_rng()
        if _generator.seeds is None:
            _generator.seeds = SeedGenerator()
        return (*_generator.seeds.next(), _generator.seeds.seed)
    if not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed: expected an int or a SeedGenerator, got {type(seed).__name__}")
    return np.zeros(1, np.int64), 0, int(seed) % _SEEDS


def _draw(kind, shape, dtype, seed, a, b=0.0):
    counter, stream, key = _source(seed)
    if current_trace() is not None:
        counter = to_tensor(counter)
    shape, stored = tuple(int(s) for s in shape), dtypes.array_type(dtype)
    x = random_bits(counter, shape, stored, kind, key, stream, float(a), float(b))
    return x if stored == dtype else pw.cast(x, dtype)


def uniform(shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
    """Numbers spread evenly over minval <= x < maxval."""
    return _draw("uniform", shape, dtypes.standardize(dtype, halves=True), seed, minval, maxval)


def normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    """Normally distributed numbers."""
    return _draw("normal", shape, dtypes.standardize(dtype, halves=True), seed, mean, stddev)


def truncated_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    """Normally distributed numbers within two deviations: those outside are drawn again."""
    dtype = dtypes.standardize(dtype)
    counter, stream, key = _source(seed)
    if current_trace() is not None:
        counter = to_tensor(counter)
    shape = tuple(int(s) for s in shape)
    # 0.0455 of the normals lie outside; after seven draws 4e-10, which the clip catches.
    x = random_bits(counter, shape, dtype, "normal", key, stream, 0.0, 1.0)
    for again in range(1, 7):
        y = random_bits(counter, shape, dtype, "normal", key, stream + (again << 24), 0.0, 1.0)
        x = pw.where(pw.greater(pw.absolute(x), 2.0), y, x)
    return pw.clip(x, -2.0, 2.0) * to_scalar(stddev, dtype) + to_scalar(mean, dtype)


def to_scalar(x, dtype):
    return np.asarray(x, dtype) if current_trace() is None else float(x)


def gamma(shape, alpha, dtype=None, seed=None):
    """Gamma-distributed numbers of shape `alpha` and scale 1 (Marsaglia and Tsang 2000)."""
    return pw.exp(_log_gamma(shape, alpha, dtypes.standardize(dtype), seed))


def beta(shape, alpha, beta, dtype=None, seed=None):
    """Beta-distributed numbers: x / (x + y) for x and y gamma-distributed."""
    dtype = dtypes.standardize(dtype)
    x = _log_gamma(shape, alpha, dtype, seed)
    y = _log_gamma(shape, beta, dtype, seed if isinstance(seed, SeedGenerator) else _next(seed))
    return pw.sigmoid(x - y)


def _next(seed):
    return None if seed is None else seed + 1


def _log_gamma(shape, alpha, dtype, seed):
    """Logarithms of gamma-distributed numbers: those of small `alpha` fall below any float."""
    if not isinstance(alpha, (int, float)) or not 0 < alpha < float("inf"):
        raise ValueError(f"gamma: expected alpha as a positive number, got {alpha!r}")
    # For alpha < 1: log gamma(alpha) = log gamma(alpha + 1) + log(u) / alpha.
    d = (alpha + 1 if alpha < 1 else alpha) - 1 / 3
    c = 1 / math.sqrt(9 * d)
    counter, stream, key = _source(seed)
    if current_trace() is not None:
        counter = to_tensor(counter)
    shape = tuple(int(s) for s in shape)

    def draw(kind, again, a, b):
        at = stream + (again << 24)
        return random_bits(counter, shape, dtype, kind, key, at, a, b)

    result = done = None
    for again in range(0, 20, 2):  # each draw is taken with probability 0.95 and more
        x = draw("normal", again, 0.0, 1.0)
        v = (1.0 + x * c) ** 3
        positive = pw.maximum(v, 1e-10)
        bound = 0.5 * x * x + d * (1.0 - v + pw.log(positive))
        taken = pw.logical_and(v > 0.0, pw.log(draw("uniform", again + 1, 1e-30, 1.0)) < bound)
        value = pw.log(positive) + math.log(d)
        result = value if result is None else pw.where(done, result, value)
        done = taken if again == 0 else pw.logical_or(done, taken)
    if alpha < 1:
        result = result + pw.log(draw("uniform", 20, 1e-30, 1.0)) / alpha
    return result


def bernoulli(shape, p=0.5, dtype=None, seed=None):
    """1 with probability `p`, else 0."""
    return _draw("bernoulli", shape, dtypes.standardize(dtype, halves=True), seed, p)


def binomial(shape, counts, probabilities, dtype=None, seed=None):
    """How many of `counts` trials, each of its own draw, come out with `probabilities`.

    Examples
    --------
    >>> import dlcore
    >>> x = dlcore.random.binomial((1000,), 10, 0.3, seed=1)
    >>> bool(2.8 < x.mean() < 3.2)
    True
    """
    dtype, shape = dtypes.standardize(dtype, halves=True), tuple(int(s) for s in shape)
    counts, p = (np.broadcast_to(np.asarray(v, "float32"), shape) for v in (counts, probabilities))
    if not ((counts >= 0) & (p >= 0) & (p <= 1)).all():
        raise ValueError("binomial: expected counts >= 0 and probabilities in 0..1")
    trials = int(counts.max()) if counts.size else 0
    u = _draw("uniform", (trials, *shape), "float32", seed, 0.0, 1.0)
    number = np.arange(trials).reshape(-1, *(1,) * len(shape))
    hits = pw.logical_and(pw.less(u, p), number < counts)
    return reduction.sum(pw.cast(hits, dtype), axis=0)


def randint(shape, minval, maxval, dtype="int32", seed=None):
    """Integers spread evenly over minval <= i < maxval."""
    if not minval < maxval:
        raise ValueError(f"randint: expected minval < maxval, got {minval} and {maxval}")
    u = _draw("uniform", shape, "float64", seed, 0.0, 1.0)
    return pw.cast(pw.floor(u * float(maxval - minval)) + float(minval), dtype)


def categorical(logits, num_samples, dtype="int32", seed=None):
    """`num_samples` classes per row of logits (N, C), by the Gumbel-max method: (N,
    num_samples)."""
    n, c = logits.shape
    u = _draw("uniform", (n, num_samples, c), "float64", seed, 1e-300, 1.0)
    gumbel = -pw.log(-pw.log(u))
    scores = pw.cast(logits, "float64")[:, None, :] + gumbel
    return pw.cast(reduction.argmax(scores, axis=-1), dtype)


def dropout(inputs, rate, noise_shape=None, seed=None):
    """Elements set to 0 with probability `rate`, the others scaled by 1 / (1 - rate) (Srivastava
    et al. 2014)."""
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: expected a rate in 0 <= rate < 1, got {rate}")
    if not rate:
        return inputs
    shape = tuple(inputs.shape) if noise_shape is None else tuple(noise_shape)
    kept = _draw("bernoulli", shape, "bool", seed, 1.0 - rate)
    return pw.where(kept, inputs * (1.0 / (1.0 - rate)), 0.0)


def shuffle(x, axis=0, seed=None):
    """A concrete array with its slices along `axis` in random order."""
    u = np.asarray(uniform((np.shape(x)[axis],), dtype="float64", seed=seed))
    return np.take(x, np.argsort(u, kind="stable"), axis)


__all__ = [
    "SeedGenerator", "bernoulli", "beta", "binomial", "categorical", "dropout", "gamma", "normal",
    "randint", "set_random_seed", "shuffle", "truncated_normal", "uniform",
]  # fmt: skip
