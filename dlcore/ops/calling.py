"""How functions written with ops are called: inside a trace they record nodes, on symbols the call,
and on arrays they run at once, as one program for each signature.
"""

import functools

from dlcore import backends, lookup
from dlcore.backends.memory import when_device_changes
from dlcore.ops.op import holds_tensors
from dlcore.program.function import run_eagerly
from dlcore.program.graph import current_trace
from dlcore.program.symbol import first_symbol


def traceable(n_tensors=1):
    """Make a function written with ops callable on arrays too.

    The first `n_tensors` parameters are tensor-likes (-1: the first is a sequence of them); the
    rest is static. Inside a trace, or with symbolic tensors, the function records nodes. On arrays
    it is compiled once per signature and run natively.
    """

    def decorate(f):
        names = f.__code__.co_varnames[: abs(n_tensors)]
        optional = f.__code__.co_varnames[: f.__code__.co_argcount][::-1]
        defaults = dict(zip(optional, (f.__defaults__ or ())[::-1], strict=False))

        def general(*args, **kwargs):
            missing = list(names[len(args) :])  # tensors given by keyword
            while missing and missing[-1] not in kwargs:
                missing.pop()
            for name in missing:
                if name not in kwargs and name not in defaults:
                    break
                args += (kwargs.pop(name, defaults.get(name)),)
            given = tuple(args[0]) if n_tensors < 0 else args[:n_tensors]
            symbol = first_symbol((*given, *args, *kwargs.values()))
            if symbol is not None:
                return symbol.record(call, args, kwargs)
            if current_trace() is not None and any(map(holds_tensors, given)):
                return f(*args, **kwargs)
            rest = args[abs(n_tensors) :]
            return run_eagerly(f, given, rest, kwargs, n_tensors < 0, run_eagerly_into.get(f))

        @functools.wraps(f)
        def call(*args, **kwargs):
            if kwargs:
                try:
                    return general(*args, **kwargs)
                except TypeError:
                    lookup.check_keywords(f, kwargs)
                    raise
            return fast(*args)

        fast = general
        if n_tensors > 0:

            def choose():
                nonlocal fast
                dispatcher = run_eagerly_into[f] = backends.make_dispatcher(general)
                fast = general if dispatcher is None else dispatcher  # an empty one is false

            choose()
            when_device_changes(choose)
        return call

    return decorate


def traced_as(traced):
    """Make a function of concrete arrays take symbolic tensors too, for which it calls `traced`."""

    def decorate(f):
        @functools.wraps(f)
        def call(x, *args, **kwargs):
            leaves = x if isinstance(x, (list, tuple)) else (x,)
            if current_trace() is not None:
                return (traced if any(map(holds_tensors, leaves)) else f)(x, *args, **kwargs)
            symbol = first_symbol(leaves)
            if symbol is not None:
                return symbol.record(call, (x, *args), kwargs)
            return f(x, *args, **kwargs)

        return call

    return decorate


run_eagerly_into = {}  # function -> native dispatcher that remembers its programs
