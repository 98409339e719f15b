"""Models to files and back."""

import os
import warnings

import numpy as np

from dlcore import layers, lookup, losses, metrics, optimizers
from dlcore.io import files, hooks
from dlcore.layers import spec
from dlcore.program.dtypes import standardize


def save_model(model, filepath, overwrite=True):
    """Write architecture, weights, `compile` arguments and the optimizer's state; see
    `Model.save`.
    """
    _check_target(filepath, overwrite)
    if not model.built:
        raise ValueError(
            f"{model.name}: expected a built model to save; call build(input_shape) or fit"
        )
    tensors, names = _weights(model)
    document = {
        "model": layers.serialize(model),
        "input": _plain_specs(model._build_specs),
        "weights": names,
        "compile": _compile_config(model),
    }
    tensors.update(hooks.collected(model))
    if document["compile"] is not None:
        state = _optimizer_state(model)
        document["optimizer_variables"] = len(state)
        tensors.update(state)
    files.write(filepath, tensors, document)


def save_weights(model, filepath, overwrite=True):
    """Write the weights alone; see `Model.save_weights`."""
    _check_target(filepath, overwrite)
    tensors, names = _weights(model)
    files.write(filepath, tensors, {"weights": names})


def _check_target(filepath, overwrite):
    if not overwrite and os.path.exists(filepath):
        raise FileExistsError(f"save: expected a new file, got {os.fspath(filepath)!r}")


def _weights(model):
    """({name: array}, names in order); a name is layer/weight, with a number where it is taken."""
    tensors = {}
    owners = {v: layer for layer in reversed(model._layers_within()) for v in layer._parts()[0]}
    for variable in model.weights:
        name = base = f"{owners[variable].name}/{variable.name}"
        i = 0
        while name in tensors:
            i += 1
            name = f"{base}_{i}"
        tensors[name] = variable.numpy()
    return tensors, list(tensors)


def compile_config(model):
    """The arguments of `compile` as JSON, or None."""
    if not model.compiled:
        return None
    if model._replaces("compile"):  # whose arguments only it knows
        return None
    config = model._compile_config
    return {
        "optimizer": optimizers.serialize(model.optimizer),
        "loss": _serialized(model, config["loss"]),
        "loss_weights": config["loss_weights"],
        "metrics": _serialized(model, config["metrics"]),
        "weighted_metrics": _serialized(model, config["weighted_metrics"]),
    }


def _compile_config(model):
    """The same, or what a subclass has written for it."""
    if model.compiled and model._replaces("get_compile_config"):
        return {"own": model.get_compile_config()}
    return compile_config(model)


def compiled_state(model):
    """How a model is compiled, and the optimizer's state, for copies in this process or others;
    None where that cannot be told."""
    with lookup.live():
        config = _compile_config(model)
    return config and (config, [v.numpy() for v in model.optimizer.variables])


def restore_compiled(model, state):
    """Compile a model as `compiled_state` says."""
    config, values = state
    model.compile_from_config(config.get("own", config))
    variables = model._trained_variables()
    if len(values) > len(model.optimizer.variables) and variables:
        model._build_optimizer("load_model", variables)
    for variable, value in zip(model.optimizer.variables, values, strict=True):
        if variable.shape != np.shape(value):
            raise ValueError(f"optimizer state of shape {np.shape(value)}, not {variable.shape}")
    for variable, value in zip(model.optimizer.variables, values, strict=True):
        variable.assign(value)


def _serialized(model, given):
    """Nested losses or metrics as JSON."""
    if isinstance(given, (list, tuple)):
        return [_serialized(model, x) for x in given]
    if lookup.is_nest(given):
        return {k: _serialized(model, x) for k, x in given.items()}
    serialized = given if isinstance(given, dict) else lookup.serialize(given)
    if serialized == "<lambda>":
        raise ValueError(f"{model.name}: expected losses and metrics with names, got a lambda")
    return serialized


def load_model(filepath, custom_objects=None, compile=True):
    """The model in a file; see `dlcore.models.load_model`."""
    tensors, document = files.read(filepath)
    limit = sum(t.size for t in tensors.values())
    try:
        with lookup.custom_object_scope(custom_objects or {}):
            with spec.weight_limit(limit):
                model = _build(document)
            _restore_weights(model, tensors, document)
            hooks.restore(model, tensors)
            if compile and document.get("compile"):
                _restore_compile(model, tensors, document)
    except Exception as error:
        detail = str(error) or type(error).__name__
        raise ValueError(
            f"load_model: expected a model in {os.fspath(filepath)!r}, got {detail}"
        ) from error
    return model


def load_weights(model, filepath, skip_mismatch=False):
    """Set the weights from a file; see `Model.load_weights`."""
    tensors, document = files.read(filepath)
    if not model.built:
        raise ValueError(f"{model.name}: expected a built model; call build(input_shape) first")
    if not _has_weights(tensors, document):
        raise ValueError(f"load_weights: expected weights in {os.fspath(filepath)!r}, got too few")
    _restore_weights(model, tensors, document, skip_mismatch)


def save_state(model, filepath, document):
    """Write the weights, the optimizer's state and `document`, to go on training with."""
    tensors, names = _weights(model)
    tensors.update(_optimizer_state(model))
    files.write(filepath, tensors, {**document, "weights": names})


def load_state(model, filepath):
    """Take what `save_state` wrote, of a model whose optimizer is built; returns its document."""
    tensors, document = files.read(filepath)
    _restore_weights(model, tensors, document)
    state = [tensors.get(name) for name in _optimizer_state(model)]
    if any(v is None for v in state):
        raise ValueError(f"{model.name}: expected the state of its optimizer, got another's")
    model.optimizer.set_weights(state)
    return document


def _optimizer_state(model):
    return {f"optimizer/{i}": v.numpy() for i, v in enumerate(model.optimizer.variables)}


def _build(document):
    model = layers.deserialize(document.get("model"))
    specs = _read_specs(document.get("input"))
    if not model.built:
        spec.output_spec(model, specs)
    return model


def _plain_specs(specs):
    """Nested shapes and dtypes as JSON."""
    if isinstance(specs, dict):
        return {"dict": {k: _plain_specs(v) for k, v in specs.items()}}
    if isinstance(specs, (list, tuple)):
        return [_plain_specs(v) for v in specs]
    return {"shape": list(specs.shape), "dtype": specs.dtype}


def _read_specs(value):
    if isinstance(value, list):
        return [_read_specs(v) for v in value]
    if "dict" in value:
        return {k: _read_specs(v) for k, v in value["dict"].items()}
    shape = tuple(value["shape"])
    if not all(n is None or (type(n) is int and n >= 0) for n in shape):
        raise ValueError(f"a shape {shape}")
    return spec.Spec(shape, standardize(value["dtype"]))


def _has_weights(tensors, document):
    names = document.get("weights")
    return isinstance(names, list) and all(name in tensors for name in names)


def _restore_weights(model, tensors, document, skip_mismatch=False):
    if not _has_weights(tensors, document):
        raise ValueError("a file with missing weights")
    variables, values = model.weights, [tensors[name] for name in document["weights"]]
    if skip_mismatch:
        pairs = list(zip(variables, values, strict=False))
        fit = [(v, x) for v, x in pairs if v.shape == x.shape]
        if len(fit) < len(variables):
            warnings.warn(
                f"{model.name}: expected the shapes of {len(variables)} weights, got"
                f" {len(variables) - len(fit)} others, which stay as they are",
                stacklevel=4,
            )
        variables, values = zip(*fit, strict=True) if fit else ((), ())
    spec.assign_all(model.name, variables, values)


def compile_from_config(model, config):
    """Compile as `compile_config` says."""
    loss = _revived(losses.deserialize, config.get("loss"))
    given = {
        k: _revived(metrics.deserialize, config.get(k)) for k in ("metrics", "weighted_metrics")
    }
    optimizer = optimizers.deserialize(config["optimizer"])
    model.compile(optimizer, loss, config.get("loss_weights"), **given)


def _restore_compile(model, tensors, document):
    count = int(document["optimizer_variables"])
    if not 0 <= count <= len(tensors):
        raise ValueError("a file with missing optimizer state")
    values = [tensors.get(f"optimizer/{i}") for i in range(count)]
    if any(v is None for v in values):
        raise ValueError("a file with missing optimizer state")
    restore_compiled(model, (document["compile"], values))


def _revived(deserialize, given):
    """Nested losses or metrics from JSON; names stay names."""
    if isinstance(given, list):
        return [_revived(deserialize, x) for x in given]
    if lookup.is_nest(given):
        return {k: _revived(deserialize, x) for k, x in given.items()}
    return deserialize(given) if isinstance(given, dict) else given
