"""Runs a step over batches that come one by one; the counterpart of `Runner`."""

from contextlib import closing

from dlcore.data.batches import pack_batch, unpack
from dlcore.models.arrays import same_rows
from dlcore.program.function import flatten


class StreamRunner:
    """One native call per batch, by the program for arrays like those of the batch.

    Parameters
    ----------
    model : Steps
    kind : {"train", "test", "predict"}
    stream : Stream
    """

    def __init__(self, model, kind, stream):
        self.model, self.kind, self.stream = model, kind, stream
        self.steps = stream.steps
        self.structure = None  # of nested outputs

    def run(self, index=None, limit=None, before=None, after=None, progress=None, outputs=None):
        """Go over the batches of one epoch; see `Runner.run`.

        Parameters
        ----------
        outputs : list, optional
            Gets the outputs of every batch, as lists of arrays.
        """
        with closing(self.stream.epoch(limit, self.kind == "train")) as batches:
            for step, batch in enumerate(batches):
                if before is not None:
                    before(step)
                self._one(batch, outputs)
                stop = progress is not None and progress(step + 1)
                if after is not None:
                    stop = after(step) or stop
                if stop:
                    break

    def _one(self, batch, outputs):
        model, who = self.model, self.stream.who
        x, y, weights = unpack(who, batch)
        if self.kind == "predict":
            data = model._data(who, self.kind, x)
        elif model._replaces(f"{self.kind}_step") and not same_rows((x, y, weights)):
            data = model._whole_batch(who, self.kind, pack_batch(x, y, weights))
        else:
            data = model._data(who, self.kind, x, y, weights, self.stream.class_weight)
        program = model._program(self.kind, data, data.rows, False)
        results = None
        if outputs is not None:
            results = program.empty_outputs(data.rows)
            outputs.append(results)
            self.structure = flatten(model._output_specs(data, self.kind))[1]
        program.run(data.arrays, 0, 1, None, results)
