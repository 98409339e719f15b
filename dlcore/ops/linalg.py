"""Matrix products: y = a b over the last two axes, batched by broadcasting over the others."""

from dlcore.ops.calling import traceable
from dlcore.ops.op import OPS, Op, broadcast_shapes, cast_to, promoted
from dlcore.ops.pointwise_table import sum_to
from dlcore.ops.shaping import expand_dims, reshape, squeeze, swapaxes
from dlcore.program import dtypes


def _matmul_shape(a, b):
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(
            f"matmul: expected x2 with {a.shape[-1]} rows to match x1 {a.shape}, got {b.shape}"
        )
    batch = broadcast_shapes("matmul", a.shape[:-2], b.shape[:-2])
    return (*batch, a.shape[-2], b.shape[-1]), a.dtype


def _matmul_gradient(g, y, a, b):
    # A weight shared by a batch of matrices: one product over all rows instead of a sum of
    # products.
    if len(b.shape) == 2 and len(a.shape) > 2:
        rows = reshape(a, (-1, a.shape[-1]))
        db = OPS["matmul"](swapaxes(rows, 0, 1), reshape(g, (-1, g.shape[-1])))
        return [OPS["matmul"](g, swapaxes(b, -1, -2)), db]
    da = OPS["matmul"](g, swapaxes(b, -1, -2))
    db = OPS["matmul"](swapaxes(a, -1, -2), g)
    return [sum_to(da, a.shape), sum_to(db, b.shape)]


Op(
    "matmul",
    _matmul_shape,
    lambda xp, a, b: xp.matmul(a, b),
    _matmul_gradient,
    kernel=lambda node: ("gemm", [], []),
    epilogue=True,
)


@traceable(2)
def matmul(x1, x2):
    """x1 @ x2: products of matrices (.., M, K) and (.., K, N); vectors are rows or columns.
    Integers are multiplied as float64, exactly up to 2^53.

    Raises
    ------
    ValueError
        If the inner sizes differ or the leading axes do not broadcast.
    """
    a, b = promoted(x1, x2)
    if not dtypes.is_float(a.dtype):
        y = matmul(cast_to(a, "float64"), cast_to(b, "float64"))
        return cast_to(y, "int32" if a.dtype in ("bool", "uint8") else a.dtype)
    if not a.shape or not b.shape:
        raise ValueError(
            f"matmul: expected at least one axis each, got shapes {a.shape} and {b.shape}"
        )
    row, column = a.ndim == 1, b.ndim == 1
    a = expand_dims(a, 0) if row else a
    b = expand_dims(b, 1) if column else b
    if len(a.shape) > 2 and len(b.shape) == 2:  # one tall product
        flat = OPS["matmul"](reshape(a, (-1, a.shape[-1])), b) if a.size else OPS["matmul"](a, b)
        y = reshape(flat, (*a.shape[:-1], b.shape[-1]))
    else:
        y = OPS["matmul"](a, b)
    if row:
        y = squeeze(y, -2)
    return squeeze(y, -1) if column else y


@traceable(2)
def dot(x1, x2):
    """x1 . x2, summed over the last axis of x1 and the last but one of x2; scalars multiply."""
    a, b = promoted(x1, x2)
    if not a.shape or not b.shape:
        return a * b
    if b.ndim > 2:
        from dlcore.ops.products import tensordot

        return tensordot(a, b, ((a.ndim - 1,), (b.ndim - 2,)))
    return matmul(a, b)


def __getattr__(name):
    """`ops.linalg` also has what `keras.ops.linalg` has."""
    from dlcore.lookup import no_attribute

    if name.startswith("_"):  # imports ask for such
        raise no_attribute("dlcore.ops.linalg", name, ())
    from dlcore import ops
    from dlcore.ops import decompositions

    if name == "norm":
        return ops.norm
    if name in decompositions.__all__:
        return getattr(decompositions, name)
    raise no_attribute("dlcore.ops.linalg", name, ("norm", *decompositions.__all__))
