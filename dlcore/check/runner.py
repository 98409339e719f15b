"""Each row of `cases` on a device: values and gradients, against the formula in float64.

The error of a number y where e is right, in units in the last place of the row's scale:

    |y - e| / (eps (max |e| + 4 |e|)),    eps of the type of y, max over the row and at least 1

Values may be off by the row's `ulps`, gradients by four times as many, and NaN and infinities must
be where they are in e.
"""

from dataclasses import dataclass, field

import numpy as np

from dlcore.check import oracle

GRADIENT_ULPS = 4  # what rounding of the scalar loss and of two products adds


@dataclass
class Result:
    """What came of one op and dtype.

    value, gradient : float
        The worst errors; gradient is None where there is none.
    allowed : float
        Of the value.
    formulas : bool
        Whether some row ran by formulas, for want of a kernel or of a compiled backend.
    failures : list of str
        The rows that are off, and why.
    """

    op: str
    dtype: str
    rows: int = 0
    formulas: bool = False
    value: float = 0.0
    gradient: float | None = None
    allowed: float = 0.0
    failures: list = field(default_factory=list)

    def add(self, row, value, gradient):
        self.rows += 1
        self.value, self.allowed = max(self.value, value), max(self.allowed, row.ulps)
        if gradient is not None:
            self.gradient = max(self.gradient or 0.0, gradient)
        for what, error, most in (
            ("value", value, row.ulps),
            ("gradient", gradient or 0.0, GRADIENT_ULPS * row.ulps),
        ):
            if not error <= most:
                self.failures.append(f"{row}: {what} off by {error:.3g} ulps, allowed {most:g}")


def error(actual, expected):
    """The worst error of `actual`, in the units above; infinite where they differ in kind."""
    if actual.shape != expected.shape:
        return np.inf
    if actual.dtype.kind in "biu":
        return 0.0 if np.array_equal(actual, expected) else np.inf
    finite = np.isfinite(expected)
    same = actual == expected
    if not np.all(finite | same | (np.isnan(actual) & np.isnan(expected))):
        return np.inf
    size = np.abs(expected, where=finite, out=np.zeros(expected.shape))
    scale = np.max(size, initial=1.0)
    off = np.abs(np.subtract(actual, expected, where=finite, out=np.zeros(expected.shape)))
    off = np.where(np.isnan(off), np.inf, off)
    return float(np.max(off / (scale + 4 * size), initial=0.0) / np.finfo(actual.dtype).eps)


def check_row(row, dtype, place, home):
    """(worst error of the values, of the gradients or None) of a row in `dtype`.

    place, home : functions that bring an array to the device, and back.
    """
    import dlcore

    f, xs = row.function(), row.inputs(dtype)
    wide, there = [oracle.wide(x) for x in xs], [place(x) for x in xs]
    ys = oracle.as_list(f(*there))
    expected = oracle.run(f, wide)
    value = max(error(home(y), e) for y, e in zip(ys, expected, strict=True))
    if not row.gradient:
        return value, None
    loss = oracle.weighted(f, wide)
    floats = tuple(i for i, x in enumerate(xs) if x.dtype.kind == "f")
    _, dxs = dlcore.value_and_grad(loss, floats)(*there)
    _, expected = oracle.gradient(loss, wide)
    return value, max(error(home(dx), e) for dx, e in zip(dxs, expected, strict=True))


def run(rows, dtypes, tell=lambda result: None):
    """Check `rows` on the device of `dlcore.set_device`.

    Parameters
    ----------
    rows : list of Row
    dtypes : list of str
    tell : callable, optional
        Takes the `Result` of every op and dtype as it is ready.

    Returns
    -------
    list of Result
    """
    import dlcore
    from dlcore import backends
    from dlcore.backends import arrays

    on_gpu = dlcore.get_device() == "gpu"
    place = backends.device_array if on_gpu else np.asarray
    results = []
    for op in dict.fromkeys(row.op for row in rows):
        for dtype in dtypes:
            result, before = Result(op, dtype), arrays.ArrayProgram.made
            for row in (r for r in rows if r.op == op):
                try:
                    result.add(row, *check_row(row, dtype, place, backends.to_host))
                except (RuntimeError, ValueError, TypeError, MemoryError) as trouble:
                    result.rows += 1
                    result.failures.append(f"{row}: {type(trouble).__name__}: {trouble}")
            result.formulas = arrays.ArrayProgram.made > before
            results.append(result)
            tell(result)
    return results
