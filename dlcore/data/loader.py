"""Reads, changes and batches samples in background threads."""

import numpy as np

from dlcore import random
from dlcore.data.batches import Batches, _check_counts

_SEEDS = 2**63


class DataLoader(Batches):
    """Batches of samples, for `fit`, `evaluate` and `predict`.

    The same seed gives the same batches in the same order, for any number of workers.

    Parameters
    ----------
    source : sequence, or tuple of arrays
        ``source[i]`` is sample i: an array, or a tuple (x, y). A tuple of arrays with one row per
        sample, (x, y), is a source too.
    batch_size : int, default 32
    shuffle : bool
        Whether each epoch takes the samples in a new random order.
    seed : int, optional
        Of the order and of the generators that `transform` and `batch_transform` get; by default
        one that `dlcore.utils.set_random_seed` determines.
    transform : callable, optional
        ``transform(sample, rng)`` returns the sample to use instead; rng is a
        `numpy.random.Generator`.
    batch_transform : callable, optional
        ``batch_transform(batch, rng)``, the same for whole batches.
    drop_remainder : bool
        Whether a last batch of fewer samples is left out.
    workers : int, default 2
        Threads; with 0 batches are made when they are needed.
    max_queue_size : int, default 10
        Most batches that are made ahead.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> x, y = np.arange(6.0), np.arange(6) % 2
    >>> loader = dlcore.data.DataLoader((x, y), batch_size=4)
    >>> [xs.tolist() for xs, ys in loader]
    [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0]]
    """

    ordered = True

    def __init__(
        self,
        source,
        batch_size=32,
        shuffle=False,
        seed=None,
        transform=None,
        batch_transform=None,
        drop_remainder=False,
        workers=2,
        max_queue_size=10,
    ):
        super().__init__(workers, False, max_queue_size)
        _check_counts("DataLoader", batch_size=batch_size)
        if batch_size == 0:
            raise ValueError("DataLoader: expected a positive batch_size, got 0")
        self.source, self.batch_size, self.shuffle = _rows(source), int(batch_size), shuffle
        self.transform, self.batch_transform = transform, batch_transform
        self.drop_remainder = drop_remainder
        if seed is not None and not (isinstance(seed, (int, np.integer)) and seed >= 0):
            raise ValueError(f"DataLoader: expected a seed as an int above -1, got {seed!r}")
        self.seed = int(random.global_rng().integers(_SEEDS) if seed is None else seed)
        self._epoch, self._order = -1, range(len(self.source))

    def __len__(self):
        whole, rest = divmod(len(self.source), self.batch_size)
        return whole + (rest > 0 and not self.drop_remainder)

    def on_epoch_begin(self):
        self._epoch += 1
        if self.shuffle:
            rng = np.random.default_rng((self.seed, self._epoch))
            self._order = rng.permutation(len(self.source))

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"DataLoader: expected an index in 0..{len(self) - 1}, got {index}")
        rng = np.random.default_rng((self.seed, max(self._epoch, 0), 1 + index))
        rows = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        if self.transform is None and isinstance(self.source, _Rows):
            batch = self.source.take(np.asarray(rows))
        else:
            samples = [self.source[int(i)] for i in rows]
            if self.transform is not None:
                samples = [self.transform(sample, rng) for sample in samples]
            batch = _stack(samples)
        return batch if self.batch_transform is None else self.batch_transform(batch, rng)


class _Rows:
    """Arrays of equal length as a sequence of samples."""

    def __init__(self, arrays):
        self.arrays = [np.asarray(a) for a in arrays]
        sizes = [a.shape[0] if a.ndim else None for a in self.arrays]
        if None in sizes or len(set(sizes)) != 1:
            raise ValueError(
                f"DataLoader: expected arrays with the same number of rows, got {sizes}"
            )

    def __len__(self):
        return len(self.arrays[0])

    def __getitem__(self, i):
        return self.take(i)

    def take(self, rows):
        return tuple(a[rows] for a in self.arrays)


def _rows(source):
    if isinstance(source, tuple):
        return _Rows(source)
    if not hasattr(source, "__getitem__") or not hasattr(source, "__len__"):
        raise TypeError(
            "DataLoader: expected a sequence of samples or a tuple of arrays,"
            f" got {type(source).__name__}"
        )
    return source


def _stack(samples):
    """Samples as a batch."""
    if isinstance(samples[0], (tuple, list)):
        return tuple(_stack(parts) for parts in zip(*samples, strict=True))
    shapes = {np.shape(s) for s in samples}
    if len(shapes) > 1:
        first, second, *_ = sorted(shapes)
        raise ValueError(f"DataLoader: expected samples of one shape, got {first} and {second}")
    return np.stack(samples)
