"""Layer: a function of tensors with weights.

A layer is built (its weights are made) when it first sees the shape of its input, and is then a
plain function written with `dlcore.ops`. Called with symbolic tensors it adds to the open trace;
called with arrays it is compiled once per shape and run. Weights and inner layers are found in the
attributes of the object, so there is nothing to register.
"""

import threading
import weakref
from typing import Any

import numpy as np

from dlcore import dtype_policies, lookup, ops
from dlcore.layers import input_spec, spec, symbolic
from dlcore.layers.losses import Losses
from dlcore.layers.masks import array_masks, hand_on, mask_of, masks_of, with_masks
from dlcore.layers.names import automatic_name, calling, inside
from dlcore.layers.signatures import building, described, names_of, parameters, takes
from dlcore.program import current_trace, function, tracing
from dlcore.program.dtypes import HALVES, is_float


class _Call(threading.local):
    """What inner layers inherit from the call around them."""

    training = None
    depth = 0
    compiled = None  # the layer whose call on arrays, or the model whose step, is traced


_call = _Call()
_by_name = object()  # the first argument of a call, where it is given by its name
_unset = object()


# Attributes that say nothing about what a call computes, or that see to it themselves.
_SETTINGS = frozenset(
    (
        "built", "history", "loss", "optimizer", "run_eagerly", "steps_per_execution",
        "stop_training", "trainable",
    )
)  # fmt: skip


def _same(old, new):
    """Whether a trace with either is the same."""
    return old is new or (type(old) is type(new) and type(new) in _PLAIN and old == new)


_PLAIN = frozenset((bool, int, float, str))


class _WithMore(tuple):
    """(outputs, losses, masks) of a call on arrays that has more than outputs."""


class Layer(Losses):
    """Base of all layers.

    Subclasses define ``call(self, inputs)`` or ``call(self, inputs, training=None)`` with
    `dlcore.ops`, and make weights in ``build(self, input_shape)`` with `add_weight`, or in the
    constructor.

    Parameters
    ----------
    activity_regularizer : Regularizer or str, optional
        Penalty on the output, added to the loss.
    trainable : bool, default True
        Whether optimizers change the weights.
    dtype : str or DTypePolicy, optional
        Of weights and computation; by default `config.dtype_policy()`.
    autocast : bool, default True
        Whether float inputs and weights are cast to the type of computation.
    name : str, optional
        By default the class in snake case with a number.
    input_shape, input_dim : tuple of int, int, optional
        Shape of one input row, on the first layer of a `Sequential` (an old spelling of `Input`).

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> class Scale(dlcore.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.scale = self.add_weight((input_shape[-1],), "ones", name="scale")
    ...     def call(self, x):
    ...         return x * self.scale
    >>> Scale()(np.array([[1.0, 2.0]], "float32"))
    array([[1., 2.]], dtype=float32)
    """

    supports_masking = False  # None: masks end here without a warning
    _lost_mask = False  # whether it has been warned of
    input_spec = None  # an `InputSpec`, or a list or dictionary of them
    _callers = None  # layers (models) whose compiled calls (steps) have this one in them

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls, *args, **kwargs)
        self._given = (args, kwargs)  # for get_config
        self._weights = []
        self._connections = []  # calls on symbols
        self._call_losses = []
        self._call_metrics = []
        self._eager = {}
        self._name = None
        self._maker = calling()
        self._trainable = True
        self.built = False
        self._build_specs = None
        self.activity_regularizer = None
        self.autocast = True
        self.dtype_policy = None
        return self

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "build" in cls.__dict__:
            cls.build = building(cls.build)
        if "compute_mask" in cls.__dict__ and "supports_masking" not in cls.__dict__:
            cls.supports_masking = True

    def __init__(
        self,
        *,
        activity_regularizer=None,
        trainable=True,
        dtype=None,
        autocast=True,
        name=None,
        input_shape=None,
        input_dim=None,
        **unknown,
    ):
        from dlcore import regularizers

        if name is not None and not isinstance(name, str):
            raise TypeError(f"{type(self).__name__}: expected a string as name, got {name!r}")
        self._name = name or automatic_name(lookup.snake_case(type(self).__name__))
        if unknown:
            known = lookup.argument_names(type(self))
            raise lookup.no_argument(type(self).__name__, next(iter(unknown)), known)
        self._trainable = bool(trainable)
        self.dtype_policy = dtype
        self.autocast = autocast
        self.activity_regularizer = regularizers.get(activity_regularizer)
        if input_dim is not None:
            input_shape = (input_dim,)
        if input_shape is not None:
            self._row_shape = spec.check_row_shape(self._name, input_shape)

    # -- to be defined by subclasses

    def build(self, input_shape):
        """Make the weights; `input_shape` is a tuple whose first entry, the batch, is None."""

    build = building(build)

    def compute_mask(self, inputs, mask=None):
        """The mask of the output (or masks of the outputs), from that of the input: the same."""
        return mask

    def call(self, inputs):
        """The formula of the layer."""
        raise NotImplementedError(f"{self.name}: expected a subclass that defines call(inputs)")

    # -- calling

    @property
    def name(self):
        if self._name is None:  # a subclass that did not call super().__init__()
            self._name = automatic_name(lookup.snake_case(type(self).__name__))
        return self._name

    @property
    def dtype_policy(self):
        """The `DTypePolicy`: in which types the layer computes and keeps its weights."""
        return self._dtype_policy

    @dtype_policy.setter
    def dtype_policy(self, policy):
        self._dtype_policy = dtype_policies.get(policy)
        self.dtype = self._dtype_policy.variable_dtype

    @property
    def compute_dtype(self):
        """The type of what the layer computes."""
        return self._dtype_policy.compute_dtype

    @property
    def variable_dtype(self):
        """The type of the weights, as `dtype`."""
        return self.dtype

    def __call__(self, inputs: Any = _by_name, *args, training=None, **kwargs) -> Any:
        if inputs is _by_name:
            inputs = self._first_input(kwargs)
        if not tracing():
            return self._on_arrays(inputs, args, training, kwargs)
        outer = _call.training
        training = outer if training is None else training
        if _call.depth == 0:
            self._clear_losses()
        _call.training = training
        _call.depth += 1
        trace, dtype = current_trace(), self._dtype_policy.compute_dtype
        casts = self.autocast and dtype in HALVES
        autocast, trace.autocast = trace.autocast, dtype if casts else None
        try:
            mask = masks_of(inputs)
            if self.autocast:
                inputs = spec.map_leaves(self._cast_float, inputs)
                if casts:
                    args, kwargs = spec.map_leaves(self._cast_float, (args, kwargs))
            if not self.built:
                self._build_for(inputs, args, kwargs)
            if _call.compiled is not None:
                self._note_caller(_call.compiled)
            if self.input_spec is not None:
                input_spec.check(self, inputs)
            if training is not None and takes(type(self), "training", len(args)):
                kwargs["training"] = training
            if mask is not None and takes(type(self), "mask", len(args)):
                kwargs.setdefault("mask", mask)
            with inside(self, calls=True):
                outputs = self.call(inputs, *args, **kwargs)
            if outputs is None:
                raise TypeError(
                    f"{self.name}: expected call to return tensors, got None; does it lack return?"
                )
            hand_on(self, inputs, kwargs.get("mask", mask), outputs)
        finally:
            _call.training = outer
            _call.depth -= 1
            trace.autocast = autocast
        if self.activity_regularizer is not None:
            for y in spec.leaves(outputs):
                penalty = self.activity_regularizer(y)
                self._call_losses.append(penalty / y.shape[0] if y.shape else penalty)
        return outputs

    def _first_input(self, kwargs):
        """The input of a call that names it."""
        first = next(iter(parameters(type(self))), None)
        if first not in kwargs:
            raise TypeError(f"{self.name}: expected {first or 'inputs'}, got none")
        return kwargs.pop(first)

    def __setattr__(self, name, value):
        noted = self.__dict__.get("_callers") and name[0] != "_" and name not in _SETTINGS
        changes = noted and not _same(self.__dict__.get(name, _unset), value)
        super().__setattr__(name, value)
        if changes and not tracing():
            callers, self._callers = self._callers, None
            for layer in callers:
                layer._forget_calls()

    def _note_caller(self, layer):
        """`layer` has something compiled in which this one is called."""
        if self._callers is None:
            self._callers = weakref.WeakSet()
        self._callers.add(layer)

    def _forget_calls(self):
        """A layer within has changed what it does: all that is compiled is to be traced anew."""
        self._eager.clear()

    def _build_for(self, inputs, args=(), kwargs=None):
        """Build on the first call. A `build` with more parameters, such as `value_shape`, gets the
        shapes of the arguments `value`, ... of the call.
        """
        given = dict(zip(parameters(type(self))[1:], args, strict=False)) | (kwargs or {})
        more = [n for n in names_of(type(self).build)[1:] if n.removesuffix("_shape") in given]
        shapes = {n: spec.batch_shapes(given[n.removesuffix("_shape")]) for n in more}
        self.build(spec.batch_shapes(inputs), **shapes)
        self._build_specs = spec.batch_specs(inputs)
        maker = self._maker
        if maker is not None and self.weights and self not in maker._layers_within():
            raise ValueError(
                f"{maker.name}: expected layers with weights as attributes, got {self.name} made in"
                f" call, anew each time; make it in __init__, as self.{self.name} ="
                f" {type(self).__name__}(...)"
            )

    def _cast_float(self, x):
        dtype = self._dtype_policy.compute_dtype
        if getattr(x, "dtype", dtype) == dtype or not is_float(str(x.dtype)):
            return x
        y = ops.cast(x, dtype)
        if mask_of(x) is not None:
            y.mask = x.mask
        return y

    def _as_float(self, x):
        """`x` in the type of computation, integers too: for layers that multiply by weights."""
        return x if x.dtype == self.compute_dtype else ops.cast(x, self.compute_dtype)

    def _symbols_of(self, specs):
        """How symbols for what `call` returns are nested."""
        return specs

    def _on_arrays(self, inputs, args, training, kwargs):
        masks = None
        if type(inputs) is not np.ndarray or inputs.dtype == object or args or kwargs:
            if symbolic.has_symbols(inputs, args, kwargs):
                kwargs = kwargs if training is None else {**kwargs, "training": training}
                return symbolic.connect(self, (inputs, *args), kwargs)
            masks = array_masks(spec.leaves((inputs, args, kwargs)))
            inputs = spec.as_arrays(self.name, inputs)
        simple = not args and not kwargs and not masks
        run = self._eager.get(training if simple else "general")
        if run is None:
            run = self._eager_function(training, simple)
        outputs = run(inputs) if simple else run(inputs, args, training, kwargs, masks)
        if type(outputs) is _WithMore:
            outputs, losses, masks = outputs
            self._clear_losses()
            self._call_losses = list(losses)
            outputs = with_masks(outputs, masks)
        return outputs

    def _eager_function(self, training, simple):
        """`call` compiled; with one argument where that is all, which is the quickest to call."""

        def general(inputs, args=(), training=training, kwargs=None, masks=None):
            given = spec.leaves((inputs, args, kwargs))
            for i, mask in (masks or {}).items():
                given[i].mask = mask
            outer, _call.compiled = _call.compiled, self
            try:
                outputs = self(inputs, *args, training=training, **(kwargs or {}))
            finally:
                _call.compiled = outer
            losses = [x for layer in self._layers_within() for x in layer._call_losses]
            self._clear_losses()
            masks = {i: mask_of(y) for i, y in enumerate(spec.leaves(outputs))}
            masks = {i: mask for i, mask in masks.items() if mask is not None}
            return _WithMore((outputs, losses, masks)) if losses or masks else outputs

        run = self._eager[training if simple else "general"] = function(general)
        return run

    def get_build_config(self):
        """What `build_from_config` needs: {"input_shape": ...}, or None before `build`."""
        specs = self._build_specs
        return None if specs is None else {"input_shape": spec.map_leaves(_shape_of, specs)}

    def build_from_config(self, config):
        """Build for the shape in `config`, as `get_build_config` returned it."""
        if config and not self.built:
            self.build(config["input_shape"])

    def compute_output_shape(self, input_shape):
        """Shape of the output for an input shape (or nested shapes) whose batch may be None."""
        return spec.output_shape(self, input_shape)

    # -- in a graph

    @property
    def input(self):
        """The symbol (or symbols) that the layer was first called on."""
        return self._first_connection("input").input

    @property
    def output(self):
        """What the first call on symbols returned."""
        return self._first_connection("output").output

    def _first_connection(self, what):
        if not self._connections:
            raise AttributeError(
                f"{self.name}: expected a layer in a graph for {what}; call it on an Input, or add"
                " it to a Sequential whose input shape is known"
            )
        return self._connections[0]

    # -- configuration

    def get_config(self):
        """The constructor's arguments as a dictionary that JSON can hold.

        An argument is read from the attribute of its name, else it is what the constructor was
        given. A subclass with a `get_config` of its own adds its arguments to those of its base.
        """
        names = lookup.argument_names(type(self))
        args, kwargs = self._given
        given = dict(zip(names, args, strict=False)) | kwargs
        given |= {k: getattr(self, k) for k in ("name", "trainable") if k in names}
        given |= {k: self.__dict__[k] for k in names if k in self.__dict__}
        if "dtype" in names:
            policy = self.dtype_policy
            given["dtype"] = policy.name if self.dtype == policy.variable_dtype else self.dtype
        names = described(self, names)
        return {k: spec.plain(self, given[k]) for k in names if k in given}

    @classmethod
    def from_config(cls, config):
        """The layer that `get_config` described."""
        return cls(**{k: spec.revive(v) for k, v in config.items()})

    def __reduce__(self):
        specs = self._build_specs if self.built else None
        with lookup.live():
            config = self.get_config()
        return _restore, (type(self), config, specs, self.get_weights())

    def __repr__(self):
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


def _shape_of(spec):
    return spec.shape


def _restore(cls, config, build_specs, weights):
    """Pickling and copying: the layer built anew, with the same weights."""
    layer = cls.from_config(config)
    if build_specs is not None:
        spec.output_spec(layer, build_specs)
    layer.set_weights(weights)
    return layer
