"""What stands for an array while a model is put together outside any trace: nothing is computed,
the calls are noted, and played back with tensors whenever the model is traced.
"""

from dlcore.program.graph import Operators


class Symbol(Operators):
    """Base of symbols: a shape, whose batch may be None, and a dtype.

    A traceable op that is called on a symbol returns what ``symbol.record(op, args, kwargs)``
    does.
    """

    __slots__ = ()

    def record(self, op, args, kwargs):
        """New symbols for what ``op(*args, **kwargs)`` will return."""
        raise NotImplementedError

    @property
    def ndim(self):
        return len(self.shape)

    def __iter__(self):
        raise TypeError(f"expected an array to iterate over, got {self!r}; use ops.unstack")

    def __bool__(self):
        raise TypeError(f"expected an array with values, got {self!r}; use ops.where")

    def __array__(self, *_args, **_kwargs):
        raise TypeError(
            f"expected an array with values, got {self!r};"
            " use dlcore.ops on it, and only outside of functions that are traced"
        )


def first_symbol(values):
    """The first symbol among the values, or None."""
    for x in values:
        if isinstance(x, Symbol):
            return x
    return None
