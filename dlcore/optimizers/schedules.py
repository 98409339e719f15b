"""Learning-rate schedules: the rate as a function of the step, which counts updates from 0.

A schedule is called with an int or a tensor; written with `dlcore.ops`, it becomes part of the
training program.
"""

import math

import numpy as np

from dlcore import lookup, ops


def check_rate(name, value, what="a learning rate"):
    """`value` as a float, if it is finite and not negative."""
    number = isinstance(value, (int, float, np.number)) or np.ndim(value) == 0
    try:
        rate = float(value) if number and not isinstance(value, (bool, str)) else math.nan
    except (TypeError, ValueError):
        rate = math.nan
    if not 0 <= rate < math.inf:
        raise ValueError(f"{name}: expected {what} that is finite and not negative, got {value!r}")
    return rate


class LearningRateSchedule(lookup.Configurable):
    """Base class; subclasses define __call__(step) with `dlcore.ops`."""

    def __call__(self, step):
        raise NotImplementedError(
            f"{type(self).__name__}: expected a subclass that defines __call__"
        )

    def _rates(self, **values):
        for key, value in values.items():
            setattr(self, key, check_rate(type(self).__name__, value, key))

    def _steps(self, **values):
        for key, value in values.items():
            if not value > 0:
                raise ValueError(f"{type(self).__name__}: expected {key} > 0, got {value!r}")
            setattr(self, key, value)


def _float(step):
    """The step as a float64 scalar, in which all schedules compute."""
    if isinstance(step, (int, float, np.generic)):
        return np.asarray(step, np.float64)
    return ops.cast(step, "float64")


class ExponentialDecay(LearningRateSchedule):
    """rate = initial * decay_rate ^ (step / decay_steps).

    Parameters
    ----------
    initial_learning_rate : float >= 0
    decay_steps : int > 0
    decay_rate : float >= 0
    staircase : bool
        Round step / decay_steps down.
    name : str, optional

    Examples
    --------
    >>> from dlcore.optimizers import schedules
    >>> float(schedules.ExponentialDecay(0.5, 10, 0.5)(20))
    0.125
    """

    def __init__(
        self,
        initial_learning_rate,
        decay_steps,
        decay_rate,
        staircase=False,
        name="ExponentialDecay",
    ):
        self._rates(initial_learning_rate=initial_learning_rate, decay_rate=decay_rate)
        self._steps(decay_steps=decay_steps)
        self.staircase, self.name = staircase, name

    def __call__(self, step):
        p = _float(step) / float(self.decay_steps)
        return self.initial_learning_rate * ops.power(
            self.decay_rate, ops.floor(p) if self.staircase else p
        )


class StepDecay(ExponentialDecay):
    """rate = initial * decay_rate ^ floor(step / decay_steps).

    Parameters
    ----------
    initial_learning_rate : float >= 0
    decay_steps : int > 0
    decay_rate : float >= 0, default 0.1
    name : str, optional

    Examples
    --------
    >>> round(float(StepDecay(0.1, 10)(25)), 4)
    0.001
    """

    def __init__(self, initial_learning_rate, decay_steps, decay_rate=0.1, name="StepDecay"):
        super().__init__(initial_learning_rate, decay_steps, decay_rate, True, name)


class PiecewiseConstantDecay(LearningRateSchedule):
    """rate = values[i] for boundaries[i - 1] < step <= boundaries[i].

    Parameters
    ----------
    boundaries : list of int, increasing
    values : list of float, one more than boundaries
    name : str, optional

    Examples
    --------
    >>> round(float(PiecewiseConstantDecay([10, 20], [0.1, 0.05, 0.01])(15)), 4)
    0.05
    """

    def __init__(self, boundaries, values, name="PiecewiseConstant"):
        if len(values) != len(boundaries) + 1:
            raise ValueError(
                f"PiecewiseConstantDecay: expected {len(boundaries) + 1} values for "
                f"{len(boundaries)} boundaries, got {len(values)}"
            )
        if sorted(set(boundaries)) != list(boundaries):
            raise ValueError(
                f"PiecewiseConstantDecay: expected increasing boundaries, got {boundaries}"
            )
        self.boundaries = [float(b) for b in boundaries]
        self.values = [check_rate("PiecewiseConstantDecay", v) for v in values]
        self.name = name

    def __call__(self, step):
        step = _float(step)
        rate = step * 0.0 + self.values[-1]
        for boundary, value in zip(self.boundaries[::-1], self.values[-2::-1], strict=True):
            rate = ops.where(ops.less_equal(step, boundary), value, rate)
        return rate


class PolynomialDecay(LearningRateSchedule):
    """rate = (initial - end) (1 - p)^power + end with p = min(step, decay_steps) / decay_steps.

    Parameters
    ----------
    initial_learning_rate : float >= 0
    decay_steps : int > 0
    end_learning_rate : float >= 0, default 0.0001
    power : float, default 1
    cycle : bool
        Beyond decay_steps start again, with decay_steps doubled, tripled, ...
    name : str, optional

    Examples
    --------
    >>> round(float(PolynomialDecay(0.1, 10, 0.0)(5)), 4)
    0.05
    """

    def __init__(
        self,
        initial_learning_rate,
        decay_steps,
        end_learning_rate=0.0001,
        power=1.0,
        cycle=False,
        name="PolynomialDecay",
    ):
        self._rates(
            initial_learning_rate=initial_learning_rate, end_learning_rate=end_learning_rate
        )
        self._steps(decay_steps=decay_steps)
        self.power, self.cycle, self.name = power, cycle, name

    def __call__(self, step):
        p = _float(step) / float(self.decay_steps)
        p = p / ops.maximum(ops.ceil(p), 1.0) if self.cycle else ops.minimum(p, 1.0)
        drop = self.initial_learning_rate - self.end_learning_rate
        return drop * ops.power(1.0 - p, float(self.power)) + self.end_learning_rate


class InverseTimeDecay(LearningRateSchedule):
    """rate = initial / (1 + decay_rate * step / decay_steps).

    Parameters
    ----------
    initial_learning_rate : float >= 0
    decay_steps : int > 0
    decay_rate : float >= 0
    staircase : bool
        Round step / decay_steps down.
    name : str, optional

    Examples
    --------
    >>> round(float(InverseTimeDecay(0.1, 10, 1.0)(10)), 4)
    0.05
    """

    def __init__(
        self,
        initial_learning_rate,
        decay_steps,
        decay_rate,
        staircase=False,
        name="InverseTimeDecay",
    ):
        self._rates(initial_learning_rate=initial_learning_rate, decay_rate=decay_rate)
        self._steps(decay_steps=decay_steps)
        self.staircase, self.name = staircase, name

    def __call__(self, step):
        p = _float(step) / float(self.decay_steps)
        p = ops.floor(p) if self.staircase else p
        return self.initial_learning_rate / (1.0 + self.decay_rate * p)


class CosineDecay(LearningRateSchedule):
    """rate = top * ((1 - alpha) (1 + cos(pi p)) / 2 + alpha), p = min(step / decay_steps, 1).

    With warm-up the rate first goes linearly from initial_learning_rate to top = warmup_target in
    warmup_steps, and the decay starts then; else top = initial_learning_rate.

    Parameters
    ----------
    initial_learning_rate : float >= 0
    decay_steps : int > 0
    alpha : float, default 0
        Smallest rate as a share of the top.
    name : str, optional
    warmup_target : float >= 0, optional
    warmup_steps : int >= 0, default 0

    Source: Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983

    Examples
    --------
    >>> round(float(CosineDecay(0.1, 10)(5)), 4)
    0.05
    """

    def __init__(
        self,
        initial_learning_rate,
        decay_steps,
        alpha=0.0,
        name="CosineDecay",
        warmup_target=None,
        warmup_steps=0,
    ):
        self._rates(initial_learning_rate=initial_learning_rate, alpha=alpha)
        self._rates(warmup_steps=warmup_steps)
        self._steps(decay_steps=decay_steps)
        self.warmup_target = warmup_target
        if warmup_target is not None:
            self._rates(warmup_target=warmup_target)
        self.name = name

    def __call__(self, step):
        step, start, steps = _float(step), self.initial_learning_rate, float(self.warmup_steps)
        if self.warmup_target is None:
            return start * self._share(step)
        decayed = self.warmup_target * self._share(ops.maximum(step - steps, 0.0))
        if not steps:
            return decayed
        rising = start + (self.warmup_target - start) * (step / steps)
        return ops.where(ops.less(step, steps), rising, decayed)

    def _share(self, step):
        p = ops.minimum(step / float(self.decay_steps), 1.0)
        return (1.0 - self.alpha) * 0.5 * (1.0 + ops.cos(math.pi * p)) + self.alpha


class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decays one after the other.

    Decay i takes first_decay_steps * t_mul^i steps;
    rate = initial * ((1 - alpha) m_mul^i (1 + cos(pi p)) / 2 + alpha), p the share done of decay i.

    Parameters
    ----------
    initial_learning_rate : float >= 0
    first_decay_steps : int > 0
    t_mul : float >= 1, default 2
    m_mul : float >= 0, default 1
    alpha : float, default 0
        Smallest rate as a share of the initial one.
    name : str, optional

    Source: Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983

    Examples
    --------
    >>> round(float(CosineDecayRestarts(0.1, 10)(15)), 4)
    0.0854
    """

    def __init__(
        self,
        initial_learning_rate,
        first_decay_steps,
        t_mul=2.0,
        m_mul=1.0,
        alpha=0.0,
        name="CosineDecayRestarts",
    ):
        self._rates(initial_learning_rate=initial_learning_rate, m_mul=m_mul, alpha=alpha)
        self._steps(first_decay_steps=first_decay_steps)
        if not t_mul >= 1:
            raise ValueError(f"CosineDecayRestarts: expected t_mul >= 1, got {t_mul!r}")
        self.t_mul, self.name = float(t_mul), name

    def __call__(self, step):
        done = _float(step) / float(self.first_decay_steps)
        if self.t_mul == 1:
            i = ops.floor(done)
            p = done - i
        else:
            # Decays 0..i-1 take (t_mul^i - 1) / (t_mul - 1) of the first one's length. The small
            # number keeps a restart at its step where the logarithm is rounded down.
            i = ops.floor(ops.log(1.0 + done * (self.t_mul - 1.0)) / math.log(self.t_mul) + 1e-9)
            length = ops.power(self.t_mul, i)
            p = (done - (length - 1.0) / (self.t_mul - 1.0)) / length
        height = ops.power(self.m_mul, i) * 0.5 * (1.0 + ops.cos(math.pi * p))
        return self.initial_learning_rate * ((1.0 - self.alpha) * height + self.alpha)


class WarmUp(LearningRateSchedule):
    """rate = schedule(0) * (step + 1) / steps for step < steps, then schedule(step - steps).

    Parameters
    ----------
    schedule : LearningRateSchedule or float
        What follows; a number is a constant rate.
    steps : int > 0
    name : str, optional

    Examples
    --------
    >>> round(float(WarmUp(0.1, 10)(4)), 4)
    0.05
    """

    def __init__(self, schedule, steps, name="WarmUp"):
        if isinstance(schedule, dict):
            schedule = deserialize(schedule)
        self.schedule = schedule if callable(schedule) else check_rate("WarmUp", schedule)
        self._steps(steps=steps)
        self.name = name

    def __call__(self, step):
        step, steps = _float(step), float(self.steps)
        share = ops.minimum((step + 1.0) / steps, 1.0)
        if not callable(self.schedule):
            return self.schedule * share
        return self.schedule(ops.maximum(step - steps, 0.0)) * share

    def get_config(self):
        schedule = self.schedule
        if callable(schedule):
            schedule = serialize(schedule)
        return {"schedule": schedule, "steps": self.steps, "name": self.name}


_TABLE = lookup.table_of(
    [
        LearningRateSchedule, ExponentialDecay, StepDecay, PiecewiseConstantDecay, PolynomialDecay,
        InverseTimeDecay, CosineDecay, CosineDecayRestarts, WarmUp,
    ],
    {"PiecewiseConstant": PiecewiseConstantDecay},
)  # fmt: skip


def serialize(learning_rate_schedule):
    """{"class_name": ..., "config": {...}} of a schedule."""
    return lookup.serialize(learning_rate_schedule)


def deserialize(config, custom_objects=None):
    """The schedule that `serialize` wrote."""
    return lookup.deserialize("schedule", _TABLE, config, custom_objects)


__all__ = [
    "CosineDecay", "CosineDecayRestarts", "ExponentialDecay", "InverseTimeDecay",
    "LearningRateSchedule", "PiecewiseConstantDecay", "PolynomialDecay", "StepDecay", "WarmUp",
    "deserialize", "serialize",
]  # fmt: skip
