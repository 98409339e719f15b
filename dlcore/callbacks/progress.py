"""The progress bar."""

import sys
import time

import numpy as np

from dlcore import config
from dlcore.callbacks.base import Callback

_REFRESH_SECONDS = 0.1
_BAR_WIDTH = 20


class ProgbarLogger(Callback):
    """The progress bar with rate and remaining time, or one line per epoch where there is no
    terminal.

    Parameters
    ----------
    verbose : 1, 2 or "auto"
        2 is always one line per epoch.
    evaluating : bool
        Whether the figures come at the end of an evaluation, not of epochs.
    """

    def __init__(self, verbose="auto", evaluating=False):
        super().__init__()
        if verbose not in (1, 2, "auto", True):
            raise ValueError(f"verbose: expected 0, 1, 2 or 'auto', got {verbose!r}")
        self._live = verbose != 2 and is_live()
        self._evaluating = evaluating
        self._shown = 0  # characters of the live line
        self._done = 0  # steps
        self._begin = self._last = 0.0
        self._title = ""

    def _start(self, title):
        self._title = title
        self._begin = self._last = time.perf_counter()
        self._done = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._start(f"Epoch {epoch + 1}/{self.params['epochs']}")

    def on_test_begin(self, logs=None):
        if self._evaluating:
            self._start("Evaluate")

    def show(self, step):
        """`step` steps are done."""
        self._done = step
        now = time.perf_counter()
        if not self._live or now - self._last < _REFRESH_SECONDS:
            return
        self._last = now
        seconds = now - self._begin
        rate = f"{step / seconds:.4g} steps/s"
        logs = figures_text(self.model._results())
        place, left = self._place(step, seconds)
        self._write(f"{self._title} {place}, {rate}, {left}{logs}")

    def _place(self, step, seconds):
        """(bar, time left): how far it is, where the number of steps is known."""
        steps = self.params["steps"]
        if steps is None:
            return f"{step} steps", ""
        done = step / steps
        filled = int(_BAR_WIDTH * done)
        bar = "=" * filled + "." * (_BAR_WIDTH - filled)
        return f"[{bar}] {step}/{steps}", f"{duration(seconds / done * (1 - done))} left, "

    def _write(self, line):
        line = line[: _terminal_width() - 1]
        sys.stdout.write("\r" + line.ljust(self._shown))
        sys.stdout.flush()
        self._shown = len(line)

    def on_epoch_end(self, epoch, logs=None):
        self._finish(logs)

    def on_test_end(self, logs=None):
        if self._evaluating:
            self._finish(logs)

    def _finish(self, logs):
        seconds = time.perf_counter() - self._begin
        steps = self._done  # fewer than planned where training was stopped
        line = (
            f"{self._title}: {steps} steps in {duration(seconds)},"
            f" {duration(seconds / max(steps, 1))} per step, {figures_text(logs)}"
        )
        if self._shown:
            sys.stdout.write("\r" + line.ljust(self._shown) + "\n")
        else:
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
        self._shown = 0

    def close(self):
        """End a line that was left unfinished."""
        if self._shown:
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._shown = 0


def is_live():
    """Whether a line may change: there is a terminal, and nobody has asked for plain lines."""
    terminal = bool(getattr(sys.stdout, "isatty", None)) and sys.stdout.isatty()
    return terminal and config.is_interactive_logging_enabled()


def _terminal_width():
    import shutil

    return shutil.get_terminal_size((100, 24)).columns


def duration(seconds):
    """Seconds as text."""
    if seconds >= 90:
        minutes, seconds = divmod(round(seconds), 60)
        return (
            f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m{seconds:02d}s"
        )
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"


def figures_text(logs):
    """{name: value} as text: loss: 0.1234 - mae: 0.2000"""
    return " - ".join(f"{k}: {_number(v)}" for k, v in (logs or {}).items() if np.ndim(v) == 0)


def _number(value):
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.4e}"
