"""Softmax and cross-entropy in one op: loss = logsumexp(x) - x[label], and its gradient beside
it."""

import numpy as np

from dlcore.ops import pointwise as pw
from dlcore.ops.calling import traceable
from dlcore.ops.op import OPS, Op, as_float, cast_to, to_tensor
from dlcore.ops.shaping import expand_dims
from dlcore.program import dtypes
from dlcore.program.graph import Tensor


def _shape(logits, labels):
    if len(logits.shape) != 2 or labels.shape not in (logits.shape, logits.shape[:1]):
        raise ValueError(
            f"softmax_cross_entropy: expected logits (N, C) and labels (N,) or (N, C), "
            f"got {logits.shape} and {labels.shape}"
        )
    return [(logits.shape[:1], logits.dtype), (logits.shape, logits.dtype)]


def _formula(xp, logits, labels):
    c = logits.shape[1]
    if labels.ndim == 1:
        inside = (labels >= 0) & (labels < c)
        target = (labels[:, None] == xp.arange(c)).astype(logits.dtype)
        target = xp.where(inside[:, None], target, logits.dtype.type(np.nan))
    else:
        target = labels
    z = logits - xp.max(logits, axis=-1, keepdims=True)
    e = xp.exp(z)
    s = xp.sum(e, axis=-1, keepdims=True)
    weight = xp.sum(target, axis=-1, keepdims=True)
    terms = xp.where(target == 0, logits.dtype.type(0), target * (xp.log(s) - z))
    return xp.sum(terms, axis=-1), e / s * weight - target


def _gradient(dys, ys, logits, labels):
    """Of the loss; and of its gradient ys[1] = softmax(logits) * weight - labels, for second
    derivatives."""
    dlogits, dlabels = [], []
    if dys[0] is not None:
        dy = expand_dims(dys[0], -1)
        dlogits.append(dy * ys[1])
        if labels.ndim == 2:
            dlabels.append(-dy * OPS["softmax"](logits, log=True))
    if dys[1] is not None:
        p = OPS["softmax"](logits, log=False)
        mean = _row_sum(dys[1] * p)
        weight = _row_sum(labels) if labels.ndim == 2 else 1.0
        dlogits.append(p * (dys[1] - mean) * weight)
        if labels.ndim == 2:
            dlabels.append(mean - dys[1])
    return [sum(parts[1:], parts[0]) if parts else None for parts in (dlogits, dlabels)]


def _row_sum(x):
    return OPS["reduce"](x, kind="sum", axes=(1,))


Op(
    "softmax_cross_entropy",
    _shape,
    _formula,
    _gradient,
    kernel=lambda node: ("softmax_cross_entropy", [], []),
)


def _in_float32(x):
    """`x` as floats, halves as float32."""
    x = as_float(x)
    return cast_to(x, dtypes.array_type(x.dtype))


@traceable(2)
def sparse_softmax_cross_entropy(logits, labels):
    """-log softmax(logits)[label] per row.

    Parameters
    ----------
    logits : (N, C) float
    labels : (N,) integer, 0..C-1; a label outside gives NaN

    Returns
    -------
    (N,) float
    """
    logits, labels = _in_float32(logits), to_tensor(labels)
    if labels.dtype not in ("int32", "int64"):
        labels = pw.cast(labels, "int32")
    return OPS["softmax_cross_entropy"](logits, labels)[0]


@traceable(2)
def softmax_cross_entropy(logits, targets):
    """-sum(targets * log softmax(logits)) per row.

    Parameters
    ----------
    logits, targets : (N, C) float

    Returns
    -------
    (N,) float
    """
    logits = _in_float32(logits)
    return OPS["softmax_cross_entropy"](logits, cast_to(to_tensor(targets), logits.dtype))[0]


def _shows_all(node, activation):
    """Whether the numbers of `node` are those of its input: halves as float32, or reshaped."""
    if node.op.name == "cast":
        return node.inputs[0].dtype in dtypes.HALVES and dtypes.is_float(node.outputs[0].dtype)
    return node.op.name == "reshape" and activation == "sigmoid"


def logits_of(y, activation="softmax"):
    """What `y`, a symbolic tensor made by softmax (or "sigmoid"), was computed from; else None."""
    if not isinstance(y, Tensor):
        return None
    node = y.node
    while _shows_all(node, activation):
        node = node.inputs[0].node
    if node.op.name != activation or node.attrs.get("log"):
        return None
    x = node.inputs[0]
    return x if x.shape == y.shape and dtypes.is_float(x.dtype) else None
