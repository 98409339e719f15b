"""Programs over batches of rows: a whole epoch is one native call."""

import numpy as np

from dlcore.program import dtypes
from dlcore.program import variable as variables
from dlcore.program.function import flatten
from dlcore.program.graph import Graph, Trace


class Signature:
    """What a compiled batch program depends on."""

    def __init__(self, inputs, batch, indexed, n_rows):
        self.inputs, self.batch, self.indexed, self.n_rows = inputs, batch, indexed, n_rows


class BatchProgram:
    """Runs a traced function over batches of the rows of the caller's arrays.

    Parameters
    ----------
    f : callable
        Takes one tensor (batch, *row_shape) per input; with `output_rows` it returns tensors
        (batch, ...).
    inputs : sequence of (row_shape, dtype)
        The rows and dtype of the caller's arrays.
    batch : int
        Rows a step.
    indexed : bool
        Whether rows are picked through an index (shuffling) or taken in order, without a copy.
    cast : sequence of (dtype or None), optional
        The dtype that `f` sees, where it differs: uint8 images become float32 inside the program.
    output_rows : bool
        Whether `f` returns tensors that `run` writes to rows of `outputs`.
    """

    def __init__(self, f, inputs, batch, indexed=False, cast=None, output_rows=False):
        self._f = f
        self._inputs = [(tuple(shape), dtypes.standardize(dtype)) for shape, dtype in inputs]
        self._expected = [(shape, np.dtype(dtype)) for shape, dtype in self._inputs]
        self._batch, self._indexed, self._output_rows = int(batch), bool(indexed), output_rows
        cast = cast or [None] * len(self._inputs)
        self._dtypes = [c or d for c, (_, d) in zip(cast, self._inputs, strict=True)]
        self._compiled = None
        self._key = None
        self.output_specs = None

    def _program(self, n_rows):
        key = (n_rows if self._indexed else None, variables.layout())
        if self._key != key:
            from dlcore import backends

            graph = self._trace()
            signature = Signature(self._inputs, self._batch, self._indexed, n_rows)
            compiled = backends.compile_batches(graph, signature)
            self._compiled, self._key = compiled, key
            return compiled  # another thread may want other rows
        return self._compiled

    def _trace(self):
        from dlcore.ops.op import result_tensor

        with Trace() as trace:
            tensors = [
                trace.input((self._batch, *shape), dtype)
                for (shape, _), dtype in zip(self._inputs, self._dtypes, strict=True)
            ]
            result = self._f(*tensors)
            leaves = flatten(result)[0] if self._output_rows else []
            outputs = [result_tensor(x) for x in leaves]
            for t in outputs:
                if not t.shape or t.shape[0] != self._batch:
                    raise ValueError(
                        f"predict: expected outputs with {self._batch} rows, got shape {t.shape}"
                    )
            self.output_specs = [(t.shape[1:], t.dtype) for t in outputs]
            return Graph(trace, outputs)

    def compile(self, n_rows):
        """Compile for arrays of `n_rows` rows, before the first run."""
        self._program(n_rows)
        return self

    def run(self, arrays, start=0, steps=1, index=None, outputs=None, deadline_ms=None):
        """Run `steps` batches from row `start` on.

        Step k takes rows start + k * batch ... of every array, through `index` (int64) when
        indexed, and writes those rows of `outputs`. Without the GIL.

        Returns
        -------
        int
            The number of steps done: fewer than `steps` only when `deadline_ms` passed.
        """
        n_rows = len(arrays[0])
        limit = n_rows if index is None else len(index)
        if start < 0 or steps < 0 or start + steps * self._batch > limit:
            raise ValueError(
                f"BatchProgram: expected {steps} steps of {self._batch} rows from row {start}, "
                f"got {limit} rows"
            )
        for x, (shape, dtype) in zip(arrays, self._expected, strict=True):
            if x.shape != (n_rows, *shape) or x.dtype != dtype or not x.flags.c_contiguous:
                raise ValueError(
                    f"BatchProgram: expected contiguous {dtype} rows of shape {shape}, "
                    f"got {x.dtype} {x.shape}"
                )
        if (index is not None) != self._indexed:
            raise ValueError(f"BatchProgram: expected index only when indexed={self._indexed}")
        return self._program(n_rows).run(arrays, start, steps, index, outputs, deadline_ms)

    def empty_outputs(self, n_rows):
        """Uninitialised arrays for `run(outputs=...)`."""
        if self.output_specs is None:
            self._program(n_rows)
        return [np.empty((n_rows, *shape), dtype) for shape, dtype in self.output_specs]

    @property
    def flops(self):
        """Arithmetic of one step, once compiled."""
        return sum(i["flops"] for i in self._compiled.instructions) if self._compiled else 0

    @property
    def memory_bytes(self):
        """Planned memory for activations and scratch, once compiled."""
        return self._compiled.memory_bytes if self._compiled else 0

    def describe(self):
        """The instructions of the compiled program: a list of dicts."""
        return list(self._compiled.instructions) if self._compiled else []
