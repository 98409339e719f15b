"""Attention layers: every query takes a weighted mean of the values whose keys fit it.

y = concat over heads of softmax(q_n k_n^T / sqrt(H)) v_n, times wo

query (batch, T, ...), value and key (batch, S, ...); masks (batch, T, S) are True where a query may
look. Weights of the scores are kept only when they are asked for, or dropped out.
"""

import math

import numpy as np

from dlcore import ops, random
from dlcore.layers import spec
from dlcore.layers.base import Layer
from dlcore.layers.masks import mask_of
from dlcore.ops.attention import dropped_attention

_HIDDEN = -1e9  # score of what a query must not see


def _check_rank(name, *sequences):
    if any(len(x.shape) != 3 for x in sequences):
        shapes = ", ".join(str(tuple(x.shape)) for x in sequences)
        raise ValueError(f"{name}: expected inputs (batch, steps, features), got {shapes}")


def _both(a, b):
    """Masks or None, joined by and."""
    if a is None or b is None:
        return b if a is None else a
    return ops.logical_and(a, b)


def _causal(queries, keys):
    return ops.greater_equal(ops.expand_dims(ops.arange(queries), 1), ops.arange(keys))


def _weights(scores, mask, drop, blind_gets_zero=False):
    """softmax of scores (..., T, S) where the mask allows, and the same after dropout. A query that
    sees no key weighs all alike, or none: as Keras' layers do.
    """
    if mask is not None:
        scores = ops.where(mask, scores, _HIDDEN)
    weights = ops.softmax(scores)
    if mask is not None and blind_gets_zero:
        weights = ops.where(mask, weights, 0.0)
    return weights, drop(weights)


class _Projection(Layer):
    """x w + b, with w (D, *shape) and the last axis of x (..., D) replaced by `shape`; or, with
    `axes` 2, the last two axes of x by one.
    """

    supports_masking = None  # the attention hands masks on

    def __init__(self, shape, options, axes=1, **kwargs):
        super().__init__(**kwargs)
        self.shape, self.axes, self.options = tuple(shape), axes, options

    def build(self, input_shape):
        kernel, bias = self.options
        self._describe_weight("kernel", *kernel)
        self.kernel = self._add_described("kernel", (*input_shape[-self.axes :], *self.shape))
        if bias:
            self._describe_weight("bias", *bias)
            self.bias = self._add_described("bias", self.shape)

    def call(self, inputs):
        rows, columns = math.prod(self.kernel.shape[: self.axes]), math.prod(self.shape)
        lead = inputs.shape[: -self.axes]
        w = ops.reshape(self.kernel, (rows, columns))
        y = ops.matmul(ops.reshape(inputs, (*lead, rows)), w)
        if self.options[-1]:
            y = y + ops.reshape(self.bias, (columns,))
        return ops.reshape(y, (*lead, *self.shape))


class MultiHeadAttention(Layer):
    """Attention of `num_heads` heads, each on its own projections of query, key and value.

    Masks of value and key hide their steps; the output has the mask of the query. A query that
    sees nothing, or that ``query_mask=`` names False, gives the bias of the output.

    Inputs may have more than one axis of steps, (batch, T1, T2, features): all of them together
    are the steps then, or those of `attention_axes` alone. Such inputs take no masks.

    Parameters
    ----------
    num_heads : int
    key_dim : int
        Width H of query and key of a head.
    value_dim : int, optional
        Width of the value of a head, by default H.
    dropout : float, default 0
        Of the weights, while training.
    use_bias : bool, default True
    output_shape : int or tuple, optional
        Width of the output, by default that of the query.
    attention_axes : int or tuple of int, optional
        The axes that are attended over, by default all between batch and features.
    sliding_window : int, optional
        A query sees keys fewer steps than this away.
    flash_attention
        Accepted for Keras' sake: blocks are used wherever nobody asks for the weights.
    kernel_initializer : default "glorot_uniform"
    bias_initializer : default "zeros"
    kernel_regularizer, bias_regularizer, activity_regularizer : optional
    kernel_constraint, bias_constraint : optional
    use_gate : bool, default False
        Whether a sigmoid of a projection of the query multiplies what the heads return.
    seed : int, optional
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.MultiHeadAttention(num_heads=2, key_dim=4)
    >>> x = np.ones((3, 5, 8), "float32")
    >>> layer(x, x, use_causal_mask=True).shape
    (3, 5, 8)

    References
    ----------
    Vaswani et al. 2017, "Attention is all you need", https://arxiv.org/abs/1706.03762
    """

    supports_masking = True

    def __init__(
        self,
        num_heads,
        key_dim,
        value_dim=None,
        dropout=0.0,
        use_bias=True,
        output_shape=None,
        attention_axes=None,
        sliding_window=None,
        flash_attention=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        use_gate=False,
        seed=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if not 0 <= dropout < 1:
            raise ValueError(f"{self.name}: expected dropout in 0 <= dropout < 1, got {dropout!r}")
        self.num_heads = spec.check_positive_int(self.name, "num_heads", num_heads)
        self.key_dim = spec.check_positive_int(self.name, "key_dim", key_dim)
        self.value_dim = spec.check_positive_int(self.name, "value_dim", value_dim or key_dim)
        self.dropout, self.use_bias, self.seed = dropout, bool(use_bias), seed
        self.use_gate, self.sliding_window = bool(use_gate), sliding_window
        if sliding_window is not None:
            spec.check_positive_int(self.name, "sliding_window", sliding_window)
        self.output_shape = output_shape
        if isinstance(attention_axes, int):
            attention_axes = (attention_axes,)
        self.attention_axes = attention_axes and tuple(attention_axes)
        self._describe_weight("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        self._describe_weight("bias", bias_initializer, bias_regularizer, bias_constraint)
        self.seed_generator = random.SeedGenerator(seed) if dropout else None

    @property
    def key_heads(self):
        """Heads of keys and values."""
        return self.num_heads

    def _projected(self, query, key, value):
        """(batch, steps, heads, width) of each."""
        return (
            self.query_dense(self._as_float(query)),
            self.key_dense(self._as_float(key)),
            self.value_dense(self._as_float(value)),
        )

    def _projection(self, name, shape, axes=1):
        kernel = (self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint)
        bias = (self.bias_initializer, self.bias_regularizer, self.bias_constraint)
        options = (kernel, bias if self.use_bias else None)
        return _Projection(shape, options, axes, name=name, dtype=self.dtype_policy)

    def build(self, input_shape):
        heads = self.key_heads
        self.query_dense = self._projection("query", (self.num_heads, self.key_dim))
        self.key_dense = self._projection("key", (heads, self.key_dim))
        if self.use_gate:
            self.gate_dense = self._projection("gate", (self.num_heads, self.value_dim))
        self.value_dense = self._projection("value", (heads, self.value_dim))
        out = input_shape[-1] if self.output_shape is None else self.output_shape
        out = out if isinstance(out, (tuple, list)) else (out,)
        self.output_dense = self._projection("attention_output", out, axes=2)

    def call(
        self,
        query,
        value=None,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
    ):
        value = query if value is None else value
        hidden = mask_of(value) if value_mask is None else value_mask
        if key is not None:
            hidden = _both(hidden, mask_of(key) if key_mask is None else key_mask)
        key = value if key is None else key
        if len(query.shape) > 3 and len(query.shape) == len(value.shape) == len(key.shape):
            masks = (query_mask, hidden, attention_mask)
            if use_causal_mask or any(m is not None for m in masks):
                raise ValueError(
                    f"{self.name}: expected no masks with inputs of {len(query.shape)} axes"
                )
            return self._over_axes((query, value, key), return_attention_scores, training)
        _check_rank(self.name, query, value, key)
        mask = None if hidden is None else ops.expand_dims(ops.cast(hidden, "bool"), 1)
        if attention_mask is not None:
            mask = _both(mask, ops.cast(attention_mask, "bool"))
        if mask is not None and len(mask.shape) == 3:
            mask = ops.expand_dims(mask, 1)
        if self.sliding_window is not None:
            steps = np.arange(query.shape[1])[:, None] - np.arange(key.shape[1])
            mask = _both(mask, np.abs(steps)[None, None] < self.sliding_window)
        q, k, v = self._projected(query, key, value)
        weights = None
        if return_attention_scores:
            y, weights = self._with_weights(q, k, v, mask, training, use_causal_mask)
        elif training and self.dropout:
            counter, stream = self.seed_generator.next()
            dropout = 1.0 - self.dropout, self.seed_generator.seed, stream
            y = dropped_attention(q, k, v, None, mask, counter, use_causal_mask, dropout)
        else:
            y = ops.dot_product_attention(q, k, v, mask=mask, is_causal=use_causal_mask)
        if query_mask is not None:
            kept = ops.reshape(ops.cast(query_mask, "bool"), (*y.shape[:2], 1, 1))
            y = ops.where(kept, y, 0.0)
        if self.use_gate:
            y = y * ops.sigmoid(self.gate_dense(self._as_float(query)))
        y = self.output_dense(y)
        return (y, weights) if return_attention_scores else y

    def compute_output_shape(self, query_shape, value_shape=None, key_shape=None):
        """Shape of the output for the shapes of the inputs."""
        out = query_shape[-1] if self.output_shape is None else self.output_shape
        return (*query_shape[:-1], *(out if isinstance(out, (tuple, list)) else (out,)))

    def _over_axes(self, sequences, with_scores, training):
        """Attention over some axes: they become one axis of steps, the others the batch."""
        rank = len(sequences[0].shape)
        axes = [a % rank for a in self.attention_axes or range(1, rank - 1)]
        rest = [a for a in range(rank - 1) if a not in axes]
        order = (*rest, *axes, rank - 1)

        def sizes(x, axes):
            return tuple(x.shape[a] for a in axes)

        def flat(x):
            shape = math.prod(sizes(x, rest)), math.prod(sizes(x, axes)), x.shape[-1]
            return ops.reshape(ops.transpose(x, order), shape)

        y = self.call(*map(flat, sequences), return_attention_scores=with_scores, training=training)
        y, scores = y if with_scores else (y, None)
        query, _, key = sequences
        width = y.shape[2:]
        y = ops.reshape(y, (*sizes(query, rest), *sizes(query, axes), *width))
        back = [order.index(a) for a in range(rank - 1)]
        y = ops.transpose(y, (*back, *range(rank - 1, rank - 1 + len(width))))
        if not with_scores:
            return y
        steps = (*sizes(query, axes), *sizes(key, axes))
        return y, ops.reshape(scores, (*sizes(query, rest), self.num_heads, *steps))

    def _with_weights(self, q, k, v, mask, training, causal):
        """The same through the whole T x S matrix of weights, which is returned too."""
        q, k, v = (ops.transpose(x, (0, 2, 1, 3)) for x in (q, k, v))
        if causal:
            mask = _both(mask, _causal(q.shape[2], k.shape[2]))
        scores = ops.matmul(q, ops.swapaxes(k, -1, -2)) * (1.0 / math.sqrt(self.key_dim))
        weights, dropped = _weights(scores, mask, self._drop(training), blind_gets_zero=True)
        return ops.transpose(ops.matmul(dropped, v), (0, 2, 1, 3)), weights

    def _drop(self, training):
        if not training or not self.dropout:
            return lambda x: x
        return lambda x: random.dropout(x, self.dropout, seed=self.seed_generator)
