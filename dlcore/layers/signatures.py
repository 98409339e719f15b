"""What the signatures of the methods of layers say: `call` and `build`, which get what they name,
and constructors, whose arguments are a layer's configuration.
"""

from dlcore import lookup
from dlcore.layers import spec
from dlcore.layers.names import inside


def names_of(f, behind=1):
    """The parameters of a method behind `self`, or of a function."""
    code = getattr(getattr(f, "__wrapped__", f), "__code__", None)
    return code.co_varnames[behind : code.co_argcount + code.co_kwonlyargcount] if code else ()


def parameters(cls):
    """The parameters of `call` of the class."""
    if "_parameters" not in cls.__dict__:
        cls._parameters = names_of(cls.call)
    return cls._parameters


def takes(cls, name, given):
    """Whether `call` of the class has a parameter `name` behind the first and `given` others."""
    return name in parameters(cls)[given + 1 :]


def building(build):
    """`build` outside of any trace, so that initial values are computed at once, and marked as
    done.
    """

    def wrapped(self, *shapes, **more):
        with spec.suspended(), inside(self):
            build(self, *shapes, **more)
        self.built = True
        shape = next((x for x in (*shapes, *more.values())), None)
        if shape is not None:
            self._build_specs = spec.specs_of(shape, self.dtype)

    wrapped.__doc__, wrapped.__wrapped__ = build.__doc__, build
    return wrapped


def described(layer, names):
    """Which of the arguments `Layer.get_config` tells: those of the base of a user's class that
    defines `get_config`.
    """
    classes = type(layer).__mro__
    own = [
        i
        for i, c in enumerate(classes)
        if "get_config" in vars(c) and not c.__module__.startswith("dlcore.")
    ]
    if not own:
        return names
    base = classes[own[-1] + 1]
    known = lookup.argument_names(base)
    if base.__module__ == "dlcore.layers.base":
        known = ["name", "trainable", "dtype"]
        known += ["activity_regularizer"] if layer.activity_regularizer is not None else []
    return [n for n in names if n in known]
