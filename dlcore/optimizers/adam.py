"""Adam and its kin: rules that average gradients and their sizes; symbols: rules.py.

All take weight_decay, clipnorm, clipvalue, global_clipnorm and name as `Optimizer` does.
"""

import numpy as np

from dlcore import ops
from dlcore.optimizers.optimizer import Optimizer, check_share
from dlcore.program.variable import Variable


class TwoAverages(Optimizer):
    """Base of the rules that average gradients and their sizes: m <- m + (g - m)(1 - b1), and with
    b2 as much of g^2."""

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, **kwargs):
        super().__init__(learning_rate, **kwargs)
        check_share(self.name, beta_1=beta_1, beta_2=beta_2)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def slot_names(self):
        return ("momentum", "velocity")

    def averages(self, g, w):
        """m and v after this step's gradient."""
        m_slot, v_slot = self.slot("momentum", w), self.slot("velocity", w)
        m = m_slot + (g - m_slot) * (1.0 - self.beta_1)
        v = v_slot + (ops.square(g) - v_slot) * (1.0 - self.beta_2)
        m_slot.assign(m)
        v_slot.assign(v)
        return m, v


class Adam(TwoAverages):
    """m <- m + (g - m)(1 - b1), v <- v + (g^2 - v)(1 - b2), w <- w - alpha m / (sqrt(v) + epsilon).

    alpha = a sqrt(1 - b2^t) / (1 - b1^t). With AMSGrad the largest v so far divides.

    Parameters
    ----------
    learning_rate : float, schedule or callable, default 0.001
    beta_1, beta_2 : float, 0 <= beta < 1, default 0.9, 0.999
    epsilon : float, default 1e-7
    amsgrad : bool

    Source: Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, the form before section 2.1;
    AMSGrad: Reddi et al. 2018, https://openreview.net/forum?id=ryQu7f-RZ

    Examples
    --------
    >>> w = Variable([1.0, 2.0])
    >>> Adam(0.1).apply([[0.5, -0.25]], [w])
    >>> print(w.numpy().round(3))
    [0.9 2.1]
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        amsgrad=False,
        **kwargs,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **kwargs)
        self.amsgrad = amsgrad

    def slot_names(self):
        return super().slot_names() + (("velocity_hat",) if self.amsgrad else ())

    def step_scalars(self, learning_rate):
        t = self._step()
        correction = ops.sqrt(1.0 - ops.power(self.beta_2, t)) / (1.0 - ops.power(self.beta_1, t))
        return (learning_rate * correction,)

    def update_step(self, gradient, variable, alpha):
        g, w = gradient, variable
        m_slot, v_slot = self.slot("momentum", w), self.slot("velocity", w)
        new_w, m, v = ops.adam_update(
            w, g, m_slot, v_slot, alpha, 1.0 - self.beta_1, 1.0 - self.beta_2, self.epsilon
        )
        m_slot.assign(m)
        v_slot.assign(v)
        if self.amsgrad:
            slot = self.slot("velocity_hat", w)
            largest = ops.maximum(slot, v)
            slot.assign(largest)
            new_w = w - alpha * m / (ops.sqrt(largest) + self.epsilon)
        w.assign(new_w)


class AdamW(Adam):
    """Adam with weight decay apart from the gradient: first w <- w - a weight_decay w.

    Parameters
    ----------
    learning_rate : float, schedule or callable, default 0.001
    weight_decay : float >= 0, default 0.004
    beta_1, beta_2 : float, 0 <= beta < 1, default 0.9, 0.999
    epsilon : float, default 1e-7
    amsgrad : bool

    Source: Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101

    Examples
    --------
    >>> w = Variable([1.0, 2.0])
    >>> AdamW(0.1).apply([[0.5, -0.25]], [w])
    >>> print(w.numpy().round(3))
    [0.9   2.099]
    """

    def __init__(
        self,
        learning_rate=0.001,
        weight_decay=0.004,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        amsgrad=False,
        **kwargs,
    ):
        if weight_decay is None:
            raise ValueError("adamw: expected a weight_decay, got None; use Adam")
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **kwargs
        )


class Adamax(TwoAverages):
    """m <- m + (g - m)(1 - b1), u <- max(b2 u, |g|), w <- w - a / (1 - b1^t) m / (u + epsilon).

    Parameters
    ----------
    learning_rate : float, schedule or callable, default 0.001
    beta_1, beta_2 : float, 0 <= beta < 1, default 0.9, 0.999
    epsilon : float, default 1e-7

    Source: Kingma and Ba 2015, section 7.1

    Examples
    --------
    >>> w = Variable([1.0, 2.0])
    >>> Adamax(0.1).apply([[0.5, -0.25]], [w])
    >>> print(w.numpy().round(3))
    [0.9 2.1]
    """

    def slot_names(self):
        return ("momentum", "norm")

    def step_scalars(self, learning_rate):
        return (learning_rate / (1.0 - ops.power(self.beta_1, self._step())),)

    def update_step(self, gradient, variable, alpha):
        g, w = gradient, variable
        m_slot, u_slot = self.slot("momentum", w), self.slot("norm", w)
        m = m_slot + (g - m_slot) * (1.0 - self.beta_1)
        u = ops.maximum(self.beta_2 * u_slot, ops.abs(g))
        m_slot.assign(m)
        u_slot.assign(u)
        w.assign_sub(alpha * m / (u + self.epsilon))


class Nadam(TwoAverages):
    """Adam with Nesterov's momentum.

    m and v as in Adam; b_t = b1 (1 - 0.96^t / 2), p_t = b_1 b_2 ... b_t;
    w <- w - a n / (sqrt(v / (1 - b2^t)) + epsilon) with
    n = b_{t+1} m / (1 - p_{t+1}) + (1 - b_t) g / (1 - p_t).

    Parameters
    ----------
    learning_rate : float, schedule or callable, default 0.001
    beta_1, beta_2 : float, 0 <= beta < 1, default 0.9, 0.999
    epsilon : float, default 1e-7

    Source: Dozat 2015, http://cs229.stanford.edu/proj2015/054_report.pdf

    Examples
    --------
    >>> w = Variable([1.0, 2.0])
    >>> Nadam(0.1).apply([[0.5, -0.25]], [w])
    >>> print(w.numpy().round(3))
    [0.894 2.106]
    """

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, **kwargs):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **kwargs)
        self._product = self._track(Variable(np.float64(1), trainable=False, name="beta_product"))

    def step_scalars(self, learning_rate):
        t = self._step()
        b = self.beta_1 * (1.0 - 0.5 * ops.power(0.96, t))
        b_next = self.beta_1 * (1.0 - 0.5 * ops.power(0.96, t + 1.0))
        product = self._product * b
        self._product.assign(product)
        from_m = learning_rate * b_next / (1.0 - product * b_next)
        from_g = learning_rate * (1.0 - b) / (1.0 - product)
        return from_m, from_g, 1.0 / (1.0 - ops.power(self.beta_2, t))

    def update_step(self, gradient, variable, from_m, from_g, from_v):
        g, w = gradient, variable
        m, v = self.averages(g, w)
        w.assign_sub((from_m * m + from_g * g) / (ops.sqrt(v * from_v) + self.epsilon))


class Lamb(TwoAverages):
    """Adam's direction u, in steps as long as the weights are: w <- w - a |w| / |u| u.

    u = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon); |w| / |u| is 1 where one of them is 0.

    Parameters
    ----------
    learning_rate : float, schedule or callable, default 0.001
    beta_1, beta_2 : float, 0 <= beta < 1, default 0.9, 0.999
    epsilon : float, default 1e-7

    Source: You et al. 2020, https://arxiv.org/abs/1904.00962
    """

    def step_scalars(self, learning_rate):
        t = self._step()
        shares = (1.0 / (1.0 - ops.power(b, t)) for b in (self.beta_1, self.beta_2))
        return learning_rate, *shares

    def update_step(self, gradient, variable, learning_rate, of_m, of_v):
        g, w = gradient, variable
        m, v = self.averages(g, w)
        u = of_m * m / (ops.sqrt(of_v * v) + self.epsilon)
        sizes = [ops.sqrt(ops.sum(ops.square(x))) for x in (w, u)]
        zero = ops.logical_or(ops.equal(sizes[0], 0.0), ops.equal(sizes[1], 0.0))
        ratio = ops.where(zero, 1.0, sizes[0] / ops.where(zero, 1.0, sizes[1]))
        w.assign_sub(learning_rate * ratio * u)
