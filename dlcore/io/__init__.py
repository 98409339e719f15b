"""Files of models: one safetensors file with the weights and, as JSON in its header, everything
else. Weights in the order of other libraries.
"""

from dlcore.io.saving import load_model, load_weights, save_model, save_weights
from dlcore.io.torch_weights import weights_from_torch, weights_to_torch

__all__ = [
    "load_model", "load_weights", "save_model", "save_weights", "weights_from_torch",
    "weights_to_torch",
]  # fmt: skip
