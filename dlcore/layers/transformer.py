"""Blocks of transformers: attention and two dense layers, each with a way around it.

    h = x + attention(norm(x))        y = h + dense(activation(dense(norm(h))))

with the normalization before each part (normalize_first), or after each sum.
"""

from dlcore import activations, initializers
from dlcore.layers import spec
from dlcore.layers.attention import MultiHeadAttention
from dlcore.layers.base import Layer
from dlcore.layers.core import Dense, Dropout
from dlcore.layers.masks import mask_of
from dlcore.layers.normalization import LayerNormalization


class _Block(Layer):
    """What encoder and decoder share."""

    supports_masking = True

    def __init__(
        self,
        intermediate_dim,
        num_heads,
        dropout=0.0,
        activation="relu",
        layer_norm_epsilon=1e-05,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        normalize_first=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.intermediate_dim = spec.check_positive_int(
            self.name, "intermediate_dim", intermediate_dim
        )
        self.num_heads = spec.check_positive_int(self.name, "num_heads", num_heads)
        self.dropout, self.layer_norm_epsilon = dropout, layer_norm_epsilon
        self.activation = activations.get(activation)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.normalize_first = bool(normalize_first)

    def _attention(self, width, name):
        if width % self.num_heads:
            raise ValueError(
                f"{self.name}: expected a width that {self.num_heads} heads divide, got {width}"
            )
        return MultiHeadAttention(
            self.num_heads,
            width // self.num_heads,
            dropout=self.dropout,
            kernel_initializer=self.kernel_initializer,
            bias_initializer=self.bias_initializer,
            name=name,
            dtype=self.dtype_policy,
        )

    def _dense(self, units, activation=None):
        return Dense(
            units,
            activation,
            kernel_initializer=self.kernel_initializer,
            bias_initializer=self.bias_initializer,
            dtype=self.dtype_policy,
        )

    def _norm(self):
        return LayerNormalization(epsilon=self.layer_norm_epsilon, dtype=self.dtype_policy)

    def build(self, input_shape):
        if len(input_shape) != 3:
            raise ValueError(
                f"{self.name}: expected input (batch, steps, features), got {tuple(input_shape)}"
            )
        width = int(input_shape[-1])
        self.self_attention = self._attention(width, "self_attention")
        self.self_attention_norm = self._norm()
        self.feedforward_intermediate = self._dense(self.intermediate_dim, self.activation)
        self.feedforward_output = self._dense(width)
        self.feedforward_norm = self._norm()
        self.drop = Dropout(self.dropout)

    def _around(self, x, norm, part):
        """x + part(x), normalized before or after."""
        y = x + self.drop(part(norm(x) if self.normalize_first else x))
        return y if self.normalize_first else norm(y)

    def _feed_forward(self, x):
        return self.feedforward_output(self.feedforward_intermediate(x))


class TransformerEncoder(_Block):
    """Every step looks at all steps, then passes through two dense layers.

    Parameters
    ----------
    intermediate_dim : int
        Width of the first dense layer.
    num_heads : int
        A divisor of the width of the input.
    dropout : float, default 0
    activation : default "relu"
    layer_norm_epsilon : float, default 1e-5
    kernel_initializer : default "glorot_uniform"
    bias_initializer : default "zeros"
    normalize_first : bool, default False
        Whether each part normalizes its input rather than the sum behind it.
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> dlcore.layers.TransformerEncoder(16, num_heads=2)(np.ones((3, 5, 8), "float32")).shape
    (3, 5, 8)
    """

    def call(self, inputs, padding_mask=None, attention_mask=None):
        """inputs (batch, T, D), padding_mask (batch, T), attention_mask (batch, T, T)."""
        hidden = mask_of(inputs) if padding_mask is None else padding_mask
        y = self._around(
            inputs,
            self.self_attention_norm,
            lambda x: self.self_attention(x, x, value_mask=hidden, attention_mask=attention_mask),
        )
        return self._around(y, self.feedforward_norm, self._feed_forward)


class TransformerDecoder(_Block):
    """Every step looks at the steps up to itself, then, where there is one, at an encoded
    sequence, and passes through two dense layers.

    Parameters
    ----------
    intermediate_dim, num_heads, dropout, activation, layer_norm_epsilon, kernel_initializer
        See `TransformerEncoder`.
    bias_initializer, normalize_first, **kwargs
        See `TransformerEncoder`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.TransformerDecoder(16, num_heads=2)
    >>> layer(np.ones((3, 5, 8), "float32"), np.ones((3, 4, 6), "float32")).shape
    (3, 5, 8)
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.cross_attention = self._attention(int(input_shape[-1]), "cross_attention")
        self.cross_attention_norm = self._norm()

    def call(
        self,
        decoder_sequence,
        encoder_sequence=None,
        decoder_padding_mask=None,
        decoder_attention_mask=None,
        encoder_padding_mask=None,
        encoder_attention_mask=None,
        use_causal_mask=True,
    ):
        """decoder_sequence (batch, T, D), encoder_sequence (batch, S, E) or None."""
        hidden = decoder_padding_mask
        hidden = mask_of(decoder_sequence) if hidden is None else hidden
        y = self._around(
            decoder_sequence,
            self.self_attention_norm,
            lambda x: self.self_attention(
                x,
                x,
                value_mask=hidden,
                attention_mask=decoder_attention_mask,
                use_causal_mask=use_causal_mask,
            ),
        )
        if encoder_sequence is not None:
            seen = encoder_padding_mask
            seen = mask_of(encoder_sequence) if seen is None else seen
            y = self._around(
                y,
                self.cross_attention_norm,
                lambda x: self.cross_attention(
                    x, encoder_sequence, value_mask=seen, attention_mask=encoder_attention_mask
                ),
            )
        return self._around(y, self.feedforward_norm, self._feed_forward)
