"""Categories as numbers, and numbers as categories.

CategoryEncoding   y[n, c] = 1, or how often, where class c is in x[n]
Discretization     y = how many boundaries x reaches
"""

import numpy as np

from dlcore import ops
from dlcore.layers.base import Layer
from dlcore.layers.embedding import TakesIds
from dlcore.ops.op import to_tensor
from dlcore.program import dtypes

_MODES = ("int", "one_hot", "multi_hot", "count", "tf_idf")


def _set_mode(layer, mode, known, sparse):
    """Keep `output_mode`, one of the known, and `sparse`, which must be False."""
    if mode not in known:
        raise ValueError(f"{layer.name}: expected output_mode in {known}, got {mode!r}")
    if sparse:
        raise ValueError(f"{layer.name}: expected sparse=False, got {sparse!r}")
    layer.output_mode, layer.sparse = mode, False


def _encoded(ids, mode, depth, dtype, weights=None):
    """Ids as one-hot rows, or counted along their last axis."""
    if mode == "one_hot":
        ids = ops.squeeze(ids, -1) if len(ids.shape) > 1 and ids.shape[-1] == 1 else ids
        return ops.one_hot(ids, depth, dtype=dtype)
    ids = ids if ids.shape else ops.reshape(ids, (1,))
    hot = ops.one_hot(ids, depth, dtype=dtype)
    if weights is not None:
        hot = hot * ops.expand_dims(ops.cast(weights, dtype), -1)
    return ops.max(hot, axis=-2) if mode == "multi_hot" else ops.sum(hot, axis=-2)


class CategoryEncoding(TakesIds):
    """Classes as rows with a column for each.

    Parameters
    ----------
    num_tokens : int
        Number of classes.
    output_mode : {"multi_hot", "one_hot", "count"}
        Which classes are in a row; the class of every entry; how often classes are in a row.
    sparse : bool
        Accepted for Keras' sake, where it must be False.
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> dlcore.layers.CategoryEncoding(4, "count")(np.array([[0, 1], [2, 2]])).tolist()
    [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]]
    """

    def __init__(self, num_tokens=None, output_mode="multi_hot", sparse=False, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(num_tokens, (int, np.integer)) or num_tokens < 1:
            raise ValueError(f"{self.name}: expected num_tokens above 0, got {num_tokens!r}")
        mode = "multi_hot" if output_mode == "binary" else output_mode
        _set_mode(self, mode, ("multi_hot", "one_hot", "count"), sparse)
        self.num_tokens, self.autocast = int(num_tokens), False

    def check_values(self, inputs):
        if inputs.size and not (inputs.min() >= 0 and inputs.max() < self.num_tokens):
            bad = inputs[(inputs < 0) | (inputs >= self.num_tokens)].flat[0]
            raise ValueError(
                f"{self.name}: expected classes in 0..{self.num_tokens - 1}, got {bad}"
            )

    def call(self, inputs, count_weights=None):
        if count_weights is not None and self.output_mode != "count":
            raise ValueError(
                f"{self.name}: expected count_weights for output_mode 'count' only,"
                f" got {self.output_mode!r}"
            )
        self._note(to_tensor(inputs))
        ids = ops.cast(inputs, "int32")
        return _encoded(ids, self.output_mode, self.num_tokens, self.compute_dtype, count_weights)


class Discretization(Layer):
    """The number of the bin that a value lies in.

    Parameters
    ----------
    bin_boundaries : list of float, optional
        Bin 0 lies below the first, bin i from boundary i - 1 on.
    num_bins : int, optional
        Instead, `adapt` finds boundaries that part the data into so many bins of equal size.
    epsilon : float, default 0.01
        How exactly `adapt` does: it looks at about 1 / epsilon of the sorted values.
    output_mode : {"int", "one_hot", "multi_hot", "count"}
        The numbers, or rows as those of `CategoryEncoding`.
    sparse : bool
        Accepted for Keras' sake, where it must be False.
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.Discretization(bin_boundaries=[0.0, 1.0, 2.0])
    >>> layer(np.array([[-1.5, 1.0], [3.4, 0.5]])).tolist()
    [[0, 2], [3, 1]]
    """

    def __init__(
        self, bin_boundaries=None, num_bins=None, epsilon=0.01, output_mode="int", sparse=False,
        **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        _set_mode(self, output_mode, _MODES[:4], sparse)
        if (bin_boundaries is None) == (num_bins is None):
            raise ValueError(f"{self.name}: expected either bin_boundaries or num_bins, got "
                             + ("none" if num_bins is None else "both"))  # fmt: skip
        if num_bins is not None and not num_bins > 0:
            raise ValueError(f"{self.name}: expected num_bins above 0, got {num_bins!r}")
        self.num_bins, self.epsilon = num_bins, epsilon
        self.bin_boundaries = None
        if bin_boundaries is not None:
            self.bin_boundaries = [float(b) for b in bin_boundaries]

    def adapt(self, data, steps=None):
        """Find the boundaries between `num_bins` parts of the data of equal size.

        Parameters
        ----------
        data : array_like, or a source of batches
        steps : int, optional
            Most batches.
        """
        from dlcore.data.batches import Stream, is_batches, unpack

        if self.num_bins is None:
            raise ValueError(f"{self.name}: expected num_bins for adapt(), got bin_boundaries")
        if is_batches(data):
            batches = Stream(self.name, data).epoch(steps)
            data = np.concatenate([np.ravel(unpack(self.name, b)[0]) for b in batches])
        values = np.sort(np.asarray(data, np.float32), axis=None)
        if not values.size:
            raise ValueError(f"{self.name}: expected data of at least one value, got none")
        step = max(values.size * self.epsilon, 1.0)
        looked_at = values[int(step - 1) :: int(step)]
        shares = (np.arange(looked_at.size) + 1) / looked_at.size
        at = np.arange(1, self.num_bins) / self.num_bins
        self.bin_boundaries = np.interp(at, shares, looked_at).tolist()

    def call(self, inputs):
        if self.bin_boundaries is None:
            raise ValueError(f"{self.name}: expected boundaries; call adapt(data) first")
        x = self._as_float(inputs)
        limits = np.asarray(self.bin_boundaries, dtypes.array_type(str(x.dtype)))
        reached = ops.greater_equal(ops.expand_dims(x, -1), limits)
        ids = ops.sum(ops.cast(reached, "int32"), axis=-1)
        if self.output_mode == "int":
            return ids
        return _encoded(ids, self.output_mode, limits.size + 1, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "bin_boundaries": self.bin_boundaries}

    @classmethod
    def from_config(cls, config):
        boundaries = config.get("bin_boundaries")
        if config.get("num_bins") is None:
            return cls(**config)
        layer = cls(**{**config, "bin_boundaries": None})
        layer.bin_boundaries = boundaries
        return layer
