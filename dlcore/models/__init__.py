"""Models, and their files, with the names of `keras.models`."""

from dlcore import layers
from dlcore.models.model import Model
from dlcore.models.sequential import Sequential

__all__ = [
    "Model", "Sequential", "clone_model", "load_model", "model_from_json", "save_model",
]  # fmt: skip

layers._TABLE.update(Model=Model, Sequential=Sequential)


def load_model(filepath, custom_objects=None, compile=True):
    """The model in a file that `Model.save` wrote.

    Parameters
    ----------
    filepath : str or Path
    custom_objects : dict of str to class or function, optional
        Layers, losses, ... of your own, by name.
    compile : bool
        Whether to restore the `compile` arguments and the optimizer's state.

    Raises
    ------
    ValueError
        If the file is damaged, or names something unknown.
    """
    from dlcore.io import load_model

    return load_model(filepath, custom_objects, compile)


def save_model(model, filepath, overwrite=True):
    """`model.save(filepath)`."""
    model.save(filepath, overwrite)


def clone_model(model):
    """A model of the same architecture with new weights."""
    return type(model).from_config(model.get_config())


def model_from_json(json_string, custom_objects=None):
    """A model with new weights from the text of `Model.to_json`."""
    import json

    return layers.deserialize(json.loads(json_string), custom_objects)
