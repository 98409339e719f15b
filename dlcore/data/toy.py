"""Two-dimensional points in classes: sets small enough to watch a network learn.

Each function returns x (n, 2) float32 and y (n,) int64. The classes are of equal size (give or
take one), in turn along the rows, and the same seed gives the same points.
"""

import numpy as np


def xor(n=1000, noise=0.0, seed=0):
    """Two classes, y = [x0 > 0] xor [x1 > 0], over the square (-1, 1)^2.

    Parameters
    ----------
    n : int
        Number of points.
    noise : float
        Standard deviation of the normal noise added to the points.
    seed : int
        Same seed, same points.

    Returns
    -------
    x : ndarray (n, 2) float32
    y : ndarray (n,) int64, 0 or 1

    Examples
    --------
    >>> x, y = xor(4)
    >>> y.tolist() == ((x[:, 0] > 0) ^ (x[:, 1] > 0)).tolist()
    True
    """
    rng, y = _start("xor", n, noise, seed)
    size = rng.uniform(0.05, 1.0, (n, 2))  # a gap at the axes parts the classes
    sign = rng.choice([-1.0, 1.0], n)
    x = size * np.stack([sign, np.where(y == 1, -sign, sign)], axis=1)
    return _finish(rng, x, y, noise)


def circles(n=1000, noise=0.05, seed=0, factor=0.5):
    """Two classes on circles about the origin: class 0 of radius 1, class 1 of radius `factor`.

    Parameters
    ----------
    n, noise, seed
        As for `xor`.
    factor : float
        Radius of the inner circle, in (0, 1).

    Returns
    -------
    x : ndarray (n, 2) float32
    y : ndarray (n,) int64, 0 or 1
    """
    if not 0 < factor < 1:
        raise ValueError(f"circles: expected factor in (0, 1), got {factor}")
    rng, y = _start("circles", n, noise, seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    radius = np.where(y == 0, 1.0, factor)
    return _finish(rng, _polar(radius, angle), y, noise)


def spiral(n=1000, noise=0.05, seed=0, classes=3, turns=1.0):
    """Arms of a spiral, one a class: each goes `turns` times round while its radius grows to 1.

    Parameters
    ----------
    n, noise, seed
        As for `xor`.
    classes : int
        Number of arms.
    turns : float
        How often an arm goes round.

    Returns
    -------
    x : ndarray (n, 2) float32
    y : ndarray (n,) int64, in 0 .. classes - 1
    """
    rng, y = _start("spiral", n, noise, seed, classes)
    radius = np.sqrt(rng.uniform(0.01, 1.0, n))
    angle = 2 * np.pi * (turns * radius + y / classes)
    return _finish(rng, _polar(radius, angle), y, noise)


def blobs(n=1000, noise=0.3, seed=0, classes=3):
    """Round clouds, their centres evenly spaced on the unit circle.

    Parameters
    ----------
    n, noise, seed
        As for `xor`; `noise` is the standard deviation of a cloud.
    classes : int
        Number of clouds.

    Returns
    -------
    x : ndarray (n, 2) float32
    y : ndarray (n,) int64, in 0 .. classes - 1
    """
    rng, y = _start("blobs", n, noise, seed, classes)
    return _finish(rng, _polar(np.ones(n), 2 * np.pi * y / classes), y, noise)


def _start(name, n, noise, seed, classes=2):
    if not (isinstance(n, (int, np.integer)) and n >= 0):
        raise ValueError(f"{name}: expected n, a number of points, got {n!r}")
    if not noise >= 0:
        raise ValueError(f"{name}: expected noise >= 0, got {noise!r}")
    if not (isinstance(classes, (int, np.integer)) and classes >= 1):
        raise ValueError(f"{name}: expected a positive number of classes, got {classes!r}")
    return np.random.default_rng(seed), np.arange(n, dtype=np.int64) % classes


def _polar(radius, angle):
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _finish(rng, x, y, noise):
    return (x + noise * rng.standard_normal(x.shape)).astype(np.float32), y
