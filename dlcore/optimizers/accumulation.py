"""One update for the mean gradient of n batches: the first n - 1 only add theirs to a sum.

A program has no branches: there the update is computed for every batch, and `where` chooses between
its results and what was before.
"""

from dlcore import ops
from dlcore.program import tracing

SUM = "gradient_accumulator"


def check_steps(name, steps):
    """`gradient_accumulation_steps`, with 1 as None."""
    if steps is not None and not (isinstance(steps, int) and steps >= 1):
        raise ValueError(
            f"{name}: expected gradient_accumulation_steps as an int > 1, got {steps!r}"
        )
    return None if steps == 1 else steps


def accumulate(optimizer, grads, variables):
    """Add the gradients of a batch; with those of the last one, update."""
    n = optimizer.gradient_accumulation_steps
    sums = [optimizer.slot(SUM, v) for v in variables]
    totals = [s.value + g for s, g in zip(sums, grads, strict=True)]
    last = ops.equal((optimizer._iterations.value + 1) % n, 0)

    def update():
        optimizer.update([t * (1.0 / n) for t in totals], variables)

    if tracing():
        update_where(last, [*variables, *optimizer.variables], update)
    elif last:
        update()
    for s, total in zip(sums, totals, strict=True):
        s.assign(ops.where(last, 0.0, total))


def update_where(condition, variables, update):
    """Do `update()`, and give variables their old values where the condition is False."""
    before = [v.value for v in variables]
    update()
    for v, old in zip(variables, before, strict=True):
        if v.value is not old:
            v.assign(ops.where(condition, v.value, old))


def assign_where(condition, variable, value):
    """Give the variable a value where the condition is True."""
    variable.assign(ops.where(condition, value, variable.value))
