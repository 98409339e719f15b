"""Base of optimizers: w <- w - step(gradient), with clipping and weight decay around it.

Everything is written with `dlcore.ops` and Variables, so `apply` acts at once on arrays and becomes
part of the program inside a trace. What depends on the step alone (the rate, bias corrections) is
computed once per step, in float64, and given to the update of every variable.
"""

import math
import re

import numpy as np

from dlcore import lookup, ops
from dlcore.optimizers.accumulation import accumulate, check_steps
from dlcore.optimizers.averaging import AVERAGE, average, check_average
from dlcore.optimizers.schedules import (
    InverseTimeDecay,
    LearningRateSchedule,
    check_rate,
    deserialize,
    serialize,
)
from dlcore.optimizers.state import State
from dlcore.program.variable import Variable


class Optimizer(State):
    """Base class of optimizers; subclasses define `update_step` and, for their state, `slot_names`.

    Parameters
    ----------
    learning_rate : float >= 0, LearningRateSchedule or callable
        A number can be changed at any time through `learning_rate`. A callable, of the step or of
        nothing, is traced once, as a schedule is. `lr` is an older name; `decay` with it means
        `InverseTimeDecay(lr, 1, decay)`.
    weight_decay : float >= 0, optional
        Every update also subtracts learning_rate * weight_decay * w.
    clipnorm : float > 0, optional
        Every variable's gradient is scaled to have at most this norm.
    clipvalue : float > 0, optional
        Every gradient is limited to -clipvalue..clipvalue.
    global_clipnorm : float > 0, optional
        All gradients are scaled for their common norm to be at most this. Only one of the three may
        be given.
    use_ema : bool, default False
        Whether to keep moving averages of the weights, which these become at the end of `fit`.
    ema_momentum : float, 0..1, default 0.99
        Share of the average that stays at every step.
    ema_overwrite_frequency : int, optional
        The weights become their averages after every so many steps.
    loss_scale_factor : float > 0, optional
        `scale_loss` multiplies the loss by it and `apply` divides gradients by it.
    gradient_accumulation_steps : int > 1, optional
        One update for the mean gradient of so many batches. `iterations` counts updates, schedules
        see the number of batches.
    name : str, optional

    Raises
    ------
    ValueError
        For a negative, infinite or NaN rate, and other arguments out of range.
    """

    _further_arguments = ("lr", "decay")

    def __init__(
        self,
        learning_rate,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        name=None,
        **kwargs,
    ):
        self.name = name or type(self).__name__.lower()
        learning_rate = self._old_arguments(learning_rate, kwargs)
        given = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        self._check_clipping(given)
        self.clipnorm, self.clipvalue, self.global_clipnorm = given.values()
        if use_ema:
            check_average(self.name, ema_momentum, ema_overwrite_frequency)
        self.use_ema, self.ema_momentum = use_ema, ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        if loss_scale_factor is not None and not 0 < loss_scale_factor < math.inf:
            raise ValueError(
                f"{self.name}: expected loss_scale_factor > 0, got {loss_scale_factor!r}"
            )
        self.loss_scale_factor = loss_scale_factor
        self.gradient_accumulation_steps = check_steps(self.name, gradient_accumulation_steps)
        if weight_decay is not None:
            weight_decay = check_rate(self.name, weight_decay, "a weight_decay")
        self.weight_decay = weight_decay
        self._iterations = Variable(np.int64(0), trainable=False, name="iteration")
        self.built = False
        self._learning_rate = None
        self.learning_rate = learning_rate
        self._trainable = []
        self._slots = {}  # slot name -> {variable: slot}
        self._others = []
        self._not_decayed = ([], [])  # variables, patterns of names

    def _old_arguments(self, learning_rate, kwargs):
        learning_rate = kwargs.pop("lr", learning_rate)
        decay = kwargs.pop("decay", None)
        if kwargs:
            known = [*lookup.argument_names(type(self)), *self._further_arguments]
            raise lookup.no_argument(type(self).__name__, next(iter(kwargs)), known)
        if decay:
            return InverseTimeDecay(learning_rate, 1, decay)
        return learning_rate

    def _check_clipping(self, given):
        used = [key for key, value in given.items() if value is not None]
        if len(used) > 1:
            raise ValueError(
                f"{self.name}: expected one kind of clipping, got {' and '.join(used)}"
            )
        for key in used:
            if not 0 < given[key] < math.inf:
                raise ValueError(f"{self.name}: expected {key} > 0, got {given[key]!r}")

    @property
    def learning_rate(self):
        """The current rate: a float64 Variable, or what the schedule gives for `iterations`."""
        rate = self._learning_rate
        if isinstance(rate, Variable):
            return rate
        code = getattr(rate, "__code__", None)
        without_step = code is not None and code.co_argcount == 0
        return rate() if without_step else rate(self._iterations)

    @learning_rate.setter
    def learning_rate(self, value):
        if isinstance(value, dict):
            value = deserialize(value)
        if callable(value) and not isinstance(value, Variable):
            if self.built:  # programs that have been traced would keep the old rate
                raise TypeError(
                    f"{self.name}: expected a number once training has begun, got {value!r}; "
                    "compile again with an optimizer that has this schedule"
                )
            self._learning_rate = value
            return
        if self._learning_rate is not None and not isinstance(self._learning_rate, Variable):
            raise TypeError(
                f"{self.name}: expected no number while a schedule sets the learning rate, "
                f"got {value!r}"
            )
        rate = np.float64(check_rate(self.name, value))
        if self._learning_rate is None:
            self._learning_rate = Variable(rate, trainable=False, name="learning_rate")
        else:
            self._learning_rate.assign(rate)

    lr = learning_rate

    @property
    def iterations(self):
        """The number of updates so far: a Variable, or with gradient accumulation what it says."""
        n = self.gradient_accumulation_steps
        return self._iterations // n if n else self._iterations

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Keep variables out of weight decay.

        Parameters
        ----------
        var_list : list of Variable, optional
        var_names : list of str, optional
            Patterns (regular expressions) to be found in names, such as "bias".
        """
        self._not_decayed[0].extend(var_list or [])
        self._not_decayed[1].extend(var_names or [])

    def decays(self, variable):
        """Whether weight decay applies to `variable`."""
        listed, patterns = self._not_decayed
        return not (
            any(variable is v for v in listed) or any(re.search(p, variable.name) for p in patterns)
        )

    def weight_decay_of(self, variable):
        """The part of `variable` that an update takes, times the learning rate; None is 0."""
        return self.weight_decay

    def scale_loss(self, loss):
        """What `apply` expects the gradients of: the loss times `loss_scale_factor`."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    def apply_gradients(self, grads_and_vars):
        """One step from pairs (gradient, variable)."""
        pairs = list(grads_and_vars)
        self.apply([g for g, _ in pairs], [v for _, v in pairs])
        return self.iterations

    def apply(self, grads, trainable_variables=None):
        """One step.

        Parameters
        ----------
        grads : list of array or Tensor
            One per variable, of its shape; None leaves the variable as it is.
        trainable_variables : list of Variable, optional
            By default those of `build`.
        """
        variables = self._trainable if trainable_variables is None else list(trainable_variables)
        if trainable_variables is not None:
            self.build(variables)
        grads = [g if g is None else ops.convert_to_tensor(g) for g in grads]
        self._check_gradients(grads, variables)
        pairs = [(g, v) for g, v in zip(grads, variables, strict=True) if g is not None]
        if not pairs:
            return
        grads, variables = [g for g, _ in pairs], [v for _, v in pairs]
        if self.loss_scale_factor is not None:
            grads = [g * (1.0 / self.loss_scale_factor) for g in grads]
        if self.gradient_accumulation_steps:
            accumulate(self, grads, variables)
        else:
            self.update(grads, variables)
        if self.use_ema:
            average(self, self._trainable)
        for w in variables:
            if w.constraint is not None:
                w.assign(w.constraint(w))
        self._iterations.assign_add(1)

    def finalize_variable_values(self, var_list):
        """What `fit` ends with: with `use_ema` the weights become their averages."""
        if self.use_ema:
            averages = self._slots[AVERAGE]
            for w in (v for v in var_list if v in averages):
                w.assign(averages[w])

    def update(self, grads, variables):
        """Clipping, weight decay and one update of every variable."""
        grads, rate = self._clip(grads), self._rate()
        shares = {w: self.weight_decay_of(w) or 0 for w in filter(self.decays, variables)}
        decays = {share: rate * share for share in set(shares.values()) if share}
        for w, share in shares.items():
            if share:
                w.assign_sub(w * ops.cast(decays[share], w.dtype))
        scalars = self.step_scalars(rate)
        for g, w in zip(grads, variables, strict=True):
            self.update_step(g, w, *(ops.cast(s, w.dtype) for s in scalars))

    def step_scalars(self, learning_rate):
        """float64 scalars that all updates of a step share: the last arguments of `update_step`."""
        return (learning_rate,)

    def update_step(self, gradient, variable, learning_rate):
        """Change one variable and its slots; the last arguments are those of `step_scalars`."""
        raise NotImplementedError(
            f"{type(self).__name__}: expected a subclass that defines update_step"
        )

    def _rate(self):
        rate = self.learning_rate
        return np.float64(rate) if isinstance(rate, (int, float)) else ops.cast(rate, "float64")

    def _step(self):
        """The number of this update, from 1, as a float64 scalar."""
        return ops.cast(self.iterations, "float64") + 1.0

    def _check_gradients(self, grads, variables):
        if len(grads) != len(variables):
            raise ValueError(
                f"{self.name}: expected {len(variables)} gradients, one per variable, "
                f"got {len(grads)}"
            )
        for g, v in zip(grads, variables, strict=True):
            if g is not None and tuple(g.shape) != v.shape:
                raise ValueError(
                    f"{self.name}: expected a gradient of shape {v.shape} for {v.name}, "
                    f"got {tuple(g.shape)}"
                )

    def _clip(self, grads):
        if self.clipvalue is not None:
            return [ops.clip(g, -self.clipvalue, self.clipvalue) for g in grads]
        if self.clipnorm is not None:
            return [g * _scale(ops.norm(g), self.clipnorm) for g in grads]
        if self.global_clipnorm is not None:
            squares = [ops.sum(ops.square(g)) for g in grads]
            total = squares[0]
            for s in squares[1:]:
                total = total + s
            scale = _scale(ops.sqrt(total), self.global_clipnorm)
            return [g * scale for g in grads]
        return grads

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The optimizer that `get_config` described."""
        with lookup.custom_object_scope(custom_objects or {}):
            return cls(**config)

    def get_config(self):
        config = super().get_config()
        rate = self._learning_rate
        if isinstance(rate, LearningRateSchedule):
            config["learning_rate"] = serialize(rate)
        else:
            config["learning_rate"] = float(self.learning_rate)
        return config


def _scale(norm, limit):
    """What makes a vector of this norm have at most the norm `limit`."""
    return limit / ops.maximum(norm, limit)


def check_share(name, **values):
    """Refuse values outside 0 <= value < 1, such as decay factors of moving averages."""
    for key, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name}: expected 0 <= {key} < 1, got {value!r}")
