"""Muon: the updates of matrices are made orthogonal; all else is Adam's."""

import math
import re

from dlcore import ops
from dlcore.optimizers.adam import Adam


class Muon(Adam):
    """m <- b m + g, w <- w - a rms_rate sqrt(max(w.shape)) orthogonal(g + b m).

    orthogonal(x) is about u v^T of the singular value decomposition x = u s v^T: x / |x| after
    `ns_steps` times x <- muon_a x + (muon_b y + muon_c y^2) x, y = x x^T. Variables that are not
    matrices, embeddings and `exclude_layers` are updated as by `AdamW`.

    Parameters
    ----------
    learning_rate : float, schedule or callable, default 0.001
    adam_beta_1, adam_beta_2, epsilon : float, default 0.9, 0.999, 1e-7
        Of Adam.
    adam_weight_decay, weight_decay : float >= 0, default 0.004
        Of Adam's variables, and of the others.
    exclude_layers : list of str, optional
        Patterns (regular expressions) of paths whose variables are Adam's.
    exclude_embeddings : bool, default True
        Whether "embedding" in a path means so.
    muon_a, muon_b, muon_c : float, default 3.4445, -4.775, 2.0315
    adam_lr_ratio : float, default 1
        Adam's learning rate is so many times the other.
    momentum : float, default 0.95
        b.
    ns_steps : int, default 5
    nesterov : bool, default True
        Otherwise m takes the place of g + b m.
    rms_rate : float or None, default 0.2
        None leaves that factor and the root out.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; the factor:
    Liu et al. 2025, https://arxiv.org/abs/2502.16982
    """

    def __init__(
        self, learning_rate=0.001, adam_beta_1=0.9, adam_beta_2=0.999, adam_weight_decay=0.004,
        epsilon=1e-7, weight_decay=0.004, exclude_layers=None, exclude_embeddings=True,
        muon_a=3.4445, muon_b=-4.775, muon_c=2.0315, adam_lr_ratio=1, momentum=0.95, ns_steps=5,
        nesterov=True, rms_rate=0.2, **kwargs,
    ):  # fmt: skip
        super().__init__(
            learning_rate, adam_beta_1, adam_beta_2, epsilon, weight_decay=weight_decay, **kwargs
        )
        self.adam_beta_1, self.adam_beta_2 = adam_beta_1, adam_beta_2
        self.adam_weight_decay, self.adam_lr_ratio = adam_weight_decay, adam_lr_ratio
        self.exclude_layers = list(exclude_layers or ())
        self.exclude_embeddings = exclude_embeddings
        self.muon_a, self.muon_b, self.muon_c = muon_a, muon_b, muon_c
        self.momentum, self.nesterov = momentum, nesterov
        self.ns_steps, self.rms_rate = ns_steps, rms_rate

    def get_config(self):
        config = super().get_config()
        return {k: v for k, v in config.items() if k not in ("beta_1", "beta_2", "amsgrad")}

    def is_adams(self, variable):
        """Whether a variable is updated as by `AdamW`."""
        path = variable.path
        return (
            len(variable.shape) != 2
            or (self.exclude_embeddings and "embedding" in path.lower())
            or any(re.search(pattern, path) for pattern in self.exclude_layers)
        )

    def has_slot(self, name, variable):
        return name != "velocity" or self.is_adams(variable)

    def weight_decay_of(self, variable):
        return self.adam_weight_decay if self.is_adams(variable) else self.weight_decay

    def step_scalars(self, learning_rate):
        return (*super().step_scalars(learning_rate * self.adam_lr_ratio), learning_rate)

    def update_step(self, gradient, variable, alpha, learning_rate):
        g, w = gradient, variable
        if self.is_adams(w):
            super().update_step(g, w, alpha)
            return
        slot = self.slot("momentum", w)
        m = self.momentum * slot + g
        slot.assign(m)
        scale = 1.0 if self.rms_rate is None else self.rms_rate * math.sqrt(max(w.shape))
        x = self._orthogonal(g + self.momentum * m if self.nesterov else m)
        w.assign_sub(learning_rate * scale * x)

    def _orthogonal(self, x):
        flip = x.shape[0] > x.shape[1]  # the smaller of the two products
        x = ops.transpose(x) if flip else x
        x = x / (ops.norm(x) + 1e-7)
        for _ in range(self.ns_steps):
            y = ops.matmul(x, ops.transpose(x))
            z = self.muon_b * y + self.muon_c * ops.matmul(y, y)
            x = self.muon_a * x + ops.matmul(z, x)
        return ops.transpose(x) if flip else x
