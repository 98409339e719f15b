"""Scaled dot-product attention: y = softmax(scale q k^T + bias, where mask and causal allow) v.

B batch, T queries, S keys, N query heads, K key heads, H and D widths of keys and of values:
q (B, T, N, H), k (B, S, K, H), v (B, S, K, D), y (B, T, N, D); bias and mask (B, N, T, S).

The kernel goes over blocks and never holds the T x S scores (Dao et al. 2022,
https://arxiv.org/abs/2205.14135); the formulas below do. A query that sees no key gives 0.

With dropout the weights of the softmax become 0 or are divided by the probability to be kept. The
kernels draw the random numbers again where they need them: those of eight keys are the 16-bit
halves of a Philox block, which is exact enough for a probability, that is rounded to them.
"""

import math

from dlcore.ops import pointwise as pw
from dlcore.ops.calling import traceable
from dlcore.ops.creation import arange
from dlcore.ops.linalg import matmul
from dlcore.ops.op import OPS, Op, as_float, cast_to, promoted, to_tensor
from dlcore.ops.reduction import sum as sum_
from dlcore.ops.shaping import broadcast_to, expand_dims, reshape, transpose
from dlcore.program.differentiate import gradient_of
from dlcore.program.dtypes import array_type


def _options(rest, has_bias, has_mask, dropout):
    """(bias, mask, counter of the dropout), each or None, of the inputs after q, k and v."""
    rest = list(rest)
    return tuple(rest.pop(0) if has else None for has in (has_bias, has_mask, dropout))


def _factors(xp, counter, shape, dtype, dropout):
    """What multiplies the weights of `shape` (B, N, T, S): 1 without dropout, given as (keep, seed,
    stream)."""
    if dropout is None:
        return 1
    from dlcore.ops import philox

    keep, seed, stream = dropout
    runs = -(-shape[-1] // 8)
    rows = math.prod(shape[:-1])
    words = philox.philox_words(xp, rows * runs, seed, stream, counter.astype("uint64"))
    halves = xp.stack([words & 0xFFFF, words >> 16], axis=-1)
    halves = halves.reshape(*shape[:-1], 8 * runs)[..., : shape[-1]]
    kept = int(keep * 2.0**16 + 0.5)
    return xp.where(halves < kept, 2.0**16 / kept, 0.0).astype(dtype)


def _heads_first(xp, x, repeat=1):
    x = xp.transpose(x, (0, 2, 1, 3))
    return x if repeat == 1 else xp.repeat(x, repeat, axis=1)


def _scores(xp, q, k, bias, mask, causal, scale):
    """Scores (B, N, T, S), with -inf where nothing is seen."""
    keys = _heads_first(xp, k, q.shape[2] // max(k.shape[2], 1))
    x = xp.matmul(_heads_first(xp, q), xp.swapaxes(keys, -1, -2)) * q.dtype.type(scale)
    x = x if bias is None else x + bias
    seen = True if mask is None else mask
    if causal:
        seen = seen & (xp.arange(x.shape[2])[:, None] >= xp.arange(x.shape[3]))
    return x if seen is True else xp.where(seen, x, x.dtype.type(-xp.inf))


def _attention(xp, q, k, v, *rest, causal, scale, has_bias, has_mask, dropout):
    bias, mask, counter = _options(rest, has_bias, has_mask, dropout)
    x = _scores(xp, q, k, bias, mask, causal, scale)
    top = xp.max(x, axis=-1, keepdims=True)
    e = xp.exp(x - xp.where(xp.isinf(top) & (top < 0), x.dtype.type(0), top))
    total = xp.sum(e, axis=-1, keepdims=True)
    nothing = total == 0
    p = e / xp.where(nothing, x.dtype.type(1), total)
    lse = xp.where(nothing, xp.inf, top + xp.log(xp.where(nothing, 1, total)))
    values = _heads_first(xp, v, q.shape[2] // max(v.shape[2], 1))
    p = p * _factors(xp, counter, p.shape, p.dtype, dropout)
    y = xp.transpose(xp.matmul(p, values), (0, 2, 1, 3))
    return xp.ascontiguousarray(y), lse[..., 0].astype(x.dtype)


def _attention_grad(xp, dy, y, lse, q, k, v, *rest, causal, scale, has_bias, has_mask, dropout):
    bias, mask, counter = _options(rest, has_bias, has_mask, dropout)
    p = xp.exp(_scores(xp, q, k, bias, mask, causal, scale) - lse[..., None])
    factors = _factors(xp, counter, p.shape, p.dtype, dropout)
    groups, shared = k.shape[2], q.shape[2] // max(k.shape[2], 1)
    g = _heads_first(xp, dy)
    inner = xp.sum(g * _heads_first(xp, y), axis=-1, keepdims=True)
    dp = xp.matmul(g, xp.swapaxes(_heads_first(xp, v, shared), -1, -2)) * factors
    ds = p * (dp - inner) * q.dtype.type(scale)

    def per_group(x):
        x = x.reshape(x.shape[0], groups, shared, *x.shape[2:]).sum(axis=2)
        return xp.ascontiguousarray(xp.transpose(x, (0, 2, 1, 3)))

    dq = xp.transpose(xp.matmul(ds, _heads_first(xp, k, shared)), (0, 2, 1, 3))
    dk = xp.matmul(xp.swapaxes(ds, -1, -2), _heads_first(xp, q))
    dv = xp.matmul(xp.swapaxes(p * factors, -1, -2), g)
    return xp.ascontiguousarray(dq), per_group(dk), per_group(dv)


def _attention_gradient(gs, ys, q, k, v, *rest, **attrs):
    dy, dlse = gs
    if dlse is not None:  # by a second derivative only
        dy = pw.multiply(ys[0], 0.0) if dy is None else dy
        return _gradients_by_scores(dy, *ys, q, k, v, *rest, dlse=dlse, **attrs)
    found = [*OPS["attention_grad"](dy, *ys, q, k, v, *rest, **attrs)]
    if attrs["has_bias"]:
        found.append(_scores_gradient(dy, *ys, q, k, v, *rest, **attrs)[1])
    return found + [None] * (3 + len(rest) - len(found))


def _gradients_by_scores(dy, y, lse, q, k, v, *rest, dlse=None, **attrs):
    """What `attention_grad` computes and the gradient of a bias, written with ops."""
    p, ds = _scores_gradient(dy, y, lse, q, k, v, *rest, dlse=dlse, **attrs)
    batch, groups, shared = q.shape[0], k.shape[2], q.shape[2] // k.shape[2]

    def to_rows(x):  # (B, N, T, H) -> (B, T, N, H)
        return transpose(x, (0, 2, 1, 3))

    def to_keys(x, of):  # x^T of, summed over the heads that share a key
        x = matmul(transpose(x, (0, 1, 3, 2)), to_rows(of))
        return to_rows(sum_(reshape(x, (batch, groups, shared, *x.shape[2:])), 2))

    dq = to_rows(matmul(ds, _repeated_heads(k, shared))) * attrs["scale"]
    found = [dq, to_keys(ds, q) * attrs["scale"], to_keys(p, dy)]
    found += [ds] * attrs["has_bias"]
    return found + [None] * (3 + len(rest) - len(found))


def _repeated_heads(x, times):
    """(B, S, K, H) as (B, K times, S, H)."""
    x = transpose(x, (0, 2, 1, 3))
    if times == 1:
        return x
    b, n, rows, columns = x.shape
    x = broadcast_to(expand_dims(x, 2), (b, n, times, rows, columns))
    return reshape(x, (b, n * times, rows, columns))


def _scores_gradient(
    dy, y, lse, q, k, v, *rest, causal, scale, has_bias, has_mask, dropout, dlse=None
):
    """The weights after dropout, and the gradient of the scores plus bias, which the kernel does
    not keep: both hold T x S for each head."""
    shared = q.shape[2] // k.shape[2]
    bias, mask, counter = _options(rest, has_bias, has_mask, dropout)
    keys = transpose(_repeated_heads(k, shared), (0, 1, 3, 2))
    scores = matmul(transpose(q, (0, 2, 1, 3)), keys) * scale
    scores = scores if bias is None else scores + bias
    seen = mask
    if causal:
        order = pw.greater_equal(
            expand_dims(to_tensor(arange(q.shape[1])), 1), to_tensor(arange(k.shape[1]))
        )
        seen = order if mask is None else pw.logical_and(mask, order)
    p = pw.exp(scores - expand_dims(lse, -1))
    if seen is not None:
        p = pw.where(seen, p, 0.0)
    inner = transpose(sum_(dy * y, -1), (0, 2, 1))
    inner = inner if dlse is None else inner - dlse
    values = transpose(_repeated_heads(v, shared), (0, 1, 3, 2))
    dp = matmul(transpose(dy, (0, 2, 1, 3)), values)
    if dropout is None:
        return p, p * (dp - expand_dims(inner, -1))
    factors = OPS["dropout_factors"](counter, shape=p.shape, dtype=p.dtype, dropout=dropout)
    return p * factors, p * (dp * factors - expand_dims(inner, -1))


def _kernel(name):
    def kernel(node):
        a = node.attrs
        keep, seed, stream = a["dropout"] or (1.0, 0, 0)
        flags = a["causal"], a["has_bias"], a["has_mask"], a["dropout"] is not None
        return name, [*map(int, flags), seed, stream], [a["scale"], keep]

    return kernel


Op(
    "attention",
    lambda q, k, v, *rest, **_: [
        ((*q.shape[:3], v.shape[3]), q.dtype),
        ((q.shape[0], q.shape[2], q.shape[1]), array_type(q.dtype)),
    ],
    _attention,
    _attention_gradient,
    kernel=_kernel("attention"),
    optional=1,
)
# dq, dk, dv from dy, the results of attention, and its inputs.
Op(
    "attention_grad",
    lambda dy, y, lse, q, k, v, *rest, **_: [(x.shape, x.dtype) for x in (q, k, v)],
    _attention_grad,
    gradient_of(lambda *args, **attrs: _gradients_by_scores(*args, **attrs)[:3]),
    kernel=_kernel("attention_grad"),
)


# What dropout multiplies the weights by: of second derivatives only.
Op("dropout_factors", lambda counter, shape, dtype, dropout: (shape, dtype), _factors)


@traceable(5)
def dot_product_attention(
    query,
    key,
    value,
    bias=None,
    mask=None,
    scale=None,
    is_causal=False,
    flash_attention=None,
    attn_logits_soft_cap=None,
):
    """softmax(scale query key^T + bias) value, for each head, in memory that grows with T + S.

    Parameters
    ----------
    query : (B, T, N, H)
    key : (B, S, K, H)
        K divides N: query heads share key heads in runs of N / K.
    value : (B, S, K, D)
    bias : broadcastable to (B, N, T, S), optional
        Added to the scores.
    mask : bool, broadcastable to (B, N, T, S), optional
        False where a query must not see a key; a query that sees no key gives 0.
    scale : float, optional
        By default 1 / sqrt(H).
    is_causal : bool, default False
        Whether query t sees the keys 0..t only.
    flash_attention
        Accepted for Keras' sake: blocks are always used.
    attn_logits_soft_cap : None

    Returns
    -------
    (B, T, N, D)

    Raises
    ------
    ValueError
        If the shapes do not belong together.

    Examples
    --------
    >>> import numpy as np
    >>> from dlcore import ops
    >>> x = np.eye(3, dtype="float32").reshape(1, 3, 1, 3)
    >>> ops.dot_product_attention(x, x, x, is_causal=True)[0, 0, 0]
    array([1., 0., 0.], dtype=float32)

    References
    ----------
    Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; Dao et al. 2022,
    https://arxiv.org/abs/2205.14135
    """
    if attn_logits_soft_cap is not None:
        raise ValueError(
            f"dot_product_attention: expected attn_logits_soft_cap=None, got {attn_logits_soft_cap}"
        )
    return _attend(query, key, value, bias, mask, scale, is_causal)


@traceable(6)
def dropped_attention(query, key, value, bias, mask, counter, is_causal, dropout):
    """`dot_product_attention` with dropout of the weights: `dropout` is (probability to be kept,
    seed, stream), and `counter` the step, as of `random_bits`."""
    keep, seed, stream = dropout
    dropout = max(float(keep), 2.0**-16), int(seed), int(stream)
    return _attend(query, key, value, bias, mask, None, is_causal, to_tensor(counter), dropout)


def _attend(query, key, value, bias, mask, scale, is_causal, counter=None, dropout=None):
    name = "dot_product_attention"
    q, k, v = promoted(*map(as_float, (query, key, value)))
    _check_shapes(name, q, k, v)
    rest, scores = [], (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
    for what, x, dtype in (("bias", bias, q.dtype), ("mask", mask, "bool")):
        if x is not None:
            rest.append(_as_scores(name, what, cast_to(to_tensor(x), dtype), scores))
    scale = 1.0 / math.sqrt(max(q.shape[3], 1)) if scale is None else float(scale)
    attrs = {"causal": bool(is_causal), "scale": scale}
    attrs |= {"has_bias": bias is not None, "has_mask": mask is not None, "dropout": dropout}
    rest += [] if counter is None else [counter]
    return OPS["attention"](q, k, v, *rest, **attrs)[0]


def _check_shapes(name, q, k, v):
    if any(x.ndim != 4 for x in (q, k, v)):
        raise ValueError(
            f"{name}: expected query, key and value (batch, steps, heads, width),"
            f" got {q.shape}, {k.shape} and {v.shape}"
        )
    heads, groups = q.shape[2], k.shape[2]
    if k.shape[0] != q.shape[0] or k.shape[3] != q.shape[3] or not groups or heads % groups:
        raise ValueError(
            f"{name}: expected key ({q.shape[0]}, steps, a divisor of {heads}, {q.shape[3]})"
            f" for query {q.shape}, got {k.shape}"
        )
    if v.shape[:3] != k.shape[:3] or not k.shape[1]:
        raise ValueError(
            f"{name}: expected value of at least one step like key {k.shape}, got {v.shape}"
        )


def _as_scores(name, what, x, shape):
    lead = len(shape) - x.ndim
    fits = lead >= 0 and all(
        a in (1, b) for a, b in zip(x.shape, shape[max(lead, 0) :], strict=False)
    )
    if not fits:
        raise ValueError(f"{name}: expected {what} that broadcasts to {shape}, got {x.shape}")
    return broadcast_to(x, shape)
