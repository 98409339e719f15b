"""Update rules that save memory or give sparse weights; symbols: rules.py.

All take weight_decay, clipnorm, clipvalue, global_clipnorm and name as `Optimizer` does.
"""

from dlcore import ops
from dlcore.optimizers.optimizer import Optimizer, check_share


class Lion(Optimizer):
    """w <- w - a sign(b1 m + (1 - b1) g), then m <- b2 m + (1 - b2) g.

    One array of state per variable, and steps of one size: rates are 3 to 10 times smaller than
    Adam's, weight decays as many times larger.

    Parameters
    ----------
    learning_rate : float, schedule or callable, default 0.001
    beta_1, beta_2 : float, 0 < beta_1 <= 1, 0 <= beta_2 < 1, default 0.9, 0.99

    Source: Chen et al. 2023, https://arxiv.org/abs/2302.06675
    """

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.99, **kwargs):
        super().__init__(learning_rate, **kwargs)
        if not 0 < beta_1 <= 1:
            raise ValueError(f"{self.name}: expected 0 < beta_1 <= 1, got {beta_1!r}")
        check_share(self.name, beta_2=beta_2)
        self.beta_1, self.beta_2 = beta_1, beta_2

    def slot_names(self):
        return ("momentum",)

    def update_step(self, gradient, variable, learning_rate):
        g, w, slot = gradient, variable, self.slot("momentum", variable)
        direction = ops.sign(self.beta_1 * slot + (1.0 - self.beta_1) * g)
        w.assign_sub(learning_rate * direction)
        slot.assign(self.beta_2 * slot + (1.0 - self.beta_2) * g)


class Adafactor(Optimizer):
    """w <- w - alpha u / max(1, rms(u) / clip_threshold) with u = g / sqrt(v).

    Of a matrix only the means of v over rows and columns are kept, r and c:
    v = r c / mean(r), with r, c, v <- b x + (1 - b) (g^2 + epsilon_1) and b = 1 - t^beta_2_decay.
    alpha = max(epsilon_2, rms(w)) min(a, 1 / sqrt(t)).

    Parameters
    ----------
    learning_rate : float, schedule or callable, default 0.001
    beta_2_decay : float, default -0.8
    epsilon_1, epsilon_2 : float, default 1e-30, 1e-3
    clip_threshold : float, default 1.0
    relative_step : bool, default True
        Accepted for Keras' sake: the rate never exceeds 1 / sqrt(t), as there.

    Source: Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235
    """

    def __init__(
        self, learning_rate=0.001, beta_2_decay=-0.8, epsilon_1=1e-30, epsilon_2=1e-3,
        clip_threshold=1.0, relative_step=True, **kwargs,
    ):  # fmt: skip
        super().__init__(learning_rate, **kwargs)
        self.beta_2_decay, self.clip_threshold = beta_2_decay, clip_threshold
        self.epsilon_1, self.epsilon_2, self.relative_step = epsilon_1, epsilon_2, relative_step

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self._means = {v: self._means_of(v) for v in self._trainable}

    def _means_of(self, v):
        """State of a variable: one array, or those of rows and of columns."""
        shape = v.shape
        if len(shape) < 2:
            return (self.add_variable(shape, dtype=v.dtype, name=f"{v.name}_velocity"),)
        return (
            self.add_variable(shape[:-1], dtype=v.dtype, name=f"{v.name}_rows"),
            self.add_variable((*shape[:-2], shape[-1]), dtype=v.dtype, name=f"{v.name}_columns"),
        )

    def step_scalars(self, learning_rate):
        t = self._step()
        return ops.minimum(learning_rate, 1.0 / ops.sqrt(t)), ops.power(t, self.beta_2_decay)

    def update_step(self, gradient, variable, rate, share):
        g, w, kept = gradient, variable, self._means[variable]
        square = ops.square(g) + self.epsilon_1
        if len(kept) == 1:
            v = _moved(kept[0], square, share)
        else:
            r = _moved(kept[0], ops.mean(square, axis=-1), share)
            c = _moved(kept[1], ops.mean(square, axis=-2), share)
            r = r / ops.mean(r, axis=-1, keepdims=True)
            v = ops.expand_dims(r, -1) * ops.expand_dims(c, -2)
        u = g / ops.sqrt(v)
        alpha = ops.maximum(self.epsilon_2, _rms(w)) * rate
        w.assign_sub(alpha * u / ops.maximum(1.0, _rms(u) / self.clip_threshold))


def _moved(slot, value, share):
    """slot <- (1 - share) slot + share value; the new value."""
    new = slot + share * (value - slot)
    slot.assign(new)
    return new


def _rms(x):
    return ops.sqrt(ops.mean(ops.square(x)))


class Ftrl(Optimizer):
    """Follows the regularized leader: l1 makes weights exactly 0.

    n' = n + g^2; z <- z + g + 2 l2s w - (n'^-p - n^-p) / a w; n <- n';
    w <- (clip(z, -l1, l1) - z) / (n^-p / a + 2 l2 + beta / a).

    Parameters
    ----------
    learning_rate : float, schedule or callable, default 0.001
    learning_rate_power : float <= 0, default -0.5
        p above.
    initial_accumulator_value : float >= 0, default 0.1
        First value of n.
    l1_regularization_strength, l2_regularization_strength : float >= 0, default 0
    l2_shrinkage_regularization_strength : float >= 0, default 0
        l2s above.
    beta : float, default 0

    Source: McMahan et al. 2013, https://research.google.com/pubs/archive/41159.pdf
    """

    def __init__(
        self, learning_rate=0.001, learning_rate_power=-0.5, initial_accumulator_value=0.1,
        l1_regularization_strength=0.0, l2_regularization_strength=0.0,
        l2_shrinkage_regularization_strength=0.0, beta=0.0, **kwargs,
    ):  # fmt: skip
        super().__init__(learning_rate, **kwargs)
        positive = {
            "initial_accumulator_value": initial_accumulator_value,
            "l1_regularization_strength": l1_regularization_strength,
            "l2_regularization_strength": l2_regularization_strength,
            "l2_shrinkage_regularization_strength": l2_shrinkage_regularization_strength,
        }
        for key, value in positive.items():
            if not value >= 0:
                raise ValueError(f"{self.name}: expected {key} >= 0, got {value!r}")
        if not learning_rate_power <= 0:
            raise ValueError(
                f"{self.name}: expected learning_rate_power <= 0, got {learning_rate_power!r}"
            )
        vars(self).update(positive, learning_rate_power=learning_rate_power, beta=beta)

    def slot_names(self):
        return ("accumulator", "linear")

    def slot_value(self, name):
        return float(self.initial_accumulator_value) if name == "accumulator" else 0.0

    def update_step(self, gradient, variable, learning_rate):
        g, w, power = gradient, variable, -self.learning_rate_power
        n_slot, z_slot = self.slot("accumulator", w), self.slot("linear", w)
        n = n_slot + ops.square(g)
        root = ops.power(n, power)
        pull = (root - ops.power(n_slot, power)) / learning_rate
        z = z_slot + g + (2.0 * self.l2_shrinkage_regularization_strength - pull) * w
        l1, l2 = self.l1_regularization_strength, self.l2_regularization_strength
        w.assign((ops.clip(z, -l1, l1) - z) / ((root + self.beta) / learning_rate + 2.0 * l2))
        n_slot.assign(n)
        z_slot.assign(z)
