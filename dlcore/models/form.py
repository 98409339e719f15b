"""How the inputs or outputs of a model are nested and called, and what callers give for them.

A form has one entry per array, in order. Callers may give the same nesting, a flat list, or a
dictionary by name; for a single entry also the bare array.
"""

from dlcore.program.function import flatten, unflatten


class Form:
    """The nesting and the names of several arrays.

    Parameters
    ----------
    who : str
        Name of the model, for messages.
    what : str
        "input" or "output".
    tree : nested tuples, lists and dicts
        One leaf with a shape per array.
    names : list of str, optional
        By default the keys of a dictionary, else output_1, output_2, ...
    """

    def __init__(self, who, what, tree, names=None):
        leaves, self.structure = flatten(tree)
        self.who, self.what = who, what
        self.ndims = [len(x.shape) for x in leaves]
        if isinstance(tree, dict) and len(tree) == len(leaves):
            names = list(tree)
        self.names = unique(names or [f"{what}_{i + 1}" for i in range(len(leaves))])

    def __len__(self):
        return len(self.names)

    @property
    def single(self):
        """Whether there is one array that is not in a list or dictionary."""
        return self.structure is None

    def flatten(self, given, argument=None):
        """The entries of `given` in order.

        Parameters
        ----------
        given : nested values, or a dictionary by name
            A dictionary may leave out names of outputs; their entries are None.
        argument : str, optional
            What `compile` calls it ("loss", "metrics"); by default `given` holds arrays.
        """
        if not self.single and _matches(self.structure, given):
            return _walk(self.structure, given)
        if isinstance(given, dict):
            return self._by_name(given, argument)
        several = isinstance(given, (list, tuple))
        if len(self) == 1:
            one = several and len(given) == 1
            inside = one and (argument or getattr(given[0], "ndim", None) == self.ndims[0])
            return [given[0] if inside else given]
        if not several or len(given) != len(self):
            raise self._wrong(_shown(given), argument)
        return list(given)

    def fits(self, given):
        """Whether `flatten` takes the arrays in `given`."""
        try:
            entries = self.flatten(given)
        except ValueError:
            return False
        nested = (e for e in entries if isinstance(e, (tuple, dict)))
        return not any(hasattr(x, "shape") for e in nested for x in flatten(e)[0])

    def nest(self, entries):
        """The entries in the model's own nesting."""
        return entries[0] if self.single else unflatten(self.structure, entries)

    def _by_name(self, given, argument):
        unknown = any(name not in self.names for name in given)
        missing = self.what == "input" and any(name not in given for name in self.names)
        if unknown or missing:
            raise self._wrong(", ".join(map(str, given)) or "nothing", argument)
        return [given.get(name) for name in self.names]

    def _wrong(self, got, argument):
        names = ", ".join(self.names)
        if argument is not None:
            return ValueError(f"compile: expected {argument} for the outputs {names}, got {got}")
        count = f"{len(self)} {self.what}{'s' if len(self) > 1 else ''}"
        return ValueError(f"{self.who}: expected {count} ({names}), got {got}")


def _matches(structure, given):
    """Whether `given` is nested like the structure, lists and tuples being the same."""
    if structure is None:
        return True
    kind, keys, children = structure
    if kind is dict:
        same = isinstance(given, dict) and set(given) == set(keys)
        parts = [given[k] for k in keys] if same else ()
    else:
        same = isinstance(given, (list, tuple)) and len(given) == keys
        parts = given
    return same and all(_matches(c, p) for c, p in zip(children, parts, strict=True))


def _walk(structure, given):
    """The leaves of what matches."""
    if structure is None:
        return [given]
    kind, keys, children = structure
    parts = [given[k] for k in keys] if kind is dict else given
    return [x for c, p in zip(children, parts, strict=True) for x in _walk(c, p)]


def _shown(given):
    if isinstance(given, (list, tuple)):
        return f"a list of {len(given)}"
    shape = getattr(given, "shape", None)
    return f"one of shape {tuple(shape)}" if shape is not None else repr(given)


def unique(names):
    """The names, with a number where one is taken."""
    taken = []
    for name in names:
        base, i = name, 0
        while name in taken:
            i += 1
            name = f"{base}_{i}"
        taken.append(name)
    return taken
