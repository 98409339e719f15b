"""Files of models: one safetensors file with the weights and, as JSON in its header, everything
else.
"""

from dlcore.io.saving import load_model, load_weights, save_model, save_weights

__all__ = ["load_model", "load_weights", "save_model", "save_weights"]
