"""Vectors for token ids and for places in a sequence.

Embedding                 y[n, t] = w[x[n, t]]                    x (N, T)  w (V, D)  y (N, T, D)
PositionEmbedding         y[n, t] = w[t]                          x (N, T, D)  w (most T, D)
SinePositionEncoding      y[t, 2i] = sin(t r^i), y[t, 2i + 1] = cos(t r^i), r = wavelength^(-2 / D)
"""

import numpy as np

from dlcore import initializers, ops
from dlcore.layers import spec
from dlcore.layers.base import Layer
from dlcore.ops.op import OPS, to_tensor
from dlcore.program.graph import current_trace, input_position


def check_ids(name, ids, vocabulary):
    """Refuse token ids outside 0..vocabulary - 1 in a concrete array."""
    if ids.size and not (ids.min() >= 0 and ids.max() < vocabulary):
        where = np.argwhere(~((ids >= 0) & (ids < vocabulary)))[0]
        raise ValueError(
            f"{name}: expected token ids in 0..{vocabulary - 1} (input_dim={vocabulary}),"
            f" got {ids[tuple(where)]} at {tuple(map(int, where))}"
        )


class TakesIds(Layer):
    """Token ids are checked by `check_values` where they are inputs of what is traced."""

    def _note(self, ids):
        position = input_position(ids)
        if position is not None:
            current_trace().checks.append((position, self.check_values))


class Embedding(TakesIds):
    """A trainable vector for every token id.

    Ids are checked where arrays enter: when the layer is called on an array, and when it takes an
    input of a model or of a function under `dlcore.function`. Ids outside the vocabulary that are
    computed inside give zeros.

    Parameters
    ----------
    input_dim : int
        Size V of the vocabulary: the largest id + 1.
    output_dim : int
        Width D of the vectors.
    embeddings_initializer : default "uniform"
    embeddings_regularizer : optional
    embeddings_constraint : optional
    mask_zero : bool, default False
        Whether id 0 is padding, which later layers skip; see `Masking`.
    weights : array (V, D), optional
        First values of the vectors.
    **kwargs
        See `Layer`. `input_length` is accepted and not needed.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.Embedding(3, 2, weights=[[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]])
    >>> layer(np.array([[2, 1]]))
    array([[[3., 4.],
            [1., 2.]]], dtype=float32)
    """

    _further_arguments = ("input_length",)

    def __init__(
        self,
        input_dim,
        output_dim,
        embeddings_initializer="uniform",
        embeddings_regularizer=None,
        embeddings_constraint=None,
        mask_zero=False,
        weights=None,
        **kwargs,
    ):
        kwargs.pop("input_length", None)
        super().__init__(**kwargs)
        self.input_dim = spec.check_positive_int(self.name, "input_dim", input_dim)
        self.output_dim = spec.check_positive_int(self.name, "output_dim", output_dim)
        self._describe_weight(
            "embeddings", embeddings_initializer, embeddings_regularizer, embeddings_constraint
        )
        self.mask_zero = self.supports_masking = bool(mask_zero)
        self.autocast = False
        if weights is not None:
            self.build((None,))
            weights = np.asarray(weights)
            self.set_weights([weights[0] if weights.ndim == 3 else weights])

    def build(self, input_shape):
        if self.built:
            return
        self.embeddings = self._add_described("embeddings", (self.input_dim, self.output_dim))

    def check_values(self, inputs):
        check_ids(self.name, inputs, self.input_dim)

    def compute_mask(self, inputs, mask=None):
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def call(self, inputs):
        ids = to_tensor(inputs)
        self._note(ids)
        ids = ids if ids.dtype in ("int32", "int64") else ops.cast(ids, "int32")
        rows = OPS["gather"](to_tensor(self.embeddings), ops.ravel(ids))
        return ops.cast(ops.reshape(rows, (*ids.shape, self.output_dim)), self.compute_dtype)

    def get_config(self):
        config = super().get_config()
        config.pop("weights", None)
        return config


class ReversibleEmbedding(Embedding):
    """An embedding that also leads back: ``layer(x, reverse=True)`` gives a score for every token
    id, x . w[id], by the same vectors.

    Parameters
    ----------
    input_dim, output_dim
        See `Embedding`.
    tie_weights : bool, default True
        Otherwise the way back has a trainable matrix (D, V) of its own.
    embeddings_initializer, embeddings_regularizer, embeddings_constraint, mask_zero
        See `Embedding`.
    reverse_dtype : str, optional
        In which type the scores are computed; by default that of the layer.
    logit_soft_cap : float, optional
        Scores become cap tanh(score / cap).
    **kwargs
        See `Layer`.

    References
    ----------
    Press and Wolf 2017, https://arxiv.org/abs/1608.05859

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.ReversibleEmbedding(3, 2, weights=[[0.0, 0], [1, 2], [3, 4]])
    >>> layer(np.array([[1.0, 0.5]], "float32"), reverse=True).tolist()
    [[0.0, 2.0, 5.0]]
    """

    def __init__(
        self, input_dim, output_dim, tie_weights=True, embeddings_initializer="uniform",
        embeddings_regularizer=None, embeddings_constraint=None, mask_zero=False,
        reverse_dtype=None, logit_soft_cap=None, **kwargs,
    ):  # fmt: skip
        self.tie_weights, self.reverse_dtype = tie_weights, reverse_dtype
        self.logit_soft_cap = logit_soft_cap
        super().__init__(
            input_dim, output_dim, embeddings_initializer, embeddings_regularizer,
            embeddings_constraint, mask_zero, **kwargs,
        )  # fmt: skip

    def build(self, input_shape):
        if self.built:
            return
        super().build(input_shape)
        if not self.tie_weights:
            self.reverse_embeddings = self.add_weight(
                (self.output_dim, self.input_dim),
                self.embeddings_initializer,
                name="reverse_embeddings",
            )

    def compute_mask(self, inputs, mask=None):
        whole = inputs.dtype in ("int32", "int64", "uint8")
        return super().compute_mask(inputs, mask) if whole else mask

    def call(self, inputs, reverse=False):
        if not reverse:
            return super().call(inputs)
        x, dtype = to_tensor(inputs), self.reverse_dtype or self.compute_dtype
        w = ops.transpose(self.embeddings) if self.tie_weights else self.reverse_embeddings
        scores = ops.matmul(ops.cast(x, dtype), ops.cast(w, dtype))
        cap = self.logit_soft_cap
        return scores if cap is None else ops.tanh(scores / cap) * cap


class PositionEmbedding(Layer):
    """A trainable vector for every place in a sequence, to be added to what stands there.

    Parameters
    ----------
    sequence_length : int
        The longest sequence.
    initializer : default "glorot_uniform"
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.PositionEmbedding(8, initializer="ones")
    >>> layer(np.zeros((2, 5, 3), "float32")).shape
    (2, 5, 3)
    """

    supports_masking = True

    def __init__(self, sequence_length, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.sequence_length = spec.check_positive_int(
            self.name, "sequence_length", sequence_length
        )
        self.initializer = initializers.get(initializer)

    def build(self, input_shape):
        self.position_embeddings = self.add_weight(
            (self.sequence_length, int(input_shape[-1])), self.initializer, name="embeddings"
        )

    def call(self, inputs, start_index=0):
        shape = _sequence_shape(self.name, inputs)
        start, stop = start_index, start_index + shape[-2]
        if start < 0 or stop > self.sequence_length:
            raise ValueError(
                f"{self.name}: expected places in 0..{self.sequence_length - 1}"
                f" (sequence_length={self.sequence_length}), got {start}..{stop - 1}"
            )
        rows = to_tensor(self.position_embeddings)[start:stop]
        return ops.broadcast_to(rows, shape)


class SinePositionEncoding(Layer):
    """Sines and cosines of every place in a sequence, to be added to what stands there.

    Parameters
    ----------
    max_wavelength : float, default 10000
    **kwargs
        See `Layer`.

    References
    ----------
    Vaswani et al. 2017, "Attention is all you need", section 3.5, https://arxiv.org/abs/1706.03762
    """

    supports_masking = True

    def __init__(self, max_wavelength=10000, **kwargs):
        super().__init__(**kwargs)
        if not max_wavelength > 0:
            raise ValueError(f"{self.name}: expected max_wavelength > 0, got {max_wavelength!r}")
        self.max_wavelength = max_wavelength

    def call(self, inputs, start_index=0):
        shape = _sequence_shape(self.name, inputs)
        length, width = shape[-2:]
        i = np.arange(width)
        rate = float(self.max_wavelength) ** (-2.0 * (i // 2) / width)
        angle = np.arange(start_index, start_index + length)[:, None] * rate
        table = np.where(i % 2 == 0, np.sin(angle), np.cos(angle))
        return ops.broadcast_to(table.astype(inputs.dtype), shape)


class TokenAndPositionEmbedding(Layer):
    """The sum of an `Embedding` of the tokens and a `PositionEmbedding`.

    Parameters
    ----------
    vocabulary_size : int
    sequence_length : int
        The longest sequence.
    embedding_dim : int
    embeddings_initializer : default "uniform"
    embeddings_regularizer : optional
    mask_zero : bool, default False
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> dlcore.layers.TokenAndPositionEmbedding(10, 8, 4)(np.array([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    def __init__(
        self,
        vocabulary_size,
        sequence_length,
        embedding_dim,
        embeddings_initializer="uniform",
        embeddings_regularizer=None,
        embeddings_constraint=None,
        mask_zero=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.token_embedding = Embedding(
            vocabulary_size,
            embedding_dim,
            embeddings_initializer,
            embeddings_regularizer,
            embeddings_constraint,
            mask_zero,
            dtype=self.dtype_policy,
        )
        self.position_embedding = PositionEmbedding(
            sequence_length, embeddings_initializer, dtype=self.dtype_policy
        )
        self.autocast, self.supports_masking = False, bool(mask_zero)

    def compute_mask(self, inputs, mask=None):
        return self.token_embedding.compute_mask(inputs)

    def call(self, inputs, start_index=0):
        tokens = self.token_embedding(inputs)
        return tokens + self.position_embedding(tokens, start_index=start_index)


def _sequence_shape(name, x):
    shape = tuple(x.shape)
    if len(shape) < 2:
        raise ValueError(f"{name}: expected input (batch, steps, features), got {shape}")
    return shape
