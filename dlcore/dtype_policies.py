"""DType policies: in which type a layer computes, and in which it keeps its weights.

    policy             computes in    keeps weights in
    "float32"          float32        float32
    "float64"          float64        float64
    "mixed_bfloat16"   bfloat16       float32
    "mixed_float16"    float16        float32

Micikevicius et al. 2018, "Mixed Precision Training", https://arxiv.org/abs/1710.03740.
"""

from typing import TYPE_CHECKING

import numpy as np

from dlcore import config, lookup

_TYPES = {
    "float32": ("float32", "float32"),
    "float64": ("float64", "float64"),
    "mixed_bfloat16": ("bfloat16", "float32"),
    "mixed_float16": ("float16", "float32"),
}


class DTypePolicy(lookup.Checked):
    """The types that a layer computes and keeps its weights in, by a name.

    Parameters
    ----------
    name : {"float32", "float64", "mixed_bfloat16", "mixed_float16"}, optional
        By default that of `config.dtype_policy()`.

    Raises
    ------
    ValueError
        For any other name.

    Examples
    --------
    >>> import dlcore
    >>> policy = dlcore.DTypePolicy("mixed_bfloat16")
    >>> policy.compute_dtype, policy.variable_dtype
    ('bfloat16', 'float32')
    """

    def __init__(self, name=None):
        self._name = config.dtype_policy().name if name is None else name
        self._types = _types(self._name)

    @property
    def name(self):
        return self._name

    @property
    def compute_dtype(self):
        """The type of what layers compute and return."""
        return self._types[0]

    @property
    def variable_dtype(self):
        """The type of the weights."""
        return self._types[1]

    def get_config(self):
        return {"name": self._name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __eq__(self, other):
        return isinstance(other, DTypePolicy) and self._name == other._name

    def __hash__(self):
        return hash(self._name)

    def __repr__(self):
        return f'<DTypePolicy "{self._name}">'


def _types(name):
    if not isinstance(name, str):
        raise TypeError(f"dtype policy: expected a name, got {name!r}")
    if name in ("bfloat16", "float16"):
        raise ValueError(
            f"dtype policy: expected weights in float32 or float64, got {name!r};"
            f" use 'mixed_{name}'"
        )
    return lookup.lookup("dtype policy", _TYPES, name)


_known = {}
FloatDTypePolicy = DTypePolicy  # its name in older scripts
_TABLE = {"DTypePolicy": DTypePolicy}


def get(identifier):
    """The policy that a name, a type (``np.float32``), a dictionary or a `DTypePolicy` stands for;
    None for that of `config.dtype_policy()`."""
    if identifier is None:
        return config.dtype_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if not isinstance(identifier, str):
        try:
            identifier = np.dtype(identifier).name
        except TypeError:
            raise TypeError(f"dtype policy: expected a name, got {identifier!r}") from None
    if identifier not in _known:
        _known[identifier] = DTypePolicy(identifier)
    return _known[identifier]


def serialize(policy):
    """{"class_name": "DTypePolicy", "config": ...} of a policy."""
    return lookup.serialize(policy)


def deserialize(config, custom_objects=None):
    """The policy that `serialize` wrote, or that of a name."""
    if isinstance(config, str):
        return get(config)
    return lookup.deserialize("dtype policy", _TABLE, config, custom_objects)


if not TYPE_CHECKING:  # checkers of types know what is there
    __getattr__ = lookup.refusing(__name__)
