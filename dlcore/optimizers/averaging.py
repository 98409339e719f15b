"""Exponential moving averages of the weights, beside any rule of update.

    a <- w after the first step, then a <- m a + (1 - m) w;   w <- a every so many steps

Source: Polyak and Juditsky 1992, https://doi.org/10.1137/0330046
"""

from dlcore import ops
from dlcore.optimizers.accumulation import assign_where

AVERAGE = "average"


def check_average(name, momentum, frequency):
    """Refuse what `average` cannot do."""
    if not 0 <= momentum <= 1:
        raise ValueError(f"{name}: expected ema_momentum in 0..1, got {momentum!r}")
    if frequency is not None and not (isinstance(frequency, int) and frequency >= 1):
        raise ValueError(
            f"{name}: expected ema_overwrite_frequency as an int > 0 or None, got {frequency!r}"
        )


def average(optimizer, variables):
    """Move the averages towards the weights, and now and then the weights to the averages."""
    step = ops.cast(optimizer.iterations, "int64")
    m = ops.cast(ops.not_equal(step, 0), "float64") * optimizer.ema_momentum
    frequency = optimizer.ema_overwrite_frequency
    for w in variables:
        slot = optimizer.slot(AVERAGE, w)
        slot.assign(ops.cast(m, w.dtype) * slot + ops.cast(1.0 - m, w.dtype) * w)
        if frequency:
            assign_where(ops.equal((step + 1) % frequency, 0), w, slot.value)
