"""Rows of the host's arrays on their way to a GPU, a piece at a time: while steps run on one, a
thread puts the next one together and copies it."""

import functools
import operator

import numpy as np

from dlcore.backends import arrays


class Feed:
    """Pieces of `rows` rows of arrays, through an index or None, from row `start` on.

    batch : rows of a step, of which pieces hold whole numbers
    carry : ``carry(side, i, array)`` copies array i of a piece to one of two places.
    """

    def __init__(self, carry, given, index, start, rows, batch):
        self._carry, self._given, self._index = carry, given, index
        self._host = [arrays.to_host(x) for x in given]
        total = len(given[0]) if index is None else len(index)
        self._rows, self._end = rows, start + (total - start) // batch * batch
        self._first = self._next = start  # of the piece in use, of the one that comes
        self._side, self._piece, self._coming = 0, None, None

    def goes_on(self, given, index, start):
        """Whether these rows come after those of the last call, or are left from it."""
        same = index is self._index and all(map(operator.is_, given, self._given))
        return same and self._first < start <= self._next

    def ends_at(self, row):
        return row == self._end

    def rows(self, start):
        """The arrays on the GPU from row `start` to the end of its piece."""
        if start == self._next:
            self._first = start
            self._next = min(start + self._rows, self._end)
            self._piece = self._bring(start) if self._coming is None else self._coming.result()
            self._side ^= 1
            ahead = self._next < self._end
            self._coming = _carrier().submit(self._bring, self._next) if ahead else None
        return [x[start - self._first :] for x in self._piece]

    def stop(self):
        """Wait for what is under way: it is not wanted."""
        if self._coming is not None:
            self._coming.exception()

    def _bring(self, start):
        rows = slice(start, min(start + self._rows, self._end))
        rows = rows if self._index is None else self._index[rows]
        return [
            self._carry(f"in{self._side}", i, np.ascontiguousarray(x[rows]))
            for i, x in enumerate(self._host)
        ]


@functools.cache
def _carrier():
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(1, "dlcore-carrier")
