"""Fourier transforms, of pairs (real part, imaginary part), as there are no complex numbers.

    X[k] = sum_n x[n] w^(n k),   w = exp(-2 pi i / N)

Concrete arrays go through NumPy's (or CuPy's). In a program, where the transforms have gradients
and run on any device, they are products with the matrix w^(n k); a large N = A B is cut into
transforms of sizes A and B with factors between (Cooley and Tukey 1965).
"""

import math

import numpy as np

from dlcore import backends
from dlcore.ops.arranging import extract_sequences
from dlcore.ops.calling import traced_as
from dlcore.ops.linalg import matmul
from dlcore.ops.op import as_float, to_array
from dlcore.ops.shaping import concatenate, flip, pad, reshape, swapaxes, transpose
from dlcore.ops.updating import segment_sum
from dlcore.program import dtypes

_DIRECT = 64  # sizes from here on are cut where they can be


# In a program


def _waves(n, m, sign, dtype):
    """cos and sin of 2 pi n k / m, for all products of `n` and k < m."""
    angle = (2 * math.pi / m) * (np.outer(np.arange(n), np.arange(m)) % m)
    return np.cos(angle).astype(dtype), (sign * np.sin(angle)).astype(dtype)


def _times(a, b, c, d):
    """(a + i b) (c + i d) by matrix products; an imaginary part b that is None is 0."""
    if b is None:
        return matmul(a, c), matmul(a, d)
    return matmul(a, c) - matmul(b, d), matmul(a, d) + matmul(b, c)


def _transform(re, im, sign):
    """Along the last axis, with w = exp(sign 2 pi i / N)."""
    n, dtype = re.shape[-1], re.dtype
    a = max((d for d in range(2, math.isqrt(n) + 1) if n % d == 0), default=1)
    if n <= _DIRECT or a == 1:
        return _times(re, im, *_waves(n, n, sign, dtype))
    b, lead = n // a, re.shape[:-1]  # places n = b p + q, frequencies k = r + a s

    def cut(x):
        return None if x is None else swapaxes(reshape(x, (*lead, a, b)), -1, -2)

    re, im = _transform(cut(re), cut(im), sign)  # [q, r]
    angle = (2 * math.pi / n) * np.outer(np.arange(b), np.arange(a))
    c, s = np.cos(angle).astype(dtype), (sign * np.sin(angle)).astype(dtype)
    re, im = re * c - im * s, re * s + im * c
    re, im = _transform(swapaxes(re, -1, -2), swapaxes(im, -1, -2), sign)  # [r, s]
    return tuple(reshape(swapaxes(x, -1, -2), (*lead, n)) for x in (re, im))


def _pair(name, x):
    if not isinstance(x, (tuple, list)) or len(x) != 2:
        raise ValueError(f"{name}: expected a pair (real part, imaginary part), got {type(x)}")
    re, im = (as_float(part) for part in x)
    if re.shape != im.shape or not re.shape:
        raise ValueError(f"{name}: expected two parts of one shape, got {re.shape} and {im.shape}")
    return re, im


def _traced_fft(x):
    return _transform(*_pair("fft", x), -1)


def _over_two(name, x, sign):
    re, im = _pair(name, x)
    if re.ndim < 2:
        raise ValueError(f"{name}: expected two axes or more, got shape {re.shape}")
    re, im = _transform(re, im, sign)
    re, im = _transform(swapaxes(re, -1, -2), swapaxes(im, -1, -2), sign)
    return swapaxes(re, -1, -2), swapaxes(im, -1, -2)


def _traced_fft2(x):
    return _over_two("fft2", x, -1)


def _traced_ifft2(x):
    re, im = _over_two("ifft2", x, 1)
    scale = 1.0 / (re.shape[-1] * re.shape[-2])
    return re * scale, im * scale


def _resized(x, size):
    """The last axis cut, or filled up with zeros."""
    if x.shape[-1] >= size:
        return x[..., :size]
    return pad(x, ((0, 0),) * (x.ndim - 1) + ((0, size - x.shape[-1]),))


def _traced_rfft(x, fft_length=None):
    x = as_float(x)
    n = x.shape[-1] if fft_length is None else int(fft_length)
    re, im = _transform(_resized(x, n), None, -1)
    return re[..., : n // 2 + 1], im[..., : n // 2 + 1]


def _traced_irfft(x, fft_length=None):
    re, im = _pair("irfft", x)
    n = 2 * (re.shape[-1] - 1) if fft_length is None else int(fft_length)
    re, im = _resized(re, n // 2 + 1), _resized(im, n // 2 + 1)
    mirrored = slice(1, (n + 1) // 2)
    re = concatenate([re, flip(re[..., mirrored], -1)], -1)
    im = concatenate([im, -flip(im[..., mirrored], -1)], -1)
    # What has no mirror image is real in the transform of real numbers.
    alone = np.ones(n, im.dtype)
    alone[[0, *([n // 2] if n % 2 == 0 else [])]] = 0
    return _transform(re, im * alone, 1)[0] * (1.0 / n)


# Of concrete arrays


def _arrays(x):
    """(NumPy or CuPy, the arrays or the one array)."""
    if isinstance(x, (tuple, list)) and len(x) == 2:
        xp, re = backends.array_module(x[0])
        re, im = (to_array(part) if xp is np else part for part in x)
        return xp, re + 1j * im
    xp, x = backends.array_module(x)
    return xp, to_array(x) if xp is np else x


def _parts(xp, y, x):
    dtype = "float64" if x.dtype.name in ("float64", "complex128") else "float32"
    return xp.asarray(y.real, dtype), xp.asarray(y.imag, dtype)


def _by_numpy(name, x):
    xp, z = _arrays(x)
    return _parts(xp, getattr(xp.fft, name)(z), z)


@traced_as(_traced_fft)
def fft(x):
    """The Fourier transform along the last axis of a pair (real part, imaginary part).

    Examples
    --------
    >>> import numpy as np
    >>> from dlcore import ops
    >>> re, im = ops.fft((np.array([1.0, 0.0, -1.0, 0.0]), np.zeros(4)))
    >>> re.tolist()
    [0.0, 2.0, 0.0, 2.0]
    """
    _pair_shapes("fft", x)
    return _by_numpy("fft", x)


@traced_as(_traced_fft2)
def fft2(x):
    """The Fourier transform over the last two axes of a pair."""
    _pair_shapes("fft2", x)
    return _by_numpy("fft2", x)


@traced_as(_traced_ifft2)
def ifft2(x):
    """The inverse of `fft2`."""
    _pair_shapes("ifft2", x)
    return _by_numpy("ifft2", x)


def _pair_shapes(name, x):
    if not isinstance(x, (tuple, list)) or len(x) != 2 or np.shape(x[0]) != np.shape(x[1]):
        raise ValueError(
            f"{name}: expected a pair (real part, imaginary part) of one shape, got "
            f"{[np.shape(part) for part in x]}"
        )


@traced_as(_traced_rfft)
def rfft(x, fft_length=None):
    """The Fourier transform along the last axis of real numbers, as a pair: the first
    fft_length // 2 + 1 frequencies, as the others mirror them. x is cut or filled up with zeros to
    `fft_length`, by default its own."""
    xp, x = _arrays(x)
    return _parts(xp, xp.fft.rfft(x, fft_length), x)


@traced_as(_traced_irfft)
def irfft(x, fft_length=None):
    """The real numbers, `fft_length` along the last axis (by default an even number), whose `rfft`
    is the pair."""
    _pair_shapes("irfft", x)
    xp, z = _arrays(x)
    return _parts(xp, xp.fft.irfft(z, fft_length), z)[0]


# Of windows


def _window(name, window, length, fft_length, dtype):
    """The window (periodic, if it has a name) in the middle of `fft_length` places."""
    if fft_length < length:
        raise ValueError(
            f"{name}: expected fft_length of at least {length}, the length of a sequence, got "
            f"{fft_length}"
        )
    if window is None:
        return np.ones(fft_length, dtype)
    if isinstance(window, str):
        share = {"hann": 0.5, "hamming": 0.54}.get(window)
        if share is None:
            raise ValueError(f"{name}: expected window 'hann' or 'hamming', got {window!r}")
        window = share - (1 - share) * np.cos(2 * np.pi / length * np.arange(length))
    window = np.asarray(window, dtype)
    if window.shape != (length,):
        raise ValueError(f"{name}: expected a window of shape {(length,)}, got {window.shape}")
    before = (fft_length - length) // 2
    return np.pad(window, (before, fft_length - length - before))


def stft(x, sequence_length, sequence_stride, fft_length, window="hann", center=True):
    """Fourier transforms of overlapping windows of sequences.

    Parameters
    ----------
    x : (..., samples)
    sequence_length : int
        Of a window.
    sequence_stride : int
        Samples between windows.
    fft_length : int
        Samples of a transform, those beside the window zero.
    window : {"hann", "hamming"}, array (sequence_length,) or None
    center : bool
        Whether the sequence is continued by its mirror images, for windows to begin at its ends.

    Returns
    -------
    pair of (..., windows, fft_length // 2 + 1)
    """
    dtype = dtypes.as_float(str(getattr(x, "dtype", "float32")))
    weights = _window("stft", window, sequence_length, fft_length, dtype)
    if center:
        half = fft_length // 2
        x = pad(x, ((0, 0),) * (len(x.shape) - 1) + ((half, half),), "reflect")
    return rfft(extract_sequences(x, fft_length, sequence_stride) * weights)


def istft(x, sequence_length, sequence_stride, fft_length, length=None, window="hann", center=True):
    """The sequences whose `stft` is nearest the pair (Griffin and Lim 1984): windows are added
    where they overlap, over the sum of the squares of their weights.

    Parameters
    ----------
    length : int, optional
        Samples of the result, by default all.
    x, sequence_length, ...
        As `stft` returns and takes them.

    Returns
    -------
    (..., samples)
    """
    frames = irfft(x, fft_length)
    count, lead = frames.shape[-2], frames.shape[:-2]
    weights = _window("istft", window, sequence_length, fft_length, str(frames.dtype))
    total = fft_length + sequence_stride * (count - 1)
    squares = np.zeros(total, weights.dtype)
    for i in range(count):
        squares[i * sequence_stride :][:fft_length] += weights**2
    samples = transpose(reshape(frames * weights, (-1, count * fft_length)))
    places = np.arange(count)[:, None] * sequence_stride + np.arange(fft_length)
    y = segment_sum(samples, places.ravel().astype("int32"), total)
    y = reshape(transpose(y), (*lead, total)) / np.where(squares > 1e-10, squares, 1)
    start = fft_length // 2 if center else 0
    end = total - start if length is None else start + length
    return y[..., start:end]
