"""Philox4x32-10 in array language: the random numbers of every backend, from a counter.

Block b holds four 32-bit words, a function of (seed, stream, step, b) alone: ten rounds of
multiply, exchange and add key over the counter (b low, b high, stream, step) with the key (seed
low, seed high). csrc/cpu/kernels/random.cpp has the same formulas: uniform and bernoulli agree bit
for bit, normal to a few units in the last place.

Source: Salmon, Moraes, Dror, Shaw, Parallel random numbers: as easy as 1, 2, 3 (SC 2011), section
3.3 and table 2; Box and Muller, A note on the generation of random normal deviates (1958).
"""

import math

import numpy as np

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85  # golden ratio, sqrt(3) - 1
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox_words(xp, n_blocks, seed, stream, step):
    """Words of the blocks 0..n_blocks - 1.

    Parameters
    ----------
    xp : module
        numpy or cupy.
    n_blocks : int
    seed : int
        The low 64 bits count, so negative ones are as good.
    stream, step : int
        The low 32 bits count. The step may be an array too, uint64 of one element.

    Returns
    -------
    (n_blocks, 4) uint32
    """
    return block_words(xp, xp.arange(n_blocks, dtype=np.uint64), seed, stream, step)


def block_words(xp, block, seed, stream, step):
    """Words of the blocks of the indices `block`, (n,) uint64; see `philox_words`."""
    c0, c1 = block & _LOW, block >> _HALF
    c2 = xp.full_like(block, np.uint64(stream & 0xFFFFFFFF))
    if isinstance(step, int):
        step = np.uint64(step & 0xFFFFFFFF)
    c3 = xp.broadcast_to(xp.asarray(step & _LOW), block.shape)
    key = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
    for _ in range(10):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1 = (product1 >> _HALF) ^ c1 ^ np.uint64(key[0]), product1 & _LOW
        c2, c3 = (product0 >> _HALF) ^ c3 ^ np.uint64(key[1]), product0 & _LOW
        key = [(k + weyl) & 0xFFFFFFFF for k, weyl in zip(key, _WEYL, strict=True)]
    return xp.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def _top24(words):
    return words >> np.uint32(8)


def _top53(u, v):
    """An integer below 2**53 from two words, as float64."""
    return (u >> np.uint32(5)).astype(np.float64) * 2.0**26 + (v >> np.uint32(6))


def _blocks(n, per_block):
    return -(-n // per_block)


def uniform(xp, shape, dtype, seed, stream, step, low=0.0, high=1.0):
    """Numbers in [low, high).

    low + t (high - low), where t has 24 bits of word i % 4 of block i // 4 (float32), or 53 bits of
    the words 2 (i % 2) and 2 (i % 2) + 1 of block i // 2 (float64).

    Parameters
    ----------
    xp : module
        numpy or cupy.
    shape : tuple of int
    dtype : float32 or float64
    seed, stream, step : int
        See `philox_words`.
    low, high : float
        Finite, low <= high.

    Returns
    -------
    array of `shape` and `dtype`
    """
    dtype, n = np.dtype(dtype), math.prod(shape)
    low, high = dtype.type(low), dtype.type(high)
    width = np.float64(dtype.type(np.float64(high) - low))
    if dtype == np.float32:  # float64 holds these products exactly
        t = _top24(philox_words(xp, _blocks(n, 4), seed, stream, step)) * np.float64(2.0**-24)
    else:
        words = philox_words(xp, _blocks(n, 2), seed, stream, step).reshape(-1, 2)
        t = _top53(words[:, 0], words[:, 1]) * 2.0**-53
    x = (t.reshape(-1)[:n] * width + np.float64(low)).astype(dtype)
    return xp.minimum(x, np.nextafter(high, low)).reshape(shape)


def normal(xp, shape, dtype, seed, stream, step, mean=0.0, stddev=1.0):
    """Normally distributed numbers.

    mean + stddev sqrt(-2 log u) (cos, sin)(2 pi v) for the elements 2 j and 2 j + 1. float32: u is
    (word + 1/2) 2^-32 of word 2 (j % 2), v has 24 bits of the next word, of block j // 2. float64:
    u has 53 bits, and a half, of the words 0 and 1, v 53 bits of the words 2 and 3, of block j.

    Parameters
    ----------
    xp : module
        numpy or cupy.
    shape : tuple of int
    dtype : float32 or float64
    seed, stream, step : int
        See `philox_words`.
    mean, stddev : float

    Returns
    -------
    array of `shape` and `dtype`
    """
    dtype, n = np.dtype(dtype), math.prod(shape)
    real = dtype.type
    if dtype == np.float32:
        words = philox_words(xp, _blocks(n, 4), seed, stream, step).reshape(-1, 2)
        u = (words[:, 0].astype(dtype) + real(0.5)) * real(2.0**-32)
        v = _top24(words[:, 1]).astype(dtype) * real(2.0**-24)
    else:
        words = philox_words(xp, _blocks(n, 2), seed, stream, step)
        u = (_top53(words[:, 0], words[:, 1]) + 0.5) * 2.0**-53
        v = _top53(words[:, 2], words[:, 3]) * 2.0**-53
    radius = real(stddev) * xp.sqrt(real(-2) * xp.log(u))
    angle = real(2 * math.pi) * v
    pairs = xp.stack([radius * xp.cos(angle), radius * xp.sin(angle)], axis=-1)
    return (real(mean) + pairs.reshape(-1)[:n]).reshape(shape)


def bernoulli(xp, shape, dtype, seed, stream, step, p):
    """1 with probability p, else 0: is word i % 4 of block i // 4 below p 2^32?

    Parameters
    ----------
    xp : module
        numpy or cupy.
    shape : tuple of int
    dtype : any
    seed, stream, step : int
        See `philox_words`.
    p : float
        In 0..1.

    Returns
    -------
    array of `shape` and `dtype`
    """
    n = math.prod(shape)
    words = philox_words(xp, _blocks(n, 4), seed, stream, step).reshape(-1)[:n]
    threshold = np.uint64(math.ceil(p * 2.0**32))  # 2^32 for p = 1, so not a word itself
    return (words.astype(np.uint64) < threshold).astype(dtype).reshape(shape)
