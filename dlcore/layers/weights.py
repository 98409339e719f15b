"""What a layer holds: its own weights, and inner layers, found in the attributes of the object."""

from dlcore import lookup
from dlcore.layers import spec
from dlcore.layers.names import calling, path_in
from dlcore.program import Variable
from dlcore.program.dtypes import is_float, standardize


class Weights(lookup.Checked):
    """Base of `Layer`: the weights, their values, and which of them are trained."""

    _casts_weights = True  # False: `call` sees them in their own type

    @lookup.checked
    def add_weight(
        self,
        shape=None,
        initializer=None,
        dtype=None,
        trainable=True,
        autocast=True,
        regularizer=None,
        constraint=None,
        aggregation="none",
        name=None,
    ):
        """Make a weight of the layer.

        Parameters
        ----------
        shape : tuple of int, default ()
        initializer : Initializer, str or callable (shape, dtype) -> array, optional
            By default "glorot_uniform", and zeros for integers.
        dtype : str, optional
            By default the layer's.
        trainable : bool, default True
        regularizer : Regularizer or str, optional
        constraint : Constraint or str, optional
            Applied after each step of an optimizer.
        name : str, optional
        autocast : bool, default True
            Whether `call` sees it in the type of computation.
        aggregation
            Accepted for Keras' sake, and not needed here.

        Returns
        -------
        Variable
        """
        from dlcore import constraints, initializers, regularizers

        if calling() is self:
            raise ValueError(
                f"{self.name}: expected weights made in __init__ or build, got add_weight in call,"
                " which would make a new one each time"
            )
        shape = spec.check_weight_shape(self.name, shape)
        dtype = self.dtype if dtype is None else standardize(dtype, self.name)
        if initializer is None:
            initializer = "glorot_uniform" if is_float(dtype) else "zeros"
        initializer = initializers.get(initializer)
        with spec.suspended():
            value = spec.initial_value(self.name, initializer, shape, dtype)
        variable = Variable(
            value,
            dtype=dtype,
            trainable=trainable,
            autocast=autocast and self._casts_weights,
            name=name or "variable",
        )
        variable.path = path_in(self, variable.name)
        variable.regularizer = regularizers.get(regularizer)
        variable.constraint = constraints.get(constraint)
        self._weights.append(variable)
        return variable

    add_variable = add_weight

    def _describe_weight(self, kind, initializer, regularizer=None, constraint=None):
        """Keep the arguments {kind}_initializer, {kind}_regularizer and {kind}_constraint."""
        from dlcore import constraints, initializers, regularizers

        setattr(self, f"{kind}_initializer", initializers.get(initializer))
        setattr(self, f"{kind}_regularizer", regularizers.get(regularizer))
        setattr(self, f"{kind}_constraint", constraints.get(constraint))

    def _add_described(self, kind, shape, name=None, initializer=None):
        """Make a weight as described; `initializer` instead of the one described."""
        return self.add_weight(
            shape,
            initializer or getattr(self, f"{kind}_initializer"),
            regularizer=getattr(self, f"{kind}_regularizer"),
            constraint=getattr(self, f"{kind}_constraint"),
            name=name or kind,
        )

    def _parts(self):
        """(variables, layers) held by the attributes, each once, in the order in which they
        were made.
        """
        variables, layers = dict.fromkeys(self._weights), {}
        for key, value in self.__dict__.items():
            if key not in _NO_PARTS:
                _collect(value, variables, layers)
        layers.pop(self, None)
        return list(variables), list(layers)

    def _layers_within(self, into=None):
        """The layer and all inner ones, outer before inner."""
        into = {} if into is None else into
        if self not in into:
            into[self] = None
            for layer in self._parts()[1]:
                layer._layers_within(into)
        return list(into)

    @property
    def weights(self):
        """All weights, those of inner layers too."""
        found = [v for layer in self._layers_within() for v in layer._parts()[0]]
        return list(dict.fromkeys(found))

    variables = weights

    @property
    def trainable_weights(self):
        """Weights that optimizers change."""
        found = {}

        def visit(layer):
            if not layer._trainable:
                return
            variables, layers = layer._parts()
            found.update(dict.fromkeys(v for v in variables if v.trainable))
            for inner in layers:
                visit(inner)

        visit(self)
        return list(found)

    @property
    def non_trainable_weights(self):
        """Weights that optimizers leave alone."""
        trainable = set(self.trainable_weights)
        return [v for v in self.weights if v not in trainable]

    trainable_variables = trainable_weights
    non_trainable_variables = non_trainable_weights

    @property
    def trainable(self):
        """Whether optimizers change the weights; setting it sets it for inner layers too."""
        return self._trainable

    @trainable.setter
    def trainable(self, value):
        for layer in self._layers_within():
            layer._trainable = bool(value)
            for caller in layer._callers or ():  # steps wait for the next `compile`
                caller._eager.clear()

    def get_weights(self):
        """Copies of the weights: a list of ndarrays."""
        return [v.numpy() for v in self.weights]

    def set_weights(self, weights):
        """Set all weights from a list of arrays as `get_weights` returns it."""
        spec.assign_all(self.name, self.weights, weights)

    def save_own_variables(self, store):
        """Put what files keep of this layer alone into `store`, a dictionary; a subclass may add
        to it, and takes it in `load_own_variables`.
        """
        store.update((str(i), v) for i, v in enumerate(self._parts()[0]))

    def load_own_variables(self, store):
        """Take what `save_own_variables` has put into `store`, as arrays."""
        for i, v in enumerate(self._parts()[0]):
            v.assign(store[str(i)])

    def save_assets(self, dir_path):
        """Write files that belong to the layer into the folder `dir_path`, for `load_assets`."""

    def load_assets(self, dir_path):
        """Read the files of `save_assets` in the folder `dir_path`."""

    def _overrides(self, name):
        """Whether a subclass has written this method of all layers."""
        from dlcore.layers.base import Layer

        return getattr(type(self), name) is not getattr(Layer, name)

    def count_params(self):
        """Number of scalars in the weights."""
        if not self.built and not self.weights:
            raise ValueError(
                f"{self.name}: expected a built layer; call it or build(input_shape) first"
            )
        return sum(v.size for v in self.weights)


# Attributes of the class itself and of models, in which weights and layers are not looked for.
_NO_PARTS = frozenset(
    (
        "_given", "_weights", "_connections", "_call_losses", "_call_metrics", "_eager",
        "_callers", "_maker",
        "_name", "_trainable", "built", "dtype", "_dtype_policy", "autocast",
        "_build_specs",
        "_symbols", "_programs", "_functions", "_fast_predict", "_fast_on_batch", "_fast_steps",
        "_compile_config", "_optimized", "_states", "_trained", "_input_checks",
    )
)  # fmt: skip


def _collect(value, variables, layers):
    """Add the weights and layers in `value` and in the containers in it."""
    if isinstance(value, Variable):
        variables[value] = None
    elif isinstance(value, Weights):
        layers[value] = None
    elif isinstance(value, (list, tuple)):
        for x in value:
            _collect(x, variables, layers)
    elif isinstance(value, dict):
        for x in value.values():
            _collect(x, variables, layers)
