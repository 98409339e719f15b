"""rearrange: axes taken apart, moved and put together, as a pattern of their names says."""

import math
import re

from dlcore.ops.calling import traceable
from dlcore.ops.op import to_tensor
from dlcore.ops.shaping import reshape, transpose

_PART = re.compile(r"\(([^()]*)\)|(\.\.\.|[A-Za-z_]\w*|1)|(\S)")


def _groups(side, pattern, hidden):
    """Lists of names, one for each axis of a side of the pattern; "..." stands for `hidden`."""
    groups = []
    for match in _PART.finditer(side):
        inner, name, wrong = match.groups()
        if wrong:
            raise ValueError(f"rearrange: expected names of axes in {pattern!r}, got {wrong!r}")
        if name == "...":
            groups += [[n] for n in hidden]
        else:
            names = [name] if name else inner.split()
            groups.append([n for n in names if n != "1"])
    return groups


def rearrange(tensor, pattern, **axes_lengths):
    """The axes of `tensor` in another order, with some split or joined.

    Parameters
    ----------
    tensor : array_like
    pattern : str
        Names of the axes, "->", and the names in their new order. Names in brackets together make
        one axis; "..." stands for all axes without names, 1 for an axis of size 1.
    **axes_lengths : int
        Sizes of names in brackets; one of each pair of brackets may be left out.

    Examples
    --------
    >>> import numpy as np
    >>> from dlcore import ops
    >>> ops.rearrange(np.zeros((2, 8, 6, 3)), "b (h p) (w q) c -> b (h w) (p q c)", p=4, q=3).shape
    (2, 4, 36)
    """
    return _rearrange(tensor, pattern, tuple(sorted(axes_lengths.items())))


@traceable()
def _rearrange(x, pattern, lengths):
    x, sizes = to_tensor(x), dict(lengths)
    left, arrow, right = pattern.partition("->")
    named = len(_groups(left.replace("...", " "), pattern, ()))
    hidden = [f"...{i}" for i in range(x.ndim - named)] if "..." in left else []
    groups, result = _groups(left, pattern, hidden), _groups(right, pattern, hidden)
    names, new = ([n for g in gs for n in g] for gs in (groups, result))
    if not arrow or sorted(names) != sorted(new) or len(set(names)) < len(names):
        raise ValueError(
            f"rearrange: expected each name once on both sides of '->', got {pattern!r}"
        )
    if len(groups) != x.ndim:
        raise ValueError(f"rearrange: expected a tensor for {pattern!r}, got shape {x.shape}")
    for group, n in zip(groups, x.shape, strict=True):
        unknown = [name for name in group if name not in sizes]
        known = math.prod(sizes[name] for name in group if name in sizes)
        if len(unknown) == 1 and known and n % known == 0:
            sizes[unknown[0]] = n // known
        elif unknown or known != n:
            raise ValueError(
                f"rearrange: expected sizes of {' '.join(group) or 1} whose product is {n}, "
                f"got {', '.join(f'{name}={sizes.get(name)}' for name in group) or 1}"
            )
    y = transpose(reshape(x, tuple(sizes[n] for n in names)), [names.index(n) for n in new])
    return reshape(y, tuple(math.prod(sizes[n] for n in group) for group in result))
