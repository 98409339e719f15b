"""Progbar: the progress bar of loops that users write themselves."""

import sys
import time

import numpy as np

from dlcore import lookup
from dlcore.callbacks import progress


class Progbar(lookup.Checked):
    """A line that shows how far a loop is, and figures.

    Parameters
    ----------
    target : int or None
        Steps in all, where known.
    width : int, default 20
        Of the bar, in characters.
    verbose : {1, 2, 0}
        A bar that moves (where there is a terminal), a line at the end, or nothing.
    interval : float, default 0.05
        Least seconds between two changes of the bar.
    stateful_metrics : list of str, optional
        Figures to show as they are; others are averaged over the steps.
    stateless_metrics : list of str, optional
        Figures to average, where all others are to be shown as they are.
    unit_name : str, default "step"

    Examples
    --------
    >>> import dlcore
    >>> bar = dlcore.utils.Progbar(2, verbose=0)
    >>> bar.update(1, [("loss", 3.0)])
    >>> bar.add(1, [("loss", 1.0)])
    >>> bar.figures()
    {'loss': 2.0}
    """

    def __init__(
        self, target, width=20, verbose=1, interval=0.05, stateful_metrics=None,
        stateless_metrics=None, unit_name="step",
    ):  # fmt: skip
        self.target, self.width, self.verbose, self.interval = target, width, verbose, interval
        self.stateful_metrics, self.unit_name = set(stateful_metrics or ()), unit_name
        self.stateless_metrics = None if stateless_metrics is None else set(stateless_metrics)
        self._sums = {}  # name -> (sum of value * steps, steps)
        self._seen = self._shown = 0
        self._start = time.perf_counter()
        self._last = -interval

    def add(self, n, values=None):
        """`n` more steps are done."""
        self.update(self._seen + n, values)

    def update(self, current, values=None, finalize=None):
        """`current` steps are done.

        Parameters
        ----------
        values : list of (name, value), optional
            Figures of these steps.
        finalize : bool, optional
            Whether this is the end; by default once `target` steps are done.
        """
        for name, value in values or ():
            fresh = name not in self._sums or self._is_stateful(name)
            total, count = (0.0, 0) if fresh else self._sums[name]
            weight = max(current - self._seen, 1)
            self._sums[name] = total + float(np.mean(value)) * weight, count + weight
        self._seen = current
        if finalize is None:
            finalize = self.target is not None and current >= self.target
        self._show(finalize)

    def _is_stateful(self, name):
        named = self.stateless_metrics
        return name in self.stateful_metrics or (named is not None and name not in named)

    def figures(self):
        """{name: mean}."""
        return {name: total / max(count, 1) for name, (total, count) in self._sums.items()}

    def _show(self, finalize):
        now = time.perf_counter() - self._start
        live = self.verbose == 1 and progress.is_live()
        if not self.verbose or not (finalize or (live and now - self._last >= self.interval)):
            return
        self._last = now
        figures = progress.figures_text(self.figures())
        per_unit = progress.duration(now / max(self._seen, 1))
        line = f"{self._place()} {per_unit}/{self.unit_name}{' - ' if figures else ''}{figures}"
        sys.stdout.write(("\r" if live else "") + line.ljust(self._shown) + "\n" * bool(finalize))
        sys.stdout.flush()
        self._shown = 0 if finalize else len(line)

    def _place(self):
        if self.target is None:
            return f"{self._seen}/Unknown"
        filled = min(self.width, self.width * self._seen // max(self.target, 1))
        bar = "=" * filled + "." * (self.width - filled)
        return f"{self._seen}/{self.target} [{bar}]"
