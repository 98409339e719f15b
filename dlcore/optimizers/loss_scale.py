"""Loss scaling: gradients too small for float16 are kept by scaling the loss they come from.

    g = d(scale loss)/dw / scale;   some g not finite: no step, scale / 2;
    `dynamic_growth_steps` steps in a row with finite g: scale * 2

A scale is a power of two, so that it changes no digit. Micikevicius et al. 2018, section 3.2,
https://arxiv.org/abs/1710.03740.
"""

import math

import numpy as np

from dlcore import lookup, ops
from dlcore.optimizers.accumulation import update_where
from dlcore.optimizers.optimizer import Optimizer
from dlcore.program import function, tracing
from dlcore.program.variable import Variable


class LossScaleOptimizer(Optimizer):
    """An optimizer around another one that scales the loss, as float16 needs it.

    `compile` puts it around the optimizer of a model whose policy is "mixed_float16".

    Parameters
    ----------
    inner_optimizer : Optimizer or str
        Takes the steps; learning rate, clipping and decay are its own.
    initial_scale : float > 0, default 32768
    dynamic_growth_steps : int > 0, default 2000
        So many steps with finite gradients double the scale.
    name : str, optional

    Attributes
    ----------
    dynamic_scale : Variable
        The scale now.
    step_counter : Variable
        Steps since the scale changed.

    Examples
    --------
    >>> from dlcore import optimizers
    >>> optimizer = optimizers.LossScaleOptimizer(optimizers.SGD(0.5))
    >>> float(optimizer.dynamic_scale), float(optimizer.learning_rate)
    (32768.0, 0.5)
    """

    def __init__(
        self,
        inner_optimizer,
        initial_scale=2.0**15,
        dynamic_growth_steps=2000,
        name=None,
        **kwargs,
    ):
        from dlcore import optimizers

        self.name = name or "loss_scale_optimizer"
        if kwargs:
            raise ValueError(
                f"{self.name}: expected no {next(iter(kwargs))}, which belongs to the"
                " inner_optimizer; give it there"
            )
        if not 0 < initial_scale < math.inf:
            raise ValueError(f"{self.name}: expected initial_scale > 0, got {initial_scale!r}")
        if dynamic_growth_steps < 1:
            raise ValueError(
                f"{self.name}: expected dynamic_growth_steps >= 1, got {dynamic_growth_steps!r}"
            )
        self.inner_optimizer = optimizers.get(inner_optimizer)
        self.initial_scale, self.dynamic_growth_steps = initial_scale, dynamic_growth_steps
        self.dynamic_scale = Variable(
            np.float32(initial_scale), trainable=False, name="dynamic_scale"
        )
        self.step_counter = Variable(np.int64(0), trainable=False, name="step_counter")
        self._eager = {}

    @property
    def learning_rate(self):
        """That of the inner optimizer."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        self.inner_optimizer.learning_rate = value

    lr = learning_rate

    @property
    def iterations(self):
        """Steps taken, without those left out."""
        return self.inner_optimizer.iterations

    def finalize_variable_values(self, var_list):
        self.inner_optimizer.finalize_variable_values(var_list)

    @property
    def built(self):
        return self.inner_optimizer.built

    @property
    def variables(self):
        return [self.step_counter, self.dynamic_scale, *self.inner_optimizer.variables]

    def build(self, variables):
        self.inner_optimizer.build(variables)

    def scale_loss(self, loss):
        return loss * ops.cast(self.dynamic_scale, loss.dtype)

    def apply(self, grads, trainable_variables=None):
        """One step from gradients of the scaled loss, or none where these are not finite."""
        inner = self.inner_optimizer
        if trainable_variables is not None:
            inner.build(list(trainable_variables))
        variables = list(inner._trainable if trainable_variables is None else trainable_variables)
        if tracing():
            self._step(grads, variables)
            return
        key = tuple(map(id, variables))
        if key not in self._eager:
            self._eager[key] = function(lambda grads: self._step(grads, variables))
        self._eager[key](list(grads))

    def _step(self, grads, variables):
        inner, scale = self.inner_optimizer, self.dynamic_scale.value
        finite = True
        for g in (g for g in grads if g is not None):
            finite = ops.logical_and(ops.all(ops.isfinite(g)), finite)
        grads = [g if g is None else g / scale for g in grads]
        update_where(finite, [*variables, *inner.variables], lambda: inner.apply(grads, variables))
        steps = self.step_counter.value + 1
        grows = ops.greater_equal(steps, self.dynamic_growth_steps)
        self.dynamic_scale.assign(
            ops.where(finite, ops.where(grows, scale * 2.0, scale), scale * 0.5)
        )
        keeps = ops.logical_and(finite, ops.logical_not(grows))
        self.step_counter.assign(ops.where(keeps, steps, 0))

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def get_config(self):
        return {
            "inner_optimizer": lookup.serialize(self.inner_optimizer),
            "initial_scale": self.initial_scale,
            "dynamic_growth_steps": self.dynamic_growth_steps,
            "name": self.name,
        }
