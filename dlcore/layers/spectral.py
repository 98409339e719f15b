"""Weights of a bounded slope: w <- w / sigma with the largest singular value sigma of w.

u, v come closer to its singular vectors at every call: v = u w^T / |..|, u = v w / |..|,
sigma = v w u^T.
"""

from dlcore import ops
from dlcore.initializers import TruncatedNormal
from dlcore.layers import spec
from dlcore.layers.masking import Wrapper


class SpectralNormalization(Wrapper):
    """A layer whose kernel (or embeddings) is divided by its largest singular value while training.

    Parameters
    ----------
    layer : Layer
        Any with a `kernel` or `embeddings`.
    power_iterations : int, default 1
        Steps towards the singular vectors at each call.
    **kwargs
        See `Layer`.

    References
    ----------
    Miyato et al. 2018, https://arxiv.org/abs/1802.05957

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> inner = dlcore.layers.Dense(2, kernel_initializer="ones")
    >>> layer = dlcore.layers.SpectralNormalization(inner, power_iterations=3)
    >>> y = layer(np.ones((1, 2), "float32"), training=True)
    >>> inner.kernel.numpy().round(3).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """

    def __init__(self, layer, power_iterations=1, **kwargs):
        super().__init__(layer, **kwargs)
        self.power_iterations = spec.check_positive_int(
            self.name, "power_iterations", power_iterations
        )

    def build(self, input_shape=None):
        super().build(input_shape)
        self.kernel = getattr(self.layer, "kernel", getattr(self.layer, "embeddings", None))
        if self.kernel is None:
            raise ValueError(
                f"{self.name}: expected a layer with kernel or embeddings, got {self.layer!r}"
            )
        self._weights = [self.kernel]  # comes first, as in Keras
        shape = (1, self.kernel.shape[-1])
        self.vector_u = self.add_weight(
            shape, TruncatedNormal(stddev=0.02), self.kernel.dtype, trainable=False, name="vector_u"
        )

    def call(self, inputs, training=False):
        if training:
            u, kernel = self._normalized()
            zero = ops.all(ops.equal(self.kernel.value, 0.0))
            self.vector_u.assign(ops.where(zero, self.vector_u.value, u))
            self.kernel.assign(ops.where(zero, self.kernel.value, kernel))
        return self.layer(inputs)

    def _normalized(self):
        """The next u, and the kernel over sigma."""
        w = ops.reshape(self.kernel.value, (-1, self.kernel.shape[-1]))
        u = self.vector_u.value
        for _ in range(self.power_iterations):
            v = ops.normalize(ops.matmul(u, ops.transpose(w)), axis=-1)
            u = ops.normalize(ops.matmul(v, w), axis=-1)
        sigma = ops.matmul(ops.matmul(v, w), ops.transpose(u))
        return u, self.kernel.value / ops.reshape(sigma, ())
