"""What optimizers keep from step to step: an array per variable and name, its slot, and others."""

import numpy as np

from dlcore import lookup
from dlcore.optimizers.accumulation import SUM
from dlcore.optimizers.averaging import AVERAGE
from dlcore.program.variable import Variable


class State(lookup.Configurable):
    """The variables of an optimizer."""

    def slot_names(self):
        """Names of the arrays that are kept for every variable."""
        return ()

    def slot_value(self, name):
        """Number that the slot `name` is filled with at first."""
        return 0.0

    def has_slot(self, name, variable):
        """Whether a variable has the array called `name`."""
        return True

    def build(self, variables):
        """Create the state for `variables`.

        Parameters
        ----------
        variables : list of Variable
        """
        if self.built:
            self._check_known(variables)
            return
        self._trainable = list(variables)
        kept = {AVERAGE: self.use_ema, SUM: self.gradient_accumulation_steps}
        values = {name: 0.0 for name, wanted in kept.items() if wanted}
        values |= {name: self.slot_value(name) for name in self.slot_names()}
        for name, value in values.items():
            self._slots[name] = {
                v: self.add_variable_from_reference(v, name, value)
                for v in self._trainable
                if self.has_slot(name, v)
            }
        self.built = True

    def add_variable_from_reference(self, reference_variable, name=None, initializer="zeros"):
        """State of a variable's shape and dtype, filled with a number or by an initializer."""
        shape, dtype = reference_variable.shape, reference_variable.dtype
        if isinstance(initializer, (int, float)):
            value = np.full(shape, initializer, dtype)
        else:
            from dlcore import initializers

            value = initializers.get(initializer)(shape, dtype)
        full_name = f"{reference_variable.path}_{name or 'slot'}".replace("/", "_")
        return self._track(Variable(value, dtype=dtype, trainable=False, name=full_name))

    def add_variable(self, shape, initializer="zeros", dtype=None, aggregation="none", name=None):
        """State of its own shape, kept and saved with the optimizer's."""
        from dlcore import initializers

        value = np.asarray(initializers.get(initializer)(tuple(shape), dtype))
        name = name or "state"
        return self._track(Variable(value, dtype=dtype, trainable=False, name=name))

    def add_optimizer_variables(self, trainable_variables, name, initializer="zeros"):
        """State like each variable.

        Parameters
        ----------
        trainable_variables : list of Variable
        name : str, or list of str
        initializer : str or number, or a list with one for each name

        Returns
        -------
        list of Variable, or for several names a list of such lists
        """
        several = not isinstance(name, str)
        names = name if several else [name]
        initializers = initializer if isinstance(initializer, (list, tuple)) else [initializer]
        initializers = list(initializers) * (len(names) if len(initializers) == 1 else 1)
        made = [
            [self.add_variable_from_reference(v, n, i) for v in trainable_variables]
            for n, i in zip(names, initializers, strict=True)
        ]
        return made if several else made[0]

    def _get_variable_index(self, variable):
        """The place of a variable among those of `build`; subclasses written for Keras ask."""
        return next(i for i, v in enumerate(self._trainable) if v is variable)

    @staticmethod
    def assign(variable, value):
        """`variable.assign(value)`."""
        variable.assign(value)

    @staticmethod
    def assign_add(variable, value):
        """`variable.assign_add(value)`."""
        variable.assign_add(value)

    @staticmethod
    def assign_sub(variable, value):
        """`variable.assign_sub(value)`."""
        variable.assign_sub(value)

    def set_weights(self, weights):
        """Set all state from a list of arrays, in the order of `variables`."""
        if len(weights) != len(self.variables):
            raise ValueError(
                f"{self.name}: expected {len(self.variables)} arrays, got {len(weights)}"
            )
        for variable, value in zip(self.variables, weights, strict=True):
            variable.assign(value)

    def _track(self, variable):
        self._others.append(variable)
        return variable

    def slot(self, name, variable):
        """The array called `name` that belongs to `variable`."""
        return self._slots[name][variable]

    @property
    def variables(self):
        """All state: the step, the learning rate where it is a number, then slot by slot."""
        rate = [self._learning_rate] if isinstance(self._learning_rate, Variable) else []
        return [self._iterations, *rate, *self._others]

    def _check_known(self, variables):
        known = set(self._trainable)
        for v in variables:
            if v not in known:
                raise ValueError(
                    f"{self.name}: expected the variables that it was built with, got {v!r}; "
                    "make a new optimizer for other variables"
                )
