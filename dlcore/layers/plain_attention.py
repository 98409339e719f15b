"""Attention without projections; see attention.py.

Attention            y = softmax(q k^T) v
AdditiveAttention    the same with the scores w . tanh(q + k)
"""

from dlcore import ops, random
from dlcore.layers.attention import _both, _causal, _check_rank, _weights
from dlcore.layers.base import Layer


class Attention(Layer):
    """Attention of a list [query, value] or [query, value, key], without projections.

    Parameters
    ----------
    use_scale : bool, default False
        Whether a trainable factor multiplies the scores.
    score_mode : {"dot", "concat"}
        q . k, or the sum of tanh(q + k) over the features, times a trainable factor.
    dropout : float, default 0
    seed : int, optional
    **kwargs
        See `Layer`.

    References
    ----------
    Luong et al. 2015, https://arxiv.org/abs/1508.04025
    """

    supports_masking = True

    def __init__(self, use_scale=False, score_mode="dot", dropout=0.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        if score_mode not in ("dot", "concat"):
            raise ValueError(
                f"{self.name}: expected score_mode 'dot' or 'concat', got {score_mode!r}"
            )
        self.use_scale, self.score_mode, self.dropout = use_scale, score_mode, dropout
        self.seed = seed
        self.seed_generator = random.SeedGenerator(seed) if dropout else None

    def build(self, input_shape):
        self.scale = self.concat_score_weight = None
        if self.use_scale:
            self.scale = self.add_weight((), "ones", name="scale")
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight((), "ones", name="concat_score_weight")

    def compute_mask(self, inputs, mask=None):
        return mask[0] if mask is not None else None

    def _scores(self, q, k):
        if self.score_mode == "dot":
            scores = ops.matmul(q, ops.swapaxes(k, 1, 2))
            return scores if self.scale is None else scores * self.scale
        x = ops.expand_dims(q, 2) + ops.expand_dims(k, 1)
        x = x if self.scale is None else x * self.scale
        return self.concat_score_weight * ops.sum(ops.tanh(x), -1)

    def call(
        self,
        inputs,
        mask=None,
        training=False,
        return_attention_scores=False,
        use_causal_mask=False,
    ):
        if not isinstance(inputs, (list, tuple)) or len(inputs) not in (2, 3):
            raise ValueError(f"{self.name}: expected a list [query, value] or [query, value, key]")
        q, v, k = (self._as_float(x) for x in (*inputs, inputs[1])[:3])
        _check_rank(self.name, q, v, k)
        q_mask, v_mask = (None, None) if mask is None else mask[:2]
        seen = None if v_mask is None else ops.expand_dims(ops.cast(v_mask, "bool"), 1)
        if use_causal_mask:
            seen = _both(seen, _causal(q.shape[1], k.shape[1]))
        drop = training and self.dropout
        weights, dropped = _weights(
            self._scores(q, k),
            seen,
            lambda x: random.dropout(x, self.dropout, seed=self.seed_generator) if drop else x,
        )
        y = ops.matmul(dropped, v)
        if q_mask is not None:
            y = y * ops.cast(ops.expand_dims(q_mask, -1), y.dtype)
        return (y, weights) if return_attention_scores else y


class AdditiveAttention(Attention):
    """Attention whose scores are w . tanh(q + k), with a trainable w; see `Attention`.

    Parameters
    ----------
    use_scale : bool, default True
        Whether there is w; it is all ones else.
    dropout : float, default 0
    **kwargs
        See `Layer`.

    References
    ----------
    Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473
    """

    def __init__(self, use_scale=True, dropout=0.0, **kwargs):
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    def build(self, input_shape):
        self.scale = None
        if self.use_scale:
            self.scale = self.add_weight((input_shape[0][-1],), "glorot_uniform", name="scale")

    def _scores(self, q, k):
        x = ops.tanh(ops.expand_dims(q, 2) + ops.expand_dims(k, 1))
        return ops.sum(x if self.scale is None else x * self.scale, -1)
