"""Names and configurations: how strings and saved dictionaries become functions and objects.

Every family of the vocabulary (losses, metrics, ...) has one table {name: function or class}; `get`
turns a name, a dictionary {"class_name": ..., "config": {...}}, a class, an object or a function
into what it stands for.
"""

import functools
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, TypeVar

_custom = {}  # names that users add; they come before the tables
_registered_names = {}  # object -> the name that files have for it


class _Scope(threading.local):
    objects = None  # names of `custom_object_scope`, which come before all others
    live = False  # whether configurations are for this process alone


_scope = _Scope()


@contextmanager
def custom_object_scope(custom_objects):
    """Make names known while a model is loaded.

    Parameters
    ----------
    custom_objects : dict of str to class or function
    """
    outer = _scope.objects
    _scope.objects = {**(outer or {}), **custom_objects}
    try:
        yield
    finally:
        _scope.objects = outer


@contextmanager
def live():
    """Configurations that are written in here hold classes and functions themselves, not their
    names: for copies, which need not find them again.
    """
    outer, _scope.live = _scope.live, True
    try:
        yield
    finally:
        _scope.live = outer


def is_live():
    return _scope.live


def get_custom_objects():
    """The dictionary of names that users add; names in it come before the built-in ones."""
    return _custom


def register_keras_serializable(package="Custom", name=None):
    """Let files name a class or function of yours, so that models with it load without
    `custom_objects`.

    Parameters
    ----------
    package : str, default "Custom"
    name : str, optional
        By default its own; files have "package>name".

    Returns
    -------
    decorator

    Raises
    ------
    ValueError
        If a class has no `get_config`.

    Examples
    --------
    >>> import dlcore as keras
    >>> @keras.saving.register_keras_serializable("lesson")
    ... class Twice(keras.layers.Layer):
    ...     def call(self, x):
    ...         return 2 * x
    >>> keras.saving.get_registered_name(Twice)
    'lesson>Twice'
    """

    def register(obj):
        if isinstance(obj, type) and not hasattr(obj, "get_config"):
            raise ValueError(
                f"register_keras_serializable: expected a class with get_config, got {obj.__name__}"
            )
        registered = f"{package}>{name or obj.__name__}"
        _custom[registered] = obj
        _registered_names[obj] = registered
        return obj

    return register


def get_registered_name(obj):
    """The name that files have for a class or function: "package>name" where it is registered."""
    return _registered_names.get(obj, getattr(obj, "__name__", obj))


def name_of(obj):
    """What configurations have for a class or function."""
    return obj if _scope.live else get_registered_name(obj)


def custom_object(name):
    """What users call `name`, or None; "package>name" is found by its second part too."""
    if not isinstance(name, str):
        return None
    scope = _scope.objects or {}
    for key in dict.fromkeys((name, name.rpartition(">")[2])):
        found = scope.get(key, _custom.get(key))
        if found is not None:
            return found
    return None


def lookup(kind, table, name):
    """The entry of `table` called `name`.

    Parameters
    ----------
    kind : str
        What the table holds, for the message: "loss", "activation", ...
    table : dict
    name : str, or the class or function itself (see `live`)

    Raises
    ------
    ValueError
        If there is no such name; the nearest known one is suggested.
    """
    if callable(name):
        return name
    custom = custom_object(name)
    if custom is not None:
        return custom
    if isinstance(name, str) and name in table:
        return table[name]
    known = [*table, *(_scope.objects or ()), *_custom]
    raise ValueError(f"{kind}: expected a known name, got {name!r}{suggestion(str(name), known)}")


def suggestion(name, known, least=0.3):
    """The end of a sentence about an unknown name: the nearest known one."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, 1, 0.5)
    near = near or get_close_matches(name.lower(), known, 1, least)
    return f"; did you mean {near[0]!r}?" if near else ""


def no_attribute(module, name, known):
    """The error for a name that a module does not have."""
    from dlcore.absent import ADVICE

    if name in ADVICE:
        which = f"{name!r}, which is not in dlcore; {ADVICE[name]}"
        return AttributeError(f"{module}: expected a public name, got {which}", name=name)
    hint = "" if name.startswith("_") else suggestion(name, known)
    return AttributeError(f"{module}: expected a public name, got {name!r}{hint}", name=name)


def refusing(module):
    """The `__getattr__` of a module: an error that suggests the nearest of its public names."""

    def refuse(name):
        raise no_attribute(module, name, [n for n in vars(sys.modules[module]) if n[0] != "_"])

    return refuse


def snake_case(name):
    """MeanSquaredError -> mean_squared_error, KLDivergence -> kl_divergence, Conv2D -> conv2d."""
    text = ""
    for i, c in enumerate(name):
        starts_word = c.isupper() and i > 0
        after_lower = starts_word and name[i - 1].islower()
        before_lower = starts_word and i + 1 < len(name) and name[i + 1].islower()
        text += ("_" if after_lower or before_lower else "") + c.lower()
    return text


def table_of(objects, aliases=None):
    """A table of functions and classes by name, of classes in snake_case too, and of aliases."""
    table = {o.__name__: o for o in objects}
    for o in objects:
        if isinstance(o, type):
            table.setdefault(snake_case(o.__name__), o)
    table.update(aliases or {})
    return table


def serialize(obj):
    """A function's name, or {"class_name": ..., "config": {...}} of an object; None stays None."""
    if obj is None or isinstance(obj, str):
        return obj
    if hasattr(obj, "get_config") and not isinstance(obj, type):
        return {"class_name": name_of(type(obj)), "config": obj.get_config()}
    if hasattr(obj, "__name__"):
        return name_of(obj)
    raise TypeError(f"serialize: expected a function or an object with get_config, got {obj!r}")


def is_nest(x):
    """Whether `x` is a dictionary of entries by name, and not the description of one object."""
    return isinstance(x, dict) and "class_name" not in x


def deserialize(kind, table, config, custom_objects=None):
    """What `serialize` wrote, alive again; `custom_objects` adds names to the table."""
    if custom_objects:
        with custom_object_scope(custom_objects):
            return deserialize(kind, table, config)
    if config is None:
        return None
    if isinstance(config, str) or callable(config):
        return lookup(kind, table, config)
    if not isinstance(config, dict) or "class_name" not in config:
        raise ValueError(
            f"{kind}: expected a name or a dictionary with 'class_name' and 'config', "
            f"got {config!r}"
        )
    found = lookup(kind, table, config["class_name"])
    if not isinstance(found, type):
        return found
    return found.from_config(config.get("config") or {})


def get(kind, table, identifier):
    """The object that a name, a dictionary, a class or the object itself stands for.

    Parameters
    ----------
    kind : str
    table : dict
    identifier : None, str, dict, class, function or object

    Returns
    -------
    object
        Classes are called with no arguments; None stays None.
    """
    if identifier is None:
        return None
    if isinstance(identifier, (str, dict)):
        found = deserialize(kind, table, identifier)
    else:
        found = identifier
    if isinstance(found, type):
        found = found()
    if not callable(found):
        raise TypeError(f"{kind}: expected a name, a dictionary or a callable, got {identifier!r}")
    return found


_VARIADIC_KEYWORDS = 0x08  # inspect.CO_VARKEYWORDS; importing inspect takes longer than this file


def argument_names(cls):
    """Names of the constructor's arguments, with those of the bases where it takes **kwargs, but
    for those that it gives them itself.
    """
    names = []
    fixed = getattr(cls, "_fixed_arguments", ())
    for base in cls.__mro__:
        init = base.__dict__.get("__init__")
        code = getattr(init, "__code__", None)
        if code is None:
            continue
        count = code.co_argcount + code.co_kwonlyargcount
        names += [n for n in code.co_varnames[1:count] if n not in names and n not in fixed]
        if not code.co_flags & _VARIADIC_KEYWORDS:
            break
    return names


def no_argument(who, name, known):
    """The error for an argument that a function or constructor does not have."""
    hint = suggestion(name, known, 0.5)
    return TypeError(f"{who}: expected one of its arguments, got {name!r}{hint}")


_F = TypeVar("_F", bound=Callable[..., Any])


def checked(f: _F) -> _F:
    """Decorator of functions: a TypeError for an argument they do not have names the nearest."""

    @functools.wraps(f)
    def call(*args, **kwargs):
        try:
            return f(*args, **kwargs)
        except TypeError:
            check_keywords(f, kwargs)
            raise

    return call


def check_keywords(f, kwargs):
    """Refuse what `f`, a function without **kwargs, does not have."""
    code = f.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if not code.co_flags & _VARIADIC_KEYWORDS:
        for name in kwargs:
            if name not in names:
                raise no_argument(f.__name__, name, names) from None


class Checked:
    """Base of classes: a TypeError for an argument that a constructor does not have names the
    nearest.
    """

    _further_arguments: Any = ()  # what constructors take out of **kwargs
    _fixed_arguments: Any = ()  # those of bases that constructors give themselves
    _known_arguments: Any = None

    def __new__(cls, *args, **kwargs):
        if kwargs:
            known = cls.__dict__.get("_known_arguments")
            if known is None:
                known = cls._known_arguments = {*argument_names(cls), *cls._further_arguments}
            if not kwargs.keys() <= known and not cls._takes_any():
                strange = next(name for name in kwargs if name not in known)
                raise no_argument(cls.__name__, strange, argument_names(cls))
        if args and cls.__init__ is object.__init__:
            raise TypeError(f"{cls.__name__}: expected no arguments, got {args[0]!r}")
        return super().__new__(cls)

    @classmethod
    def _takes_any(cls):
        """Whether one of the constructors may do what it likes with its **kwargs: that of a user's
        class, and those that say so.
        """
        for base in cls.__mro__:
            code = getattr(base.__dict__.get("__init__"), "__code__", None)
            if code is not None and not code.co_flags & _VARIADIC_KEYWORDS:
                return False
            own = base.__module__.startswith("dlcore.")
            if code is not None and (not own or "_any_arguments" in vars(base)):
                return True
        return False


class Configurable(Checked):
    """get_config and from_config for classes that keep every constructor argument by its name."""

    def get_config(self):
        """The constructor's arguments as a dictionary that JSON can hold."""
        names = argument_names(type(self))
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    @classmethod
    def from_config(cls, config):
        """The object that `get_config` described."""
        return cls(**config)
