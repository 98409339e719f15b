"""Runs a step over all batches of some arrays, in few native calls.

A whole batch and the last partial one are two programs. One native call runs steps until
`_CALL_MS` have passed: long enough that Python costs nothing, short enough that Ctrl-C and the
progress bar feel immediate. A callback that wants every batch gets calls of one step.
"""

_CALL_MS = 80


class Runner:
    """One program per batch size over the same arrays.

    Parameters
    ----------
    programs : callable
        ``programs(batch)`` is the BatchProgram for that batch size.
    data : Data
    batch : int
    changes : callable
        A number that changes where the programs are to be asked for anew.
    """

    def __init__(self, programs, data, batch, changes):
        self.data, self.batch = data, batch
        self.whole, self.rest = divmod(data.rows, batch)
        self.steps = self.whole + (self.rest > 0)
        self._programs, self._changes = programs, changes
        self._bind()

    def _bind(self):
        self._program = self._programs(self.batch) if self.whole else None
        self._rest = self._programs(self.rest) if self.rest else None
        self._bound = self._changes()

    def run(
        self, index=None, limit=None, before=None, after=None, progress=None, outputs=None, first=0
    ):  # fmt: skip
        """Go over the rows once, in the order of `index`.

        Parameters
        ----------
        limit : int, optional
            Most steps to run.
        first : int
            The batch to begin with.
        before, after : callable, optional
            Called with the number of each step; a true result of `after` ends the run.
        progress : callable, optional
            Called with the number of steps done, after every native call; a true result ends the
            run.
        """
        left = self.steps - first
        total = left if limit is None else min(limit, left)
        single = before is not None or after is not None
        step = 0
        while step < total:
            if before is not None:
                before(step)
            step += self._native(first + step, 1 if single else total - step, index, outputs)
            stop = progress is not None and progress(step)
            if after is not None:
                stop = after(step - 1) or stop
            if stop:
                break

    def _native(self, step, count, index, outputs):
        """Run up to `count` steps; returns how many."""
        if self._bound != self._changes():  # by a callback
            self._bind()
        start, arrays = step * self.batch, self.data.placed()
        if step >= self.whole:
            return self._rest.run(arrays, start, 1, index, outputs)
        count = min(count, self.whole - step)
        return self._program.run(arrays, start, count, index, outputs, _CALL_MS)
