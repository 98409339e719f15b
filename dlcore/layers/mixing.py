"""Layers that mix the images of a batch at random while training; see augmentation.py."""

import numpy as np

from dlcore import ops, random
from dlcore.layers.augmentation import _RandomImages, _range
from dlcore.ops import spatial
from dlcore.program.dtypes import is_float


class MixUp(_RandomImages):
    """While training, blends each image with another one of the batch, and their labels alike.

    The share of the first is drawn from Beta(alpha, alpha) for each image; the second lies a random
    number of rows further on, as rows are in random order already. Called with a dictionary of
    "images" and "labels" (one-hot or values), it blends both.

    Parameters
    ----------
    alpha : float, positive
    data_format : {"channels_last", "channels_first"}, optional
    seed : int, optional
    **kwargs
        See `Layer`.

    References
    ----------
    Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", https://arxiv.org/abs/1710.09412

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> batch = {"images": np.zeros((4, 8, 8, 1), "float32"), "labels": np.eye(4, dtype="float32")}
    >>> mixed = dlcore.layers.MixUp(seed=1)(batch, training=True)
    >>> mixed["labels"].sum(axis=1).round(6).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """

    def __init__(self, alpha=0.2, data_format=None, seed=None, **kwargs):
        super().__init__(seed, data_format, **kwargs)
        if not isinstance(alpha, (int, float)) or not alpha > 0:
            raise ValueError(f"{self.name}: expected a positive alpha, got {alpha!r}")
        self.alpha = alpha

    def call(self, inputs, training=True):
        alone = not isinstance(inputs, dict)
        batch = {"images": inputs} if alone else dict(inputs)
        x = batch["images"]
        if training and x.shape[0] > 1:
            n = x.shape[0]
            share = random.beta((n,), self.alpha, self.alpha, self.dtype, self.seed_generator)
            partner = self._partners(n)
            for key in ("images", "labels"):
                if key in batch:
                    batch[key] = self._blend(batch[key], share, partner)
        return batch["images"] if alone else batch

    def _partners(self, n):
        shift = random.randint((1,), 1, n, "int32", self.seed_generator)
        return ops.mod(np.arange(n, dtype="int32") + shift, n)

    def _blend(self, x, share, partner):
        if not is_float(x.dtype) and x.ndim < 2:
            raise ValueError(
                f"{self.name}: expected labels as one-hot rows, got {x.dtype} {x.shape}"
            )
        x = self._as_float(x)
        share = ops.reshape(share, (x.shape[0],) + (1,) * (x.ndim - 1))
        return share * x + (1.0 - share) * ops.take(x, partner, axis=0)


class CutMix(MixUp):
    """While training, puts a window of another image of the batch into each image, and blends their
    labels by the areas; see `MixUp` for how it is called.

    Parameters
    ----------
    factor : float or (float, float), in 0..1
        From which alpha is drawn; the share of the area that stays is drawn from
        Beta(alpha, alpha) for each image.
    seed : int, optional
    data_format : {"channels_last", "channels_first"}, optional
    **kwargs
        See `Layer`.

    References
    ----------
    Yun et al. 2019, https://arxiv.org/abs/1905.04899
    """

    def __init__(self, factor=1.0, seed=None, data_format=None, **kwargs):
        super(MixUp, self).__init__(seed, data_format, **kwargs)  # there is no alpha
        self.factor, self._factor = factor, _range(self.name, "factor", factor, 0, 1, False)

    def call(self, inputs, training=True):
        alone = not isinstance(inputs, dict)
        batch = {"images": inputs} if alone else dict(inputs)
        x = self._as_float(batch["images"])
        if training and len(x.shape) == 4 and x.shape[0] > 1:
            partner = self._partners(x.shape[0])
            inside, share = self._windows(spatial.channels_last(x, self.data_format).shape)
            inside = spatial.from_channels_last(inside, self.data_format)
            batch["images"] = ops.where(inside, ops.take(x, partner, axis=0), x)
            if "labels" in batch:
                batch["labels"] = self._blend(batch["labels"], share, partner)
        return batch["images"] if alone else batch

    def _windows(self, shape):
        """(whether a pixel is in the window of its image, share of the pixels outside)."""
        n, h, w, _ = shape
        side = ops.sqrt(1.0 - self._shares(n))
        inside, share = True, 1.0
        for size, axis in ((h, 1), (w, 2)):
            length = side * size
            start = self._uniform((n, 1, 1, 1)) * (size - length)
            at = np.arange(size, dtype=self.dtype)
            at = at.reshape((1, -1, 1, 1) if axis == 1 else (1, 1, -1, 1))
            within = ops.logical_and(at >= start, at < start + length)
            inside, share = ops.logical_and(inside, within), share * (length / size)
        return inside, ops.reshape(1.0 - share, (n,))

    def _shares(self, n):
        """(n, 1, 1, 1) from Beta(a, a), a uniform (Johnk 1964: u^(1 / a) and v^(1 / a) whose sum
        is at most 1; of 20 pairs one is so but for 1e-6)."""
        alpha = self._uniform((), *self._factor) + 1e-6
        u, v = (ops.log(self._uniform((20, n), 1e-30, 1.0)) / alpha for _ in range(2))
        first = ops.argmax(ops.cast(ops.logaddexp(u, v) <= 0.0, "int32"), axis=0)
        chosen = ops.take_along_axis(ops.sigmoid(u - v), ops.expand_dims(first, 0), axis=0)
        return ops.reshape(chosen, (n, 1, 1, 1))
