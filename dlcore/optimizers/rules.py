"""The update rules. g: gradient, w: variable, a: learning rate, t: number of the step from 1.

All take weight_decay, clipnorm, clipvalue, global_clipnorm and name as `Optimizer` does.
"""

from dlcore import ops
from dlcore.ops.indexing import add_rows, rows_of
from dlcore.optimizers.optimizer import Optimizer, check_share


class SGD(Optimizer):
    """w <- w - a g.

    With momentum: m <- momentum m - a g, w <- w + m; Nesterov's: w <- w + momentum m - a g.

    Without momentum, clipping, weight decay and penalties, the table of an `Embedding` is changed
    only in the rows that the batch has used. The other rules change all rows at every step, as in
    Keras: their averages, and with them the weights, go on moving where a gradient is 0, or they
    need the squares of sums over equal rows.

    Parameters
    ----------
    learning_rate : float, schedule or callable, default 0.01
    momentum : float, 0..1, default 0
    nesterov : bool

    Source: Sutskever et al. 2013, https://proceedings.mlr.press/v28/sutskever13.html

    Examples
    --------
    >>> import dlcore
    >>> w = dlcore.Variable([1.0, 2.0])
    >>> SGD(0.1).apply([[0.5, -0.25]], [w])
    >>> print(w.numpy().round(3))
    [0.95  2.025]
    """

    def __init__(self, learning_rate=0.01, momentum=0.0, nesterov=False, **kwargs):
        super().__init__(learning_rate, **kwargs)
        if not 0 <= momentum <= 1:
            raise ValueError(f"{self.name}: expected 0 <= momentum <= 1, got {momentum!r}")
        self.momentum, self.nesterov = momentum, nesterov

    def slot_names(self):
        return ("momentum",) if self.momentum else ()

    def update_step(self, gradient, variable, learning_rate):
        g, w = gradient, variable
        if not self.momentum:
            used = rows_of(g)
            if used is None:
                w.assign_sub(learning_rate * g)
            else:
                rows, index = used
                w.assign(add_rows(w, -learning_rate * rows, index))
            return
        slot = self.slot("momentum", w)
        new_w, m = ops.momentum_update(w, g, slot, learning_rate, self.momentum)
        slot.assign(m)
        w.assign(w + self.momentum * m - learning_rate * g if self.nesterov else new_w)


class Adagrad(Optimizer):
    """s <- s + g^2, w <- w - a g / sqrt(s + epsilon).

    Parameters
    ----------
    learning_rate : float, schedule or callable, default 0.001
    initial_accumulator_value : float >= 0, default 0.1
        First value of s.
    epsilon : float, default 1e-7

    Source: Duchi et al. 2011, https://jmlr.org/papers/v12/duchi11a.html

    Examples
    --------
    >>> import dlcore
    >>> w = dlcore.Variable([1.0, 2.0])
    >>> Adagrad(0.1).apply([[0.5, -0.25]], [w])
    >>> print(w.numpy().round(3))
    [0.915 2.062]
    """

    def __init__(self, learning_rate=0.001, initial_accumulator_value=0.1, epsilon=1e-7, **kwargs):
        super().__init__(learning_rate, **kwargs)
        if not initial_accumulator_value >= 0:
            raise ValueError(
                f"{self.name}: expected initial_accumulator_value >= 0, "
                f"got {initial_accumulator_value!r}"
            )
        self.initial_accumulator_value, self.epsilon = initial_accumulator_value, epsilon

    def slot_names(self):
        return ("accumulator",)

    def slot_value(self, name):
        return float(self.initial_accumulator_value)

    def update_step(self, gradient, variable, learning_rate):
        g, w = gradient, variable
        slot = self.slot("accumulator", w)
        s = slot + ops.square(g)
        slot.assign(s)
        w.assign_sub(learning_rate * g / ops.sqrt(s + self.epsilon))


class Adadelta(Optimizer):
    """w <- w - a d with d = g sqrt(u + epsilon) / sqrt(s + epsilon).

    s <- r s + (1 - r) g^2 before d, u <- r u + (1 - r) d^2 after it.

    Parameters
    ----------
    learning_rate : float, schedule or callable, default 0.001
        The paper's form has 1.
    rho : float, 0 <= rho < 1, default 0.95
        r above.
    epsilon : float, default 1e-7

    Source: Zeiler 2012, https://arxiv.org/abs/1212.5701

    Examples
    --------
    >>> import dlcore
    >>> w = dlcore.Variable([1.0, 2.0])
    >>> Adadelta(0.1).apply([[0.5, -0.25]], [w])
    >>> print(w.numpy().round(3))
    [1. 2.]
    """

    def __init__(self, learning_rate=0.001, rho=0.95, epsilon=1e-7, **kwargs):
        super().__init__(learning_rate, **kwargs)
        check_share(self.name, rho=rho)
        self.rho, self.epsilon = rho, epsilon

    def slot_names(self):
        return ("accumulated_grad", "accumulated_delta_var")

    def update_step(self, gradient, variable, learning_rate):
        g, w = gradient, variable
        s_slot, u_slot = (self.slot(name, w) for name in self.slot_names())
        s = self.rho * s_slot + (1.0 - self.rho) * ops.square(g)
        d = g * ops.sqrt(u_slot + self.epsilon) / ops.sqrt(s + self.epsilon)
        u = self.rho * u_slot + (1.0 - self.rho) * ops.square(d)
        s_slot.assign(s)
        u_slot.assign(u)
        w.assign_sub(learning_rate * d)


class RMSprop(Optimizer):
    """s <- r s + (1 - r) g^2, d = a g / sqrt(s + epsilon), w <- w - d.

    Centered: s - b^2 in place of s, with b <- r b + (1 - r) g.
    With momentum: m <- momentum m + d, w <- w - m.

    Parameters
    ----------
    learning_rate : float, schedule or callable, default 0.001
    rho : float, 0 <= rho < 1, default 0.9
        r above.
    momentum : float, 0..1, default 0
    epsilon : float, default 1e-7
    centered : bool

    Source: Hinton 2012, https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf

    Examples
    --------
    >>> import dlcore
    >>> w = dlcore.Variable([1.0, 2.0])
    >>> RMSprop(0.1).apply([[0.5, -0.25]], [w])
    >>> print(w.numpy().round(3))
    [0.684 2.316]
    """

    def __init__(
        self,
        learning_rate=0.001,
        rho=0.9,
        momentum=0.0,
        epsilon=1e-7,
        centered=False,
        **kwargs,
    ):
        super().__init__(learning_rate, **kwargs)
        check_share(self.name, rho=rho)
        if not 0 <= momentum <= 1:
            raise ValueError(f"{self.name}: expected 0 <= momentum <= 1, got {momentum!r}")
        self.rho, self.momentum, self.epsilon, self.centered = rho, momentum, epsilon, centered

    def slot_names(self):
        names = ("velocity",)
        names += ("momentum",) if self.momentum else ()
        return names + (("average_gradient",) if self.centered else ())

    def update_step(self, gradient, variable, learning_rate):
        g, w = gradient, variable
        slot = self.slot("velocity", w)
        s = self.rho * slot + (1.0 - self.rho) * ops.square(g)
        slot.assign(s)
        if self.centered:
            slot = self.slot("average_gradient", w)
            b = self.rho * slot + (1.0 - self.rho) * g
            slot.assign(b)
            s = s - ops.square(b)
        d = learning_rate * g / ops.sqrt(s + self.epsilon)
        if self.momentum:
            slot = self.slot("momentum", w)
            d = self.momentum * slot + d
            slot.assign(d)
        w.assign_sub(d)
