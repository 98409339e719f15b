"""What calls of a layer add to the loss and to the reported metrics."""

from dlcore.layers import spec, symbolic
from dlcore.layers.weights import Weights
from dlcore.program import tracing
from dlcore.program.graph import Tensor


class Losses(Weights):
    """Base of `Layer`: losses and metrics that `call` computes, and penalties of the weights."""

    def add_loss(self, loss):
        """Add a scalar, computed in `call`, to the loss that training minimizes."""
        if symbolic.has_symbols(loss):
            raise ValueError(f"{self.name}: expected a loss computed in call, got {loss!r}")
        self._call_losses += spec.leaves(loss)

    def add_metric(self, value, name=None, aggregation=None):
        """Report the mean of a tensor, computed in `call`, in `fit` and `evaluate`.

        Parameters
        ----------
        value : Tensor
        name : str, optional
            By default the layer's.
        aggregation
            Accepted for the sake of older scripts: it is the mean over the batches.
        """
        self._call_metrics.append((name or self.name, value))

    @property
    def metrics(self):
        """The `Metric` objects in the attributes of the layer and of inner ones."""
        from dlcore.metrics import Metric

        held = [x for layer in self._layers_within() for x in vars(layer).values()]
        return list(dict.fromkeys(x for x in held if isinstance(x, Metric)))

    @property
    def losses(self):
        """Losses of the last call (`add_loss`, activity) and penalties of the regularized
        weights.
        """
        layers = self._layers_within()
        called = [x for layer in layers for x in layer._call_losses]
        if not tracing():  # those of a program, such as that of `predict`, have no values outside
            called = [x for x in called if not isinstance(x, Tensor)]
        weights = [v for v in self.trainable_weights if v.regularizer is not None]
        return called + [v.regularizer(v) for v in weights]

    def _clear_losses(self):
        for layer in self._layers_within():
            layer._call_losses = []
            layer._call_metrics = []
