"""LSTM whose products are convolutions: x and the states are images.

    i, f, g, o = split(conv(x, w) + b + conv(h, u));  c' = s(f) c + s(i) a(g);  h' = s(o) a(c')

The convolution of x is one for all steps; that of h keeps its size. Shi et al. 2015,
https://arxiv.org/abs/1506.04214
"""

from dlcore import ops, random
from dlcore.layers import recurrent_cells as cells
from dlcore.layers.recurrent import _Recurrent
from dlcore.ops.spatial import check_data_format, check_padding, check_sizes


class _ConvLSTMCell(cells.LSTMCell):
    """One step of `ConvLSTM2D` and kin, on images (N, H.., C)."""

    def __init__(
        self, rank, filters, kernel_size, strides, padding, data_format, dilation_rate, **given
    ):
        super().__init__(filters, **given)
        self.rank, self.filters = rank, self.units
        self.kernel_size = check_sizes(self.name, "kernel_size", kernel_size, rank)
        self.strides = check_sizes(self.name, "strides", strides, rank)
        self.padding = check_padding(self.name, padding, rank, ("valid", "same"))
        self.data_format = check_data_format(self.name, data_format)
        self.dilation_rate = check_sizes(self.name, "dilation_rate", dilation_rate, rank)

    def build(self, input_shape):
        first = self.data_format == "channels_first"
        channels = input_shape[1 if first else -1]
        sizes = input_shape[2:] if first else input_shape[1:-1]
        if not channels or not all(sizes):
            raise ValueError(
                f"{self.name}: expected known sizes of the images, got {tuple(input_shape)}"
            )
        gates = 4 * self.filters
        self.kernel = self._add_described("kernel", (*self.kernel_size, int(channels), gates))
        shape = (*self.kernel_size, self.filters, gates)
        self.recurrent_kernel = self._add_described("recurrent", shape, "recurrent_kernel")
        self.bias = None
        if self.use_bias:
            self.bias = self._add_described("bias", (gates,), initializer=self._first_bias)
        self._sizes = self._reduced(sizes)

    def _reduced(self, sizes):
        """Sizes of the states."""
        strides = zip(sizes, self.strides, strict=True)
        if self.padding == "same":
            return tuple(-(-n // s) for n, s in strides)
        spans = [(k - 1) * d for k, d in zip(self.kernel_size, self.dilation_rate, strict=True)]
        return tuple((n - span - 1) // s + 1 for (n, s), span in zip(strides, spans, strict=True))

    def get_initial_state(self, batch_size=None):
        """Zeros for h and c."""
        shape = self._shown((batch_size, *self._sizes, self.filters))
        return [ops.zeros(shape, self.compute_dtype) for _ in range(2)]

    def _shown(self, shape):
        """A shape (N, H.., C) in the layout of the layer."""
        return (shape[0], shape[-1], *shape[1:-1]) if self._first() else shape

    def _first(self):
        return self.data_format == "channels_first"

    def sequence(self, x, states, mask, training, backwards):
        steps, rows = x.shape[1], x.shape[0]
        x = ops.moveaxis(x, 2, -1) if self._first() else x
        h, c = (ops.moveaxis(s, 1, -1) if self._first() else s for s in states)
        if training and self.dropout:
            one = (rows, 1, *x.shape[2:])
            x = random.dropout(x, self.dropout, one, self.seed_generator)
        drop = None
        if training and self.recurrent_dropout:
            ones = ops.ones(h.shape, self.compute_dtype)
            drop = random.dropout(ones, self.recurrent_dropout, None, self.seed_generator)
        z = self._conv(ops.reshape(x, (rows * steps, *x.shape[2:])), self.kernel, True)
        z = ops.reshape(z if self.bias is None else z + self.bias, (rows, steps, *z.shape[1:]))
        ys = []
        for t in range(steps)[:: -1 if backwards else 1]:
            new = self._step(z[:, t], h if drop is None else h * drop, c)
            if mask is not None:
                keep = ops.reshape(mask[:, t], (rows, *(1,) * (len(h.shape) - 1)))
                new = [ops.where(keep, a, b) for a, b in zip(new, (h, c), strict=True)]
            h, c = new
            ys.append(h)
        y, last = ops.stack(ys, axis=1), [h, c]
        if self._first():
            y, last = ops.moveaxis(y, -1, 2), [ops.moveaxis(s, -1, 1) for s in last]
        return y, last

    def _conv(self, x, w, of_input=False):
        how = (self.strides, self.padding) if of_input else (1, "same")
        rate = self.dilation_rate if of_input else 1
        return ops.conv(x, w, *how, data_format="channels_last", dilation_rate=rate)

    def _step(self, z, h, c):
        z = z + self._conv(h, self.recurrent_kernel)
        i, f, g, o = ops.split(z, 4, axis=-1)
        s, a = self.recurrent_activation, self.activation
        c = s(f) * c + s(i) * a(g)
        return s(o) * a(c), c


class ConvLSTM2D(_Recurrent):
    """Long short-term memory over sequences of images, by convolutions.

    Parameters
    ----------
    filters : int
        Channels F of the states.
    kernel_size : int or tuple of int
        Of both convolutions.
    strides, padding, data_format, dilation_rate
        Of that of the input; see `Conv2D`.
    activation : str or callable, default "tanh"
    recurrent_activation : str or callable, default "sigmoid"
    dropout, recurrent_dropout : float, 0 <= rate < 1
        Of the input and of h, one mask for all steps.
    use_bias, ..., **kwargs
        See `LSTM`. w (R.., C, 4 F), u (R.., F, 4 F), b (4 F).

    References
    ----------
    Shi et al. 2015, https://arxiv.org/abs/1506.04214

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.ConvLSTM2D(4, 3, padding="same", return_sequences=True)
    >>> layer(np.zeros((2, 5, 8, 8, 3), "float32")).shape
    (2, 5, 8, 8, 4)
    """

    rank = 2

    def __init__(
        self, filters, kernel_size, strides=1, padding="valid", data_format=None, dilation_rate=1,
        activation="tanh", recurrent_activation="sigmoid", use_bias=True,
        kernel_initializer="glorot_uniform", recurrent_initializer="orthogonal",
        bias_initializer="zeros", unit_forget_bias=True, kernel_regularizer=None,
        recurrent_regularizer=None, bias_regularizer=None, activity_regularizer=None,
        kernel_constraint=None, recurrent_constraint=None, bias_constraint=None, dropout=0.0,
        recurrent_dropout=0.0, seed=None, return_sequences=False, return_state=False,
        go_backwards=False, stateful=False, unroll=False, **kwargs,
    ):  # fmt: skip
        given = {"rank": self.rank, **cells._given(locals())}
        self._ndim = 3 + self.rank
        super().__init__(_ConvLSTMCell, given, **kwargs)


class ConvLSTM1D(ConvLSTM2D):
    """The same over sequences of sequences (batch, steps, length, channels); see `ConvLSTM2D`."""

    rank = 1


class ConvLSTM3D(ConvLSTM2D):
    """The same over sequences of volumes; see `ConvLSTM2D`."""

    rank = 3
