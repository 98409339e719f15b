"""Layers that subtract a mean and divide by a standard deviation: y = (x - mean) inv gamma + beta.

BatchNormalization   moments of a channel over the batch while training, moving ones afterwards
GroupNormalization   moments of some channels of one image (instance norm: of one channel)
LayerNormalization   moments of the last axes of one row
RMSNormalization     the same without a mean and beta
UnitNormalization    y = x / ||x||
"""

from dlcore import initializers, ops
from dlcore.layers.base import Layer
from dlcore.ops.normalization import normalize_channels


class _OnAxes(Layer):
    """Knows the sizes of some axes of its input."""

    supports_masking = True
    _casts_weights = False

    def _build_on(self, input_shape, axes):
        self._axes, self._sizes = self._check_axes(input_shape, axes)
        self._ndim = len(input_shape)

    def _check_axes(self, shape, axes):
        """`axes` as non-negative ints, and the sizes of `shape` there."""
        ndim, values = len(shape), axes if isinstance(axes, (tuple, list)) else (axes,)
        bad = [a for a in values if not isinstance(a, int) or not -ndim <= a < ndim or a % ndim < 1]
        if bad or not values:
            raise ValueError(
                f"{self.name}: expected axis of 1..{ndim - 1} for input {tuple(shape)}, got {axes}"
            )
        axes = tuple(sorted(a % ndim for a in values))
        sizes = tuple(shape[a] for a in axes)
        if not all(sizes):
            raise ValueError(
                f"{self.name}: expected known sizes on axis {axes}, got input {tuple(shape)}"
            )
        return axes, sizes

    def _check_input(self, shape):
        """Refuse inputs of other sizes than the layer was built for."""
        found = tuple(shape[a] for a in self._axes) if len(shape) == self._ndim else None
        if found != self._sizes:
            raise ValueError(
                f"{self.name}: expected input of {self._ndim} axes with {self._sizes} on axis "
                f"{self._axes}, got {tuple(shape)}"
            )


class _Affine(_OnAxes):
    """Has gamma and beta."""

    def _set_affine(self, center, scale, gamma, beta):
        """`gamma`, `beta`: their initializer, regularizer and constraint."""
        self.center, self.scale = bool(center), bool(scale)
        self.gamma = self.beta = None
        self._describe_weight("gamma", *gamma)
        self._describe_weight("beta", *beta)

    def _add_affine(self, shape):
        if self.scale:
            self.gamma = self._add_described("gamma", shape)
        if self.center:
            self.beta = self._add_described("beta", shape)


class BatchNormalization(_Affine):
    """Normalizes each channel by its mean and variance over the batch.

    While training those are of the batch, and moving averages follow them:
    moving = momentum moving + (1 - momentum) batch. Otherwise, and where `trainable` is False, the
    moving averages are used.

    Parameters
    ----------
    axis : int, default -1
        Of the channels: 1 for "channels_first".
    momentum : float, default 0.99
    epsilon : float, default 1e-3
        Added to the variance.
    center, scale : bool, default True
        Whether there is a beta, a gamma.
    beta_initializer : default "zeros"
    gamma_initializer : default "ones"
    moving_mean_initializer : default "zeros"
    moving_variance_initializer : default "ones"
    beta_regularizer, gamma_regularizer : optional
    beta_constraint, gamma_constraint : optional
    synchronized : bool
        Accepted for Keras' sake; must be False.
    **kwargs
        See `Layer`.

    References
    ----------
    Ioffe and Szegedy 2015, "Batch Normalization", https://arxiv.org/abs/1502.03167

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.BatchNormalization(epsilon=0.0)
    >>> layer(np.array([[1.0], [3.0]], "float32"), training=True)
    array([[-1.],
           [ 1.]], dtype=float32)
    """

    def __init__(
        self,
        axis=-1,
        momentum=0.99,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        moving_mean_initializer="zeros",
        moving_variance_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        synchronized=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if synchronized:
            raise ValueError(f"{self.name}: expected synchronized=False, got {synchronized!r}")
        if not 0 <= momentum <= 1:
            raise ValueError(f"{self.name}: expected momentum between 0 and 1, got {momentum!r}")
        self.axis, self.momentum, self.epsilon = axis, float(momentum), float(epsilon)
        self._set_affine(
            center,
            scale,
            (gamma_initializer, gamma_regularizer, gamma_constraint),
            (beta_initializer, beta_regularizer, beta_constraint),
        )
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)

    def build(self, input_shape):
        self._build_on(input_shape, self.axis)
        self._add_affine(self._sizes)
        self.moving_mean = self.add_weight(
            self._sizes, self.moving_mean_initializer, trainable=False, name="moving_mean"
        )
        self.moving_variance = self.add_weight(
            self._sizes, self.moving_variance_initializer, trainable=False, name="moving_variance"
        )

    def call(self, inputs, training=None, mask=None):
        self._check_input(inputs.shape)
        x, axis = self._as_float(inputs), self._axes[0]
        if not (training and self.trainable):
            return ops.batch_normalization(
                x, self.moving_mean, self.moving_variance, axis, self.beta, self.gamma, self.epsilon
            )
        if mask is None:
            y, mean, variance = normalize_channels(
                self.name, x, self.gamma, self.beta, axis, self.epsilon
            )
        else:
            mean, variance = self._masked_moments(x, mask, axis)
            y = ops.batch_normalization(
                x, mean, variance, axis, self.beta, self.gamma, self.epsilon
            )
        self._follow(self.moving_mean, mean)
        self._follow(self.moving_variance, variance)
        return y

    def _masked_moments(self, x, mask, axis):
        """Mean and variance over what the mask (batch, ...) lets count."""
        others = [a for a in range(len(x.shape)) if a != axis % len(x.shape)]
        weight = ops.reshape(mask, (*mask.shape, *(1,) * (len(x.shape) - len(mask.shape))))
        weight = ops.broadcast_to(ops.cast(weight, x.dtype), x.shape)
        count = ops.maximum(ops.sum(weight, others, keepdims=True), 1.0)
        mean = ops.sum(x * weight, others, keepdims=True) / count
        variance = ops.sum(ops.square(x - mean) * weight, others, keepdims=True) / count
        return ops.reshape(mean, self._sizes), ops.reshape(variance, self._sizes)

    def _follow(self, moving, batch):
        batch = ops.reshape(batch, self._sizes)
        moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))


class GroupNormalization(_Affine):
    """Normalizes groups of channels of each image by their mean and variance.

    Parameters
    ----------
    groups : int, default 32
        Number of groups, which divides the channels; -1: one for each channel (instance
        normalization).
    axis : int, default -1
        Of the channels.
    epsilon : float, default 1e-3
    center, scale : bool, default True
    beta_initializer : default "zeros"
    gamma_initializer : default "ones"
    beta_regularizer, gamma_regularizer : optional
    beta_constraint, gamma_constraint : optional
    **kwargs
        See `Layer`.

    References
    ----------
    Wu and He 2018, "Group Normalization", https://arxiv.org/abs/1803.08494
    """

    def __init__(
        self,
        groups=32,
        axis=-1,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.groups, self.axis, self.epsilon = groups, axis, float(epsilon)
        self._set_affine(
            center,
            scale,
            (gamma_initializer, gamma_regularizer, gamma_constraint),
            (beta_initializer, beta_regularizer, beta_constraint),
        )

    def build(self, input_shape):
        self._build_on(input_shape, self.axis)
        channels = self._sizes[0]
        groups = channels if self.groups == -1 else self.groups
        if not isinstance(groups, int) or groups < 1 or channels % groups:
            raise ValueError(
                f"{self.name}: expected groups that divide {channels} channels, got {self.groups!r}"
            )
        self._groups = groups
        self._add_affine(self._sizes)

    def call(self, inputs):
        self._check_input(inputs.shape)
        x, axis = self._as_float(inputs), self._axes[0]
        return normalize_channels(
            self.name, x, self.gamma, self.beta, axis, self.epsilon, self._groups
        )[0]


class LayerNormalization(_Affine):
    """Normalizes each row by its mean and variance over `axis`.

    Parameters
    ----------
    axis : int or tuple of int, default -1
    epsilon : float, default 1e-3
    center, scale : bool, default True
    beta_initializer : default "zeros"
    gamma_initializer : default "ones"
    beta_regularizer, gamma_regularizer : optional
    beta_constraint, gamma_constraint : optional
    **kwargs
        See `Layer`.

    References
    ----------
    Ba et al. 2016, "Layer Normalization", https://arxiv.org/abs/1607.06450
    """

    def __init__(
        self,
        axis=-1,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.axis, self.epsilon = axis, float(epsilon)
        self._set_affine(
            center,
            scale,
            (gamma_initializer, gamma_regularizer, gamma_constraint),
            (beta_initializer, beta_regularizer, beta_constraint),
        )

    def build(self, input_shape):
        self._build_on(input_shape, self.axis)
        self._add_affine(self._sizes)

    def call(self, inputs):
        self._check_input(inputs.shape)
        x = self._as_float(inputs)
        return ops.layer_normalization(x, self.gamma, self.beta, self._axes, self.epsilon)


class RMSNormalization(_OnAxes):
    """Divides each row by the root of its mean square over `axis`: y = x / rms(x) scale.

    Parameters
    ----------
    axis : int, default -1
    epsilon : float, default 1e-6
        Added to the mean square.
    **kwargs
        See `Layer`.

    References
    ----------
    Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467
    """

    def __init__(self, axis=-1, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.axis, self.epsilon = axis, float(epsilon)

    def build(self, input_shape):
        self._build_on(input_shape, self.axis)
        self.scale = self.add_weight(self._sizes, "ones", name="scale")

    def call(self, inputs):
        self._check_input(inputs.shape)
        return ops.rms_normalization(self._as_float(inputs), self.scale, self._axes, self.epsilon)


class UnitNormalization(Layer):
    """Divides each row by its Euclidean norm over `axis`.

    Parameters
    ----------
    axis : int or tuple of int, default -1
    **kwargs
        See `Layer`.
    """

    supports_masking = True

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs):
        return ops.normalize(self._as_float(inputs), self.axis, epsilon=1e-12)
