"""Models, and their files, with the names of `keras.models`."""

from functools import partial

from dlcore import layers, lookup
from dlcore.layers.inputs import InputLayer
from dlcore.layers.operation import Operation
from dlcore.models.model import Model
from dlcore.models.sequential import Sequential

__all__ = [
    "Model", "Sequential", "clone_model", "load_model", "model_from_json", "save_model",
]  # fmt: skip

layers._TABLE.update(Model=Model, Sequential=Sequential)


@lookup.checked
def load_model(filepath, custom_objects=None, compile=True, safe_mode=True):
    """The model in a file that `Model.save` wrote.

    Parameters
    ----------
    filepath : str or Path
    custom_objects : dict of str to class or function, optional
        Layers, losses, ... of your own, by name.
    compile : bool
        Whether to restore the `compile` arguments and the optimizer's state.
    safe_mode
        Accepted for Keras' sake: files hold no code.

    Raises
    ------
    ValueError
        If the file is damaged, or names something unknown.
    """
    from dlcore.io import load_model

    return load_model(filepath, custom_objects, compile)


@lookup.checked
def save_model(model, filepath, overwrite=True, zipped=None):
    """`model.save(filepath)`."""
    model.save(filepath, overwrite)


def clone_model(
    model, input_tensors=None, clone_function=None, call_function=None, recursive=False, **kwargs
):
    """A model of the same architecture with new weights, compiled as this one is.

    Parameters
    ----------
    model : Model
    input_tensors : KerasTensor, or nested like the model's inputs, optional
        What the new model starts from, instead of new inputs.
    clone_function : callable, optional
        ``clone_function(layer)`` returns the layer to put in the place of `layer`.
    call_function : callable, optional
        ``call_function(layer, *args, **kwargs)`` returns what to use as the outputs of the new
        `layer`, by default ``layer(*args, **kwargs)``; not for a `Sequential`.
    recursive : bool
        Whether `clone_function` gets the layers of inner models, and not these whole.

    Examples
    --------
    >>> import dlcore as keras
    >>> x = keras.Input((3,))
    >>> model = keras.Model(x, keras.layers.Dense(2, name="a")(x))
    >>> frozen = keras.models.clone_model(
    ...     model, clone_function=lambda layer: type(layer)(2, trainable=False, name="b")
    ... )
    >>> [layer.name for layer in frozen.layers[1:]], len(frozen.trainable_weights)
    (['b'], 0)
    """
    if kwargs:
        lookup.lookup("clone_model argument", {"recursive": None}, next(iter(kwargs)))
    with lookup.live():
        clone = _cloned(model, input_tensors, clone_function, call_function, recursive)
        config = model.get_compile_config()
        if config is not None:
            clone.compile_from_config(config)
    return clone


def _cloned(model, input_tensors, clone_function, call_function, recursive):
    if input_tensors is None and clone_function is None and call_function is None:
        return type(model).from_config(model.get_config())
    if model._graph is None or (call_function and isinstance(model, Sequential)):
        raise ValueError(
            f"{model.name}: expected a model made of connected layers to clone with"
            f" clone_function, call_function or input_tensors, got a {type(model).__name__}"
        )

    def copy(layer):
        if recursive and isinstance(layer, Model) and layer._graph is not None:
            call = None if isinstance(layer, Sequential) else call_function
            return _cloned(layer, None, clone_function or copy, call, True)
        if clone_function is None or isinstance(layer, (InputLayer, Operation)):
            return type(layer).from_config(layer.get_config())
        return clone_function(layer)

    copies = {x: copy(x) for x in model._graph.layers}
    if isinstance(model, Sequential):
        inputs, _ = model._graph.rebuilt(copies, input_tensors)
        return Sequential([inputs, *(copies[x] for x in model.layers)], name=model.name)
    calls = copies
    if call_function is not None:
        own = (InputLayer, Operation)
        calls = {
            x: y if isinstance(y, own) else partial(call_function, y) for x, y in copies.items()
        }
    inputs, outputs = model._graph.rebuilt(calls, input_tensors)
    return type(model)(inputs, outputs, name=model.name)


def model_from_json(json_string, custom_objects=None):
    """A model with new weights from the text of `Model.to_json`."""
    import json

    return layers.deserialize(json.loads(json_string), custom_objects)
