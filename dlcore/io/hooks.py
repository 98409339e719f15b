"""What layers of users keep in files besides their weights: what `save_own_variables` puts in a
store, as arrays "own/LAYER/KEY", and the files of `save_assets`, as bytes "assets/LAYER/PATH".
"""

import os
import tempfile

import numpy as np

from dlcore import ops


def collected(model):
    """{name: array} of all layers that have such things."""
    tensors = {}
    for number, layer in enumerate(model._layers_within()):
        if layer._overrides("save_own_variables"):
            store = {}
            layer.save_own_variables(store)
            for key, value in store.items():
                tensors[f"own/{number}/{key}"] = ops.convert_to_numpy(value)
        if layer._overrides("save_assets"):
            with tempfile.TemporaryDirectory() as folder:
                layer.save_assets(folder)
                for path in _files(folder):
                    name = os.path.relpath(path, folder).replace(os.sep, "/")
                    with open(path, "rb") as f:
                        tensors[f"assets/{number}/{name}"] = np.frombuffer(f.read(), np.uint8)
    return tensors


def restore(model, tensors):
    """Hand them to the layers of the same places."""
    found = {}
    for name, value in tensors.items():
        kind, number, *rest = name.split("/", 2)
        if kind in ("own", "assets") and rest:
            found.setdefault((kind, number), {})[rest[0]] = value
    for number, layer in enumerate(model._layers_within()):
        store = found.get(("own", str(number)))
        if store is not None and layer._overrides("load_own_variables"):
            layer.load_own_variables(store)
        if layer._overrides("load_assets"):
            with tempfile.TemporaryDirectory() as folder:
                for name, data in found.get(("assets", str(number)), {}).items():
                    _write(folder, name, data)
                layer.load_assets(folder)


def _files(folder):
    return sorted(os.path.join(at, name) for at, _, names in os.walk(folder) for name in names)


def _write(folder, name, data):
    if ".." in name.split("/") or os.path.isabs(name):
        raise ValueError(f"an asset of a name below its folder, not {name!r}")
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data.tobytes())
