"""Nested lists, tuples and dictionaries, with the names of `keras.tree`.

A leaf is everything else, None too. Dictionaries have the order of their sorted keys, but for an
`OrderedDict`; what is returned has the types and orders of what was given.
"""

from collections import OrderedDict


class MAP_TO_NONE:
    """What a function given to `traverse` returns for None, as None means to go on."""


def is_nested(structure):
    """Whether `structure` is a list, tuple or dictionary.

    Examples
    --------
    >>> from dlcore import tree
    >>> tree.is_nested((1, 2)), tree.is_nested("ab")
    (True, False)
    """
    return isinstance(structure, (list, tuple, dict))


def _items(structure):
    """(key, entry) of a list, tuple or dictionary, in order."""
    if not isinstance(structure, dict):
        return list(enumerate(structure))
    keys = structure if isinstance(structure, OrderedDict) else sorted(structure)
    return [(k, structure[k]) for k in keys]


def _like(structure, entries):
    """A structure of the same type with other entries, by the order of `_items`."""
    if isinstance(structure, dict):
        new = dict(zip((k for k, _ in _items(structure)), entries, strict=True))
        ordered = ((k, new[k]) for k in structure)
        if hasattr(structure, "default_factory"):
            return type(structure)(structure.default_factory, ordered)
        return type(structure)(ordered)
    kind = type(structure)
    return kind(*entries) if hasattr(structure, "_fields") else kind(entries)


def flatten_with_path(structure):
    """[(path, leaf), ...], where a path holds the keys and numbers that lead to the leaf.

    Examples
    --------
    >>> from dlcore import tree
    >>> tree.flatten_with_path({"b": [5, 6], "a": 4})
    [(('a',), 4), (('b', 0), 5), (('b', 1), 6)]
    """
    if not is_nested(structure):
        return [((), structure)]
    items = _items(structure)
    return [((k, *path), leaf) for k, x in items for path, leaf in flatten_with_path(x)]


def flatten(structure):
    """List of the leaves.

    Examples
    --------
    >>> from dlcore import tree
    >>> tree.flatten({"b": [5, 6], "a": (4,)})
    [4, 5, 6]
    """
    return [leaf for _, leaf in flatten_with_path(structure)]


def map_structure(func, *structures, none_is_leaf=True):
    """func(leaf, ...) for the leaves of structures of one form, in that form.

    Examples
    --------
    >>> from dlcore import tree
    >>> tree.map_structure(lambda a, b: a + b, {"x": [1, 2]}, {"x": [10, 20]})
    {'x': [11, 22]}
    """
    if not callable(func):
        raise TypeError(f"map_structure: expected a function, got {func!r}")
    if not structures:
        raise ValueError("map_structure: expected at least one structure, got none")
    for other in structures[1:]:
        assert_same_structure(structures[0], other)
    return _mapped(func, structures[0], structures, none_is_leaf)


def map_structure_up_to(shallow_structure, func, *structures):
    """The same, where the leaves are what stands in the places of those of `shallow_structure`.

    Examples
    --------
    >>> from dlcore import tree
    >>> tree.map_structure_up_to([0, 0], len, [(1, 2), (3,)])
    [2, 1]
    """
    if not structures:
        raise ValueError("map_structure_up_to: expected at least one structure, got none")
    return _mapped(func, shallow_structure, structures, True)


def _mapped(func, shallow, structures, none_is_leaf):
    if not is_nested(shallow):
        if shallow is None and not none_is_leaf:
            return None
        return func(*structures)
    for x in structures:
        _check_alike(shallow, x)
    entries = zip(*([x for _, x in _items(s)] for s in structures), strict=True)
    inner = zip([x for _, x in _items(shallow)], entries, strict=True)
    return _like(structures[0], [_mapped(func, s, xs, none_is_leaf) for s, xs in inner])


def _check_alike(a, b, path=()):
    """Refuse two structures whose first level differs."""
    same = is_nested(a) == is_nested(b) and isinstance(a, dict) == isinstance(b, dict)
    if same and is_nested(a):
        same = [k for k, _ in _items(a)] == [k for k, _ in _items(b)]
    if not same:
        where = f" at {list(path)}" if path else ""
        raise ValueError(f"tree: expected structures of one form{where}, got {a!r} and {b!r}")


def assert_same_structure(a, b, check_types=None):
    """Raise a ValueError unless both have the same form and the same types of containers."""
    _check_alike(a, b)
    if is_nested(a):
        if type(a) is not type(b) and not (isinstance(a, dict) and isinstance(b, dict)):
            raise ValueError(f"tree: expected structures of one form, got {a!r} and {b!r}")
        for (_, x), (_, y) in zip(_items(a), _items(b), strict=True):
            assert_same_structure(x, y)


def assert_same_paths(a, b):
    """Raise a ValueError unless the same keys and numbers lead to the leaves of both."""
    paths = [{path for path, _ in flatten_with_path(x)} for x in (a, b)]
    if paths[0] != paths[1]:
        odd = sorted(map(str, paths[0] ^ paths[1]))
        raise ValueError(f"tree: expected the same paths, got {', '.join(odd)} in one alone")


def pack_sequence_as(structure, flat_sequence):
    """The leaves of `flat_sequence` in the form of `structure`: the inverse of `flatten`.

    Examples
    --------
    >>> from dlcore import tree
    >>> tree.pack_sequence_as({"b": [0, 0], "a": 0}, [4, 5, 6])
    {'b': [5, 6], 'a': 4}
    """
    if not isinstance(flat_sequence, (list, tuple)):
        raise TypeError(f"pack_sequence_as: expected a list of leaves, got {flat_sequence!r}")
    count = len(flatten(structure))
    if count != len(flat_sequence):
        raise ValueError(f"pack_sequence_as: expected {count} leaves, got {len(flat_sequence)}")
    return _packed(structure, iter(flat_sequence))


def _packed(structure, leaves):
    if not is_nested(structure):
        return next(leaves)
    return _like(structure, [_packed(x, leaves) for _, x in _items(structure)])


def lists_to_tuples(structure):
    """The same with tuples in the place of lists."""
    if not is_nested(structure):
        return structure
    new = _like(structure, [lists_to_tuples(x) for _, x in _items(structure)])
    return tuple(new) if isinstance(new, list) else new


def map_shape_structure(func, structure):
    """func(shape) for nested shapes: lists and tuples of ints and None are leaves.

    Examples
    --------
    >>> from dlcore import tree
    >>> tree.map_shape_structure(len, {"a": (None, 3), "b": [(2,)]})
    {'a': 2, 'b': [1]}
    """
    sizes = isinstance(structure, (list, tuple)) and all(
        x is None or isinstance(x, int) for x in structure
    )
    if sizes:
        return func(tuple(structure))
    if not is_nested(structure):
        raise ValueError(f"map_shape_structure: expected a shape, got {structure!r}")
    return _like(structure, [map_shape_structure(func, x) for _, x in _items(structure)])


def traverse(func, structure, top_down=True):
    """The structure with func(x) in the place of every entry x, nested or not, for which that is
    not None; outer entries come first, or, not `top_down`, last.

    Examples
    --------
    >>> from dlcore import tree
    >>> tree.traverse(lambda x: sum(x) if isinstance(x, list) else None, {"a": [1, 2], "b": 5})
    {'a': 3, 'b': 5}
    """

    def visit(x):
        if top_down:
            new = func(x)
            if new is not None:
                return None if new is MAP_TO_NONE else new
        if is_nested(x):
            x = _like(x, [visit(y) for _, y in _items(x)])
        if not top_down:
            new = func(x)
            if new is not None:
                return None if new is MAP_TO_NONE else new
        return x

    return visit(structure)


__all__ = [
    "MAP_TO_NONE", "assert_same_paths", "assert_same_structure", "flatten", "flatten_with_path",
    "is_nested", "lists_to_tuples", "map_shape_structure", "map_structure", "map_structure_up_to",
    "pack_sequence_as", "traverse",
]  # fmt: skip
