"""Batches that come one by one, from generators, iterators, loaders and sequences of batches."""

import itertools
import warnings

import numpy as np

from dlcore import lookup, random


class PyDataset(lookup.Checked):
    """Batches by number: the base of data sets that are read, or made, a batch at a time.

    Subclasses define ``__getitem__(self, index)``, which returns a batch (x, y), (x, y,
    sample_weight) or (x,), and ``__len__(self)``, the number of batches. Background threads call
    `__getitem__` ahead of the training, which gets the batches in order all the same.

    Parameters
    ----------
    workers : int, default 1
        Threads that make batches; with 0 they are made when they are needed.
    use_multiprocessing : bool
        Accepted for Keras' sake: workers are threads.
    max_queue_size : int, default 10
        Most batches that are made ahead.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> class Squares(dlcore.utils.PyDataset):
    ...     def __len__(self):
    ...         return 3
    ...     def __getitem__(self, index):
    ...         x = np.arange(4.0)[:, None] + 4 * index
    ...         return x, x * x
    >>> [float(y[-1, 0]) for x, y in Squares()]
    [9.0, 49.0, 121.0]
    """

    # Also what a subclass has that does not call super().__init__().
    workers, use_multiprocessing, max_queue_size = 1, False, 10
    ordered = False  # whether the order is the data set's own affair, so that `fit` leaves it alone

    def __init__(self, workers=1, use_multiprocessing=False, max_queue_size=10):
        _check_counts(type(self).__name__, workers=workers, max_queue_size=max_queue_size)
        self.workers, self.max_queue_size = workers, max_queue_size
        self.use_multiprocessing = use_multiprocessing

    def __getitem__(self, index):
        """Batch number `index`."""
        raise NotImplementedError(
            f"{type(self).__name__}: expected a subclass that defines __getitem__(index)"
        )

    @property
    def num_batches(self):
        """The number of batches; None where there is no end."""
        try:
            return len(self)
        except TypeError:
            return None

    def on_epoch_begin(self):
        """Before the first batch of an epoch."""

    def on_epoch_end(self):
        """After the last batch of an epoch."""

    def __iter__(self):
        return Stream(type(self).__name__, self).epoch()


class Batches(PyDataset):
    """A data set with those methods of tf.data that scripts call on what
    `image_dataset_from_directory` and its kin return: views of the same source.
    """

    def map(self, map_func, **kwargs):
        """The same batches after ``map_func(x, y)`` (or ``map_func(x)`` where there is no y).

        Parameters
        ----------
        map_func : callable
        **kwargs
            Accepted for the sake of scripts written for tf.data.

        Examples
        --------
        >>> import numpy as np, dlcore
        >>> loader = dlcore.data.DataLoader((np.arange(4.0), np.arange(4)))
        >>> [x.tolist() for x in loader.map(lambda x, y: x / 2)]
        [[0.0, 0.5, 1.0, 1.5]]
        """
        return _View(self, lambda b: map_func(*b) if isinstance(b, tuple) else map_func(b))

    def take(self, count):
        """The first `count` batches of each epoch (all for -1)."""
        return _View(self, numbers=slice(None if count < 0 else count))

    def skip(self, count):
        """What `take` leaves."""
        return _View(self, numbers=slice(len(self) if count < 0 else count, None))

    def cache(self):
        """The data set itself."""
        return self

    def prefetch(self, buffer_size=None):
        """The data set itself, whose threads read ahead already."""
        return self


class _View(Batches):
    """Some batches of another data set, changed."""

    def __init__(self, source, change=None, numbers=slice(None)):
        super().__init__(source.workers, False, source.max_queue_size)
        self.source, self.change, self.numbers = source, change, numbers
        self.ordered = source.ordered

    def __len__(self):
        return len(self._numbers())

    def __getitem__(self, index):
        batch = self.source[self._numbers()[index]]
        return batch if self.change is None else self.change(batch)

    def _numbers(self):
        return range(len(self.source))[self.numbers]

    def on_epoch_begin(self):
        self.source.on_epoch_begin()

    def on_epoch_end(self):
        self.source.on_epoch_end()


def _check_counts(who, **counts):
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 0:
            raise ValueError(f"{who}: expected {name} as an int above -1, got {count!r}")


def prefetched(get, items, workers, ahead):
    """get(item) for every item, in order, made by threads.

    Closing the generator (which its end and an exception do) drops what was made ahead and waits
    for the threads; Ctrl-C does not wait.

    Parameters
    ----------
    get : callable
    items : iterable
    workers : int
        Threads; 0 for none.
    ahead : int
        Most results that wait for being taken.
    """
    if workers == 0:
        yield from map(get, items)
        return
    from collections import deque
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(workers, thread_name_prefix="dlcore-batches")
    waiting, patient = deque(), True
    try:
        for item in items:
            waiting.append(pool.submit(get, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except KeyboardInterrupt:
        patient = False
        raise
    finally:
        pool.shutdown(wait=patient, cancel_futures=True)


_ARRAYS = ("__array__", "__array_interface__", "__cuda_array_interface__", "__dlpack__")


def is_batches(x):
    """Whether `x` gives batches one by one, and is not array-like itself."""
    if isinstance(x, (list, tuple, dict, str, bytes, range)):
        return False
    if any(hasattr(x, name) for name in _ARRAYS) or _has_buffer(x):
        return False
    return hasattr(x, "__next__") or hasattr(x, "__iter__") or _is_sequence(x)


def _is_sequence(x):
    return hasattr(x, "__getitem__") and (hasattr(x, "__len__") or isinstance(x, PyDataset))


def _has_buffer(x):
    try:
        memoryview(x)
    except TypeError:
        return False
    return True


class OutOfData(ValueError):
    """A source that has no batch left for another epoch."""


class Stream:
    """The epochs of a source of batches.

    A sequence of batches (with ``[index]`` and ``len``) and what can be iterated again start anew
    each epoch; an iterator or generator goes on where the last epoch ended, and is read in the
    caller's thread, never ahead of need.

    Parameters
    ----------
    who : str
        For messages: "fit", ...
    source : PyDataset, sequence of batches, iterator or iterable
    shuffle : bool
        Whether a sequence gives its batches in a new random order each epoch.
    class_weight : dict, optional
        For those who use the batches.
    """

    def __init__(self, who, source, shuffle=False, class_weight=None):
        self.who, self.source, self.class_weight = who, source, class_weight
        self.shuffle = shuffle and not getattr(source, "ordered", False)
        self.kind = "generator" if hasattr(source, "__next__") else type(source).__name__
        self.steps = self._count()
        self._left = iter(())  # numbers of batches

    def _count(self):
        """The batches of an epoch, where that is known."""
        source = self.source
        if isinstance(source, PyDataset):
            return source.num_batches
        try:
            return None if hasattr(source, "__next__") else len(source)
        except TypeError:
            return None

    def limit(self, what, steps):
        """The batches an epoch takes when `steps` are asked for; None: to the end.

        Raises
        ------
        ValueError
            If there is no end, or no batch.
        """
        endless = isinstance(self.source, PyDataset) and self.steps is None
        if steps is None and endless:
            raise ValueError(f"{self.who}: expected {what} for a {self.kind} without end, got None")
        if self.steps == 0:
            raise ValueError(f"{self.who}: expected batches from the {self.kind}, got none")
        if steps is None or self.steps is None:
            return self.steps if steps is None else steps
        return min(steps, self.steps)

    def epoch(self, limit=None, goes_on=False):
        """The batches of one epoch, at most `limit`; to be closed when it is left early.

        Where it `goes_on`, a sequence of more batches begins with those that the epoch before left.
        """
        if not goes_on:
            self._left = iter(())
        begin = getattr(self.source, "on_epoch_begin", None)
        end = getattr(self.source, "on_epoch_end", None)
        if begin is not None:
            begin()
        yield from self._checked(limit)
        if end is not None:
            end()

    def _checked(self, limit):
        """The batches, with one sentence where there is none or the source raises."""
        step, batches = 0, None
        try:
            while limit is None or step < limit:
                try:
                    batches = self._batches(limit) if batches is None else batches
                    batch = next(batches)
                except StopIteration:
                    break
                except Exception as error:
                    raise RuntimeError(
                        f"{self.who}: expected batch {step + 1} from the {self.kind},"
                        f" got {type(error).__name__}: {error}"
                    ) from error
                step += 1
                yield batch
        finally:
            if batches is not None and batches is not self.source and hasattr(batches, "close"):
                batches.close()
        if step == 0 and limit != 0:
            raise OutOfData(
                f"{self.who}: expected batches from the {self.kind}, got none;"
                " one that ends cannot serve several epochs unless their steps are given"
            )
        if limit is not None and step < limit:
            warnings.warn(
                f"{self.who}: expected {limit} batches from the {self.kind}, got {step}",
                stacklevel=2,
            )

    def _batches(self, limit):
        if not _is_sequence(self.source):
            return iter(self.source)
        indices = self._order(limit)
        workers = getattr(self.source, "workers", 0)
        ahead = getattr(self.source, "max_queue_size", 10)
        return prefetched(self.source.__getitem__, indices, workers, ahead)

    def _order(self, limit):
        if self.steps is None and limit is None:
            return itertools.count()
        order = list(itertools.islice(self._left, limit))
        if not order:
            self._left = itertools.count() if self.steps is None else range(self.steps)
            if self.shuffle and self.steps is not None:
                self._left = random.global_rng().permutation(self.steps).tolist()
            self._left = iter(self._left)
            order = list(itertools.islice(self._left, limit))
        return order


def pack_batch(x, y=None, sample_weight=None):
    """A batch as steps get it: x, (x, y) or (x, y, sample_weight)."""
    if y is None and sample_weight is None:
        return (x,) if isinstance(x, (tuple, list)) else x
    return (x, y) if sample_weight is None else (x, y, sample_weight)


def unpack(who, batch):
    """(x, y, sample_weight) of a batch; what is not there is None.

    Raises
    ------
    ValueError
        If the batch is a tuple of another length.
    """
    if not isinstance(batch, (tuple, list)):
        return batch, None, None
    if not 1 <= len(batch) <= 3:
        raise ValueError(
            f"{who}: expected batches (x, y) or (x, y, sample_weight), got {len(batch)} entries"
        )
    return (*batch, None, None)[:3]
