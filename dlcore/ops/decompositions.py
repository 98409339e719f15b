"""Linear algebra of matrices (.., M, M) or (.., M, N) in the last two axes, by LAPACK behind NumPy
(or CuPy's).

solve, inv, det, slogdet and cholesky are ops with gradients, without kernels: a program that holds
one runs by formulas. The rest runs on concrete arrays only.
"""

import numpy as np

from dlcore.ops.arranging import tril, triu
from dlcore.ops.calling import traceable
from dlcore.ops.creation import eye as eye_
from dlcore.ops.linalg import matmul
from dlcore.ops.op import OPS, Op, as_float, concrete, promoted
from dlcore.ops.shaping import expand_dims, squeeze, swapaxes
from dlcore.program import dtypes


def _transposed(x):
    return swapaxes(x, -1, -2)


def _check_square(name, x):
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"{name}: expected square matrices (.., M, M), got {tuple(x.shape)}")


def _solve_shape(a, b):
    if a.shape[-1] != b.shape[-2] or a.shape[:-2] != b.shape[:-2]:
        raise ValueError(f"solve: expected b (.., {a.shape[-1]}, K) for a {a.shape}, got {b.shape}")
    return b.shape, b.dtype


def _solve_gradient(g, y, a, b):
    db = OPS["solve"](_transposed(a), g)
    return [-matmul(db, _transposed(y)), db]


def _refusing_singular(name, f):
    """`f` of arrays, which names what is wrong with the matrix."""

    def run(xp, *xs):
        try:
            return f(xp, *xs)
        except np.linalg.LinAlgError as error:
            raise ValueError(f"{name}: expected a matrix that has one, got {error}") from None

    return run


def _cholesky_gradient(g, y, x):
    """Murray 2016, "Differentiation of the Cholesky decomposition", equation 9."""
    p = tril(matmul(_transposed(y), g))
    p = p - 0.5 * p * eye_(y.shape[-1], dtype=dtypes.array_type(y.dtype))
    s = OPS["solve"](_transposed(y), p)  # L^-T P
    s = _transposed(OPS["solve"](_transposed(y), _transposed(s)))  # L^-T P L^-1
    return [0.5 * (s + _transposed(s))]


def _slogdet_gradient(dys, ys, x):
    if dys[1] is None:
        return [None]
    return [expand_dims(dys[1], (-1, -2)) * _transposed(_inverse(x))]


def _of_matrices(x):
    return x.shape[:-2], x.dtype


Op("solve", _solve_shape, _refusing_singular("solve", lambda xp, a, b: xp.linalg.solve(a, b)),
   _solve_gradient)  # fmt: skip
Op(
    "cholesky",
    lambda x: (x.shape, x.dtype),
    _refusing_singular("cholesky", lambda xp, x: xp.linalg.cholesky(x)),
    _cholesky_gradient,
)
Op(
    "det",
    _of_matrices,
    lambda xp, x: xp.linalg.det(x),
    lambda g, y, x: [expand_dims(g * y, (-1, -2)) * _transposed(_inverse(x))],
)
Op(
    "slogdet",
    lambda x: [_of_matrices(x)] * 2,
    lambda xp, x: tuple(xp.linalg.slogdet(x)),
    _slogdet_gradient,
)


def _inverse(x):
    unit = np.broadcast_to(np.eye(x.shape[-1], dtype=dtypes.array_type(x.dtype)), x.shape)
    return OPS["solve"](x, promoted(x, unit.copy())[1])


@traceable()
def inv(x):
    """Inverses of square matrices."""
    x = as_float(x)
    _check_square("inv", x)
    return _inverse(x)


@traceable(2)
def solve(a, b):
    """The x of a x = b for square matrices a; b holds matrices, or vectors with one axis less."""
    a, b = promoted(as_float(a), b)
    _check_square("solve", a)
    if b.ndim != a.ndim - 1:
        return OPS["solve"](a, b)
    return squeeze(OPS["solve"](a, expand_dims(b, -1)), -1)


@traceable()
def det(x):
    """Determinants of square matrices."""
    x = as_float(x)
    _check_square("det", x)
    return OPS["det"](x)


@traceable()
def slogdet(x):
    """(sign, logarithm of the size) of the determinants of square matrices."""
    x = as_float(x)
    _check_square("slogdet", x)
    return tuple(OPS["slogdet"](x))


@traceable()
def logdet(x):
    """Logarithm of the size of the determinants of square matrices."""
    return slogdet(x)[1]


@traceable()
def cholesky(x, upper=False):
    """The lower L with x = L L^T of symmetric positive matrices, or with `upper` its transpose."""
    x = as_float(x)
    _check_square("cholesky", x)
    y = OPS["cholesky"](x)
    return _transposed(y) if upper else y


@traceable()
def cholesky_inverse(x, upper=False):
    """The inverse of L L^T, given L (or with `upper` its transpose)."""
    x = as_float(x)
    _check_square("cholesky_inverse", x)
    return _inverse(matmul(_transposed(x), x) if upper else matmul(x, _transposed(x)))


@traceable(2)
def solve_triangular(a, b, lower=False):
    """The x of a x = b, of which only the upper (or lower) triangle of a is read."""
    a, b = promoted(as_float(a), b)
    return solve(tril(a) if lower else triu(a), b)


# Of concrete arrays only


def _floats(name, x):
    xp, x = concrete(name, x)
    return xp, x.astype(dtypes.as_float(x.dtype.name), copy=False)


def eigh(x):
    """(eigenvalues in rising order, eigenvectors as columns) of a concrete symmetric matrix."""
    xp, x = _floats("eigh", x)
    _check_square("eigh", x)
    return tuple(xp.linalg.eigh(x))


def qr(x, mode="reduced"):
    """(orthogonal q, upper triangular r) with x = q r of a concrete array; mode "complete" gives a
    square q."""
    if mode not in ("reduced", "complete"):
        raise ValueError(f"qr: expected mode 'reduced' or 'complete', got {mode!r}")
    xp, x = _floats("qr", x)
    return tuple(xp.linalg.qr(x, mode))


def svd(x, full_matrices=True, compute_uv=True):
    """(u, singular values in falling order, v^T) of a concrete array, or the values alone."""
    xp, x = _floats("svd", x)
    y = xp.linalg.svd(x, full_matrices, compute_uv)
    return tuple(y) if compute_uv else y


def pinv(x, rcond=None):
    """Pseudo-inverse of a concrete array; singular values below `rcond` times the largest are 0."""
    xp, x = _floats("pinv", x)
    return xp.linalg.pinv(x) if rcond is None else xp.linalg.pinv(x, rcond)


def matrix_rank(x, tol=None):
    """How many singular values of a concrete array are above `tol`, as int32."""
    xp, x = _floats("matrix_rank", x)
    return xp.asarray(xp.linalg.matrix_rank(x, tol)).astype("int32")


def lstsq(a, b, rcond=None):
    """The x that minimizes |a x - b| of concrete arrays a (M, N) and b (M,) or (M, K)."""
    xp, a = _floats("lstsq", a)
    b = xp.asarray(_floats("lstsq", b)[1], a.dtype)
    return xp.linalg.lstsq(a, b, rcond)[0]


__all__ = [
    "cholesky", "cholesky_inverse", "det", "eigh", "inv", "logdet", "lstsq", "matrix_rank", "pinv",
    "qr", "slogdet", "solve", "solve_triangular", "svd",
]  # fmt: skip
