"""Layers that prepare data, in training and inference alike."""

import numpy as np

from dlcore import config, ops
from dlcore.layers import spec
from dlcore.layers.base import Layer
from dlcore.layers.images import ImageLayer, resized
from dlcore.ops import resizing
from dlcore.program import dtypes


class Rescaling(Layer):
    """y = x scale + offset.

    Parameters
    ----------
    scale, offset : float, or sequence of a float per channel
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> dlcore.layers.Rescaling(1 / 128, offset=-1)(np.array([[0, 192]], "uint8")).tolist()
    [[-1.0, 0.5]]
    """

    supports_masking = True

    def __init__(self, scale, offset=0.0, **kwargs):
        super().__init__(**kwargs)
        self.scale, self.offset = scale, offset
        for what, value in (("scale", scale), ("offset", offset)):
            try:
                np.asarray(value, float)
            except (TypeError, ValueError):
                raise ValueError(
                    f"{self.name}: expected {what} as numbers, got {value!r}"
                ) from None

    def call(self, inputs):
        return self._as_float(inputs) * self._number(self.scale) + self._number(self.offset)

    def _number(self, value):
        return float(value) if np.ndim(value) == 0 else np.asarray(value, self.dtype)


class Normalization(Layer):
    """y = (x - mean) / sqrt(variance), with the mean and variance of the data given to `adapt`.

    Parameters
    ----------
    axis : int, tuple of int or None
        Axes with a mean and a variance for each index; None has one for all.
    mean, variance : float or array_like, optional
        Given in place of `adapt`.
    invert : bool
        Whether to undo the normalization instead: y = x sqrt(variance) + mean.
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.Normalization()
    >>> layer.adapt(np.array([[1.0, 10.0], [3.0, 30.0]], "float32"))
    >>> layer(np.array([[1.0, 30.0]], "float32")).tolist()
    [[-1.0, 1.0]]
    """

    _casts_weights = False

    def __init__(self, axis=-1, mean=None, variance=None, invert=False, **kwargs):
        super().__init__(**kwargs)
        if (mean is None) != (variance is None):
            raise ValueError(
                f"{self.name}: expected both mean and variance or none, "
                f"got mean={mean!r} and variance={variance!r}"
            )
        self.axis, self.invert = axis, invert
        self._fixed = None if mean is None else (mean, variance)

    @property
    def mean(self):
        """What is subtracted, in a shape that broadcasts to a batch; None before it is known."""
        return self._moments()[0] if self.built else None

    @property
    def variance(self):
        return self._moments()[1] if self.built else None

    def _moments(self):
        shape = tuple(1 if n is None else n for n in self._shape)
        if self._fixed is None:
            return ops.reshape(self._mean, shape), ops.reshape(self._variance, shape)
        return tuple(self._given_number(v, shape) for v in self._fixed)

    def build(self, input_shape):
        rank = len(input_shape)
        axes = () if self.axis is None else self.axis
        axes = axes if isinstance(axes, (tuple, list)) else (axes,)
        if any(not -rank <= a < rank or a % rank == 0 for a in axes):
            raise ValueError(
                f"{self.name}: expected axis within {tuple(input_shape)} after the batch,"
                f" got {self.axis!r}"
            )
        self._kept = tuple(sorted(a % rank for a in axes))
        self._shape = tuple(n if a in self._kept else 1 for a, n in enumerate(input_shape))
        if self._fixed is None:
            shape = tuple(input_shape[a] for a in self._kept)
            kwargs = {"trainable": False}
            self._mean = self.add_weight(shape, "zeros", name="mean", **kwargs)
            self._variance = self.add_weight(shape, "ones", name="variance", **kwargs)
            self._count = self.add_weight((), "zeros", "int64", name="count", **kwargs)

    def adapt(self, data, batch_size=None, steps=None):
        """Take the mean and variance of `data`.

        Parameters
        ----------
        data : array_like, or a source of batches
            Of batches (x, y) the y is left out.
        batch_size : int, optional
            Rows that are looked at together; does not change the result.
        steps : int, optional
            Most batches.
        """
        if self._fixed is not None:
            raise ValueError(f"{self.name}: expected no adapt() after mean and variance were given")
        count, mean, spread = 0, 0.0, 0.0
        for x in self._pieces(data, batch_size or 4096, steps):
            if not self.built:
                self.build((None, *x.shape[1:]))
            axes = tuple(a for a in range(x.ndim) if a not in self._kept)
            n = np.prod([x.shape[a] for a in axes])
            new = x.mean(axis=axes)
            # Two sets joined, by Chan, Golub and LeVeque 1979.
            delta, total = new - mean, count + n
            spread = spread + x.var(axis=axes) * n + delta * delta * (count * n / total)
            mean, count = mean + delta * (n / total), total
        if not count:
            raise ValueError(f"{self.name}: expected data of at least one row, got none")
        self._mean.assign(mean)
        self._variance.assign(spread / count)
        self._count.assign(int(count))

    def _pieces(self, data, size, steps):
        """Parts of the data in float64."""
        from dlcore.data.batches import Stream, is_batches, unpack

        if is_batches(data):
            for batch in Stream(self.name, data).epoch(steps):
                yield np.asarray(unpack(self.name, batch)[0], np.float64)
            return
        x = spec.as_array(self.name, data)
        if x.ndim < 2:
            raise ValueError(f"{self.name}: expected data (rows, ...), got shape {x.shape}")
        for start in range(0, len(x) if steps is None else min(len(x), steps * size), size):
            yield x[start : start + size].astype(np.float64)

    def call(self, inputs):
        x = self._as_float(inputs)
        mean, variance = self._moments()
        deviation = ops.maximum(ops.sqrt(variance), config.epsilon())
        return self._as_float(x * deviation + mean if self.invert else (x - mean) / deviation)

    def _given_number(self, value, shape):
        value = np.asarray(value, self.dtype)
        try:
            return np.broadcast_to(value.reshape(shape) if value.ndim == 1 else value, shape)
        except ValueError:
            raise ValueError(
                f"{self.name}: expected mean and variance of shape {shape}, got {value.shape}"
            ) from None


class _Sized(ImageLayer):
    """Base: `transform(x)` makes images (N, height, width, C) of a batch x (N, H, W, C)."""

    def __init__(self, height, width, data_format=None, **kwargs):
        super().__init__(data_format, **kwargs)
        self.height = spec.check_positive_int(self.name, "height", height)
        self.width = spec.check_positive_int(self.name, "width", width)

    def call(self, inputs):
        return self.on_batch(self.transform, self._as_float(inputs))


class CenterCrop(_Sized):
    """The window in the centre; of a smaller image, the largest window of that shape, resized.

    Parameters
    ----------
    height, width : int
        Of the window, in pixels.
    data_format : {"channels_last", "channels_first"}, optional
    **kwargs
        See `Layer`.
    """

    def transform(self, x):
        _, h, w, _ = x.shape
        if h < self.height or w < self.width:
            window = resizing.middle_window(h, w, self.height, self.width)
            return resized(x, self.height, self.width, window)
        top, left = (h - self.height) // 2, (w - self.width) // 2
        return x[:, top : top + self.height, left : left + self.width, :]


class Resizing(_Sized):
    """Images scaled to one size; integers stay integers, rounded.

    Parameters
    ----------
    height, width : int
        Of the result, in pixels.
    interpolation : {"bilinear", "nearest", "bicubic", "lanczos3", "lanczos5"}
    crop_to_aspect_ratio : bool
        Whether to cut off what is too much instead of changing the proportions.
    pad_to_aspect_ratio : bool
        Whether to fill up what is too little instead.
    fill_mode : {"constant"}
    fill_value : float
        What to fill with.
    antialias : bool
        Whether a pixel of a smaller result is the mean of all that it covers.
    data_format : {"channels_last", "channels_first"}, optional
    **kwargs
        See `Layer`.
    """

    def __init__(
        self, height, width, interpolation="bilinear", crop_to_aspect_ratio=False,
        pad_to_aspect_ratio=False, fill_mode="constant", fill_value=0.0, antialias=False,
        data_format=None, **kwargs,
    ):  # fmt: skip
        super().__init__(height, width, data_format, **kwargs)
        how = interpolation, crop_to_aspect_ratio, pad_to_aspect_ratio, fill_mode
        resizing.check_how(self.name, *how)
        self.interpolation, self.antialias = interpolation, antialias
        self.crop_to_aspect_ratio = crop_to_aspect_ratio
        self.pad_to_aspect_ratio = pad_to_aspect_ratio
        self.fill_mode, self.fill_value = fill_mode, float(fill_value)

    def call(self, inputs):
        whole = not dtypes.is_float(str(inputs.dtype))
        return self.on_batch(self.transform, inputs if whole else self._as_float(inputs))

    def transform(self, x):
        return ops.image.resize(
            x, (self.height, self.width), self.interpolation, self.antialias,
            self.crop_to_aspect_ratio, self.pad_to_aspect_ratio, self.fill_mode, self.fill_value,
            data_format="channels_last",
        )  # fmt: skip
