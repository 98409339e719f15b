"""Cutting arrays into parts, and labels into one-hot rows."""

import itertools

import numpy as np

from dlcore import config, lookup


@lookup.checked
def split(*arrays, fractions=(0.8, 0.2), stratify=None, shuffle=True, seed=None):
    """Cut arrays of equal length into parts.

    Parameters
    ----------
    *arrays : array_like
        Arrays with n rows each; row i of one belongs to row i of the others.
    fractions : sequence of float
        Size of each part as a share of n; together 1.
    stratify : array_like (n,), optional
        Labels; every part gets each label in the same proportion, to within one row.
    shuffle : bool
        Whether rows are drawn at random (always so with `stratify`).
    seed : int, optional
        Same seed, same parts.

    Returns
    -------
    list of tuple of ndarray
        One tuple a part, with one array for each array given.

    Examples
    --------
    >>> import numpy as np
    >>> (a,), (b,) = split(np.arange(10), fractions=(0.7, 0.3), shuffle=False)
    >>> a.tolist(), b.tolist()
    ([0, 1, 2, 3, 4, 5, 6], [7, 8, 9])
    """
    arrays = _rows("split", arrays)
    if not fractions or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"split: expected fractions that sum to 1, got {tuple(fractions)}")
    indices = _cut("split", len(arrays[0]), fractions, stratify, shuffle, seed)
    return [tuple(array[index] for array in arrays) for index in indices]


@lookup.checked
def train_test_split(
    *arrays, test_size=0.25, train_size=None, stratify=None, shuffle=True, seed=None
):
    """Cut arrays of equal length into a training and a test part, in scikit-learn's order.

    Parameters
    ----------
    *arrays : array_like
        Arrays with n rows each.
    test_size : float or int
        Share of n in (0, 1), or a number of rows.
    train_size : float or int, optional
        The same for the training part; by default all other rows.
    stratify : array_like (n,), optional
        Labels; both parts get each label in the same proportion, to within one row.
    shuffle : bool
        Whether rows are drawn at random (always so with `stratify`).
    seed : int, optional
        Same seed, same parts.

    Returns
    -------
    list of ndarray
        a_train, a_test, b_train, b_test, ... for arrays a, b, ...

    Examples
    --------
    >>> import numpy as np
    >>> x_train, x_test = train_test_split(np.arange(8), test_size=2, seed=1)
    >>> len(x_train), len(x_test)
    (6, 2)
    """
    arrays = _rows("train_test_split", arrays)
    n = len(arrays[0])
    test = _share("test_size", test_size, n)
    train = _share("train_size", train_size, n) if train_size is not None else 1 - test
    if train + test > 1 + 1e-9:
        raise ValueError(
            f"train_test_split: expected test_size and train_size within {n} rows, "
            f"got {test_size} and {train_size}"
        )
    fractions = (train, 1 - train - test, test)
    train, _, test = _cut("train_test_split", n, fractions, stratify, shuffle, seed)
    return [array[index] for array in arrays for index in (train, test)]


def one_hot(labels, num_classes=None, dtype=None):
    """Rows with a 1 at the label's place and 0 elsewhere.

    Parameters
    ----------
    labels : array_like of int
        Any shape, values in [0, num_classes); a last axis of size 1 is dropped.
    num_classes : int, optional
        Number of classes; by default the largest label + 1.
    dtype : str, optional
        By default `config.floatx()`.

    Returns
    -------
    ndarray (*labels.shape, num_classes)

    Raises
    ------
    ValueError
        A label is not an integer or not in range.

    Examples
    --------
    >>> one_hot([0, 2]).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    given = np.asarray(labels)
    if given.dtype.kind not in "biuf":
        raise ValueError(f"to_categorical: expected integer labels, got dtype {given.dtype}")
    if given.dtype.kind == "f" and not np.array_equal(given, np.floor(given)):
        wrong = given[given != np.floor(given)].flat[0]
        raise ValueError(f"to_categorical: expected integer labels, got {wrong}")
    y = given.astype(np.int64)
    if y.ndim > 1 and y.shape[-1] == 1:
        y = y[..., 0]
    if num_classes is None:
        num_classes = int(y.max()) + 1 if y.size else 0
    if y.size and (y.min() < 0 or y.max() >= num_classes):
        wrong = y[(y < 0) | (y >= num_classes)].flat[0]
        raise ValueError(f"to_categorical: expected labels in [0, {num_classes}), got {wrong}")
    out = np.zeros((y.size, num_classes), dtype or config.floatx())
    out[np.arange(y.size), y.ravel()] = 1
    return out.reshape(*y.shape, num_classes)


def _rows(name, arrays):
    """The arrays as ndarrays, all with the same number of rows."""
    arrays = [np.asarray(a) for a in arrays]
    sizes = [a.shape[0] if a.ndim else None for a in arrays]
    if not arrays or None in sizes or len(set(sizes)) > 1:
        raise ValueError(f"{name}: expected arrays with the same number of rows, got {sizes}")
    return arrays


def _share(name, size, n):
    """`size` (a share or a number of rows) as a share of n."""
    if isinstance(size, (int, np.integer)):
        if 0 <= size <= n:
            return size / n if n else 0.0
    elif 0 < size < 1:
        return float(size)
    raise ValueError(
        f"train_test_split: expected {name} in (0, 1) or a number of rows up to {n}, got {size}"
    )


def _cut(name, n, fractions, stratify, shuffle, seed):
    """Indices of the rows of each part."""
    rng = np.random.default_rng(seed)
    bounds = np.round(np.cumsum((0.0, *fractions)) * n).astype(np.int64)
    bounds[-1] = n
    if stratify is None:
        order = rng.permutation(n) if shuffle else np.arange(n)
        return [order[a:b] for a, b in itertools.pairwise(bounds)]
    labels = np.asarray(stratify)
    if labels.shape != (n,):
        raise ValueError(f"{name}: expected stratify of shape ({n},), got {labels.shape}")
    # Rows in the order of their rank within their label, spread evenly over (0, 1): every run of
    # this order holds the labels in proportion.
    shuffled = rng.permutation(n)
    _, codes, counts = np.unique(labels[shuffled], return_inverse=True, return_counts=True)
    by_label = np.argsort(codes, kind="stable")
    rank = np.empty(n)
    rank[by_label] = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
    spread = (rank + 0.5) / counts[codes] if n else rank
    order = shuffled[np.argsort(spread, kind="stable")]
    return [rng.permutation(order[a:b]) for a, b in itertools.pairwise(bounds)]


@lookup.checked
def split_dataset(
    dataset, left_size=None, right_size=None, shuffle=False, seed=None, preferred_backend=None
):
    """Cut arrays, or a source of batches, into two parts.

    Parameters
    ----------
    dataset : ndarray, tuple or list of ndarray, or source of batches
    left_size, right_size : float or int, optional
        Share in (0, 1), or a number of rows (of batches, for a source); one may be left out.
    shuffle : bool
    seed : int, optional
    preferred_backend
        Accepted for Keras' sake.

    Returns
    -------
    left, right
        Like `dataset`: an array, tuples of arrays, or lists of batches.

    Examples
    --------
    >>> import numpy as np
    >>> (x, y), (x_test, y_test) = split_dataset((np.arange(10), np.arange(10)), 0.8)
    >>> len(x), len(x_test)
    (8, 2)
    """
    who = "split_dataset"
    if left_size is None and right_size is None:
        raise ValueError(f"{who}: expected left_size or right_size, got none")
    single = isinstance(dataset, np.ndarray)
    several = isinstance(dataset, (tuple, list))
    arrays = _rows(who, [dataset] if single else dataset) if single or several else None
    items = list(dataset) if arrays is None else None
    n = len(items) if arrays is None else len(arrays[0])
    left, right = (_count(who, size, n) for size in (left_size, right_size))
    left = n - right if left is None else left
    right = n - left if right is None else right
    if left < 1 or right < 1 or left + right > n:
        raise ValueError(f"{who}: expected parts of 1..{n - 1} of {n}, got {left} and {right}")
    order = np.random.default_rng(seed).permutation(n) if shuffle else np.arange(n)
    parts = order[:left], order[left : left + right]
    if arrays is None:
        return tuple([items[i] for i in part] for part in parts)
    cut = [tuple(a[part] for a in arrays) for part in parts]
    return tuple(part[0] for part in cut) if single else tuple(cut)


def _count(who, size, n):
    """A share of n, or a number, as a number."""
    if size is None or (isinstance(size, (int, np.integer)) and not isinstance(size, bool)):
        return size
    if not 0 < size < 1:
        raise ValueError(f"{who}: expected a share between 0 and 1 or an int, got {size!r}")
    return round(size * n)
