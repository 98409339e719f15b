"""What steps that users write report: the dictionary that `train_step` or `test_step` returns.

A step is traced once and runs many times, so its dictionary holds stand-ins, and is read after
the steps have run: a metric's result is computed then, and a tensor is kept in a Variable.
"""

import numpy as np

from dlcore import ops
from dlcore.metrics.metric import Result
from dlcore.program import Variable
from dlcore.program.graph import Tensor, suspended

_OTHERS = ("tensorflow", "torch", "jax")


class Logs:
    """The entries of one kind of step, {name: Result, Variable or number}."""

    def __init__(self):
        self.entries = {}

    def record(self, who, given):
        """Keep what the step returned, inside its trace."""
        if not isinstance(given, dict):
            raise TypeError(
                f"{who}: expected a dictionary of figures from it, got {type(given).__name__}"
            )
        self.entries = {name: self._kept(name, x) for name, x in given.items()}

    def _kept(self, name, x):
        if not isinstance(x, Tensor):
            return x
        variable = self.entries.get(name)
        if not isinstance(variable, Variable) or variable.shape != x.shape:
            with suspended():
                variable = Variable(np.zeros(x.shape), dtype="float64", trainable=False, name=name)
        variable.assign(ops.cast(x, "float64"))
        return variable

    def results(self):
        """{name: value} of the last steps."""
        values = {}
        for name, x in self.entries.items():
            x = x.compute() if isinstance(x, Result) else x
            values.update(x if isinstance(x, dict) else {name: x})
        return {name: plain(x) for name, x in values.items()}


def plain(value):
    """A number as a float or int; arrays of several stay."""
    value = np.asarray(value)
    return value.item() if value.size == 1 else value


def called(who, step, data):
    """step(data), with one sentence where it asks another library for gradients."""
    try:
        return step(data)
    except Exception as error:
        found = _other_library(error)
        if found is None:
            raise
        raise TypeError(
            f"{who}: expected gradients from dlcore, got a step written for {found};"
            " write grads = dlcore.gradients(loss, variables) and"
            " self.optimizer.apply(grads, variables)"
        ) from error


def _other_library(error):
    """The library whose code, or whose habits, an exception comes from, or None."""
    if isinstance(error, AttributeError) and error.name in ("backward", "zero_grad"):
        return "torch"
    if isinstance(error, TypeError) and "train_step() missing 1 required" in str(error):
        return "jax"
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "").split(".")[0]
        if name in _OTHERS:
            return name
        trace = trace.tb_next
    return None
