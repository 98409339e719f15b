"""Attention whose queries have more heads than its keys and values."""

from dlcore import ops
from dlcore.layers import spec
from dlcore.layers.attention import MultiHeadAttention


class GroupQueryAttention(MultiHeadAttention):
    """Attention in which groups of query heads share a head of keys and values.

    Parameters
    ----------
    head_dim : int
        Width of a head.
    num_query_heads, num_key_value_heads : int
        The second divides the first.
    dropout, use_bias, sliding_window, ..., **kwargs
        See `MultiHeadAttention`.

    References
    ----------
    Ainslie et al. 2023, https://arxiv.org/abs/2305.13245

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.GroupQueryAttention(8, num_query_heads=4, num_key_value_heads=2)
    >>> layer(np.zeros((1, 5, 6), "float32"), np.zeros((1, 7, 6), "float32")).shape
    (1, 5, 6)
    """

    def __init__(
        self, head_dim, num_query_heads, num_key_value_heads, dropout=0.0, use_bias=True,
        sliding_window=None, flash_attention=None, kernel_initializer="glorot_uniform",
        bias_initializer="zeros", kernel_regularizer=None, bias_regularizer=None,
        activity_regularizer=None, kernel_constraint=None, bias_constraint=None, use_gate=False,
        seed=None, **kwargs,
    ):  # fmt: skip
        super().__init__(
            num_query_heads, head_dim, None, dropout, use_bias, None, None, sliding_window,
            flash_attention, kernel_initializer, bias_initializer, kernel_regularizer,
            bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint, use_gate,
            seed, **kwargs,
        )  # fmt: skip
        self.head_dim, self.num_query_heads = self.key_dim, self.num_heads
        heads = spec.check_positive_int(self.name, "num_key_value_heads", num_key_value_heads)
        if num_query_heads % heads:
            raise ValueError(
                f"{self.name}: expected num_key_value_heads that divide {num_query_heads} query"
                f" heads, got {heads}"
            )
        self.num_key_value_heads = heads

    @property
    def key_heads(self):
        return self.num_key_value_heads

    def _with_weights(self, q, k, v, *args):
        times = self.num_heads // self.key_heads
        k, v = (ops.repeat(x, times, axis=2) for x in (k, v))
        return super()._with_weights(q, k, v, *args)

    def get_config(self):
        own = ("num_heads", "key_dim", "value_dim", "output_shape", "attention_axes")
        return {k: v for k, v in super().get_config().items() if k not in own}
