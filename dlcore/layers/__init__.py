"""Layers, with the names, arguments and defaults of `keras.layers`."""

import importlib

from dlcore import lookup
from dlcore.layers import sharing
from dlcore.layers.base import Layer

# Module -> its public names; a module is loaded when one of them is first used.
_MODULES = {
    "activations": ("ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax"),
    "attention": ("MultiHeadAttention",),
    "augmentation": (
        "RandomBrightness", "RandomContrast", "RandomCrop", "RandomErasing", "RandomFlip",
        "RandomRotation", "RandomTranslation", "RandomZoom",
    ),
    "bidirectional": ("Bidirectional",),
    "categories": ("CategoryEncoding", "Discretization"),
    "colors": (
        "RandomColorJitter", "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPosterization",
        "RandomSaturation", "Solarization",
    ),
    "conv_lstm": ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"),
    "convolution": (
        "Conv1D", "Conv1DTranspose", "Conv2D", "Conv2DTranspose", "Conv3D", "Conv3DTranspose",
        "Convolution1D", "Convolution1DTranspose", "Convolution2D", "Convolution2DTranspose",
        "Convolution3D", "Convolution3DTranspose",
    ),
    "core": (
        "Activation", "ActivityRegularization", "Dense", "Dropout", "Identity", "Lambda", "Maxout",
    ),
    "depthwise": (
        "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D",
        "SeparableConvolution1D", "SeparableConvolution2D",
    ),
    "einsum_dense": ("EinsumDense",),
    "embedding": (
        "Embedding", "PositionEmbedding", "ReversibleEmbedding", "SinePositionEncoding",
        "TokenAndPositionEmbedding",
    ),
    "mixing": ("CutMix", "MixUp"),
    "noise": (
        "AlphaDropout", "GaussianDropout", "GaussianNoise", "SpatialDropout1D", "SpatialDropout2D",
        "SpatialDropout3D",
    ),
    "normalization": (
        "BatchNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization",
        "UnitNormalization",
    ),
    "padding": (
        "Cropping1D", "Cropping2D", "Cropping3D", "UpSampling1D", "UpSampling2D", "UpSampling3D",
        "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D",
    ),
    "pooling": (
        "AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D", "AdaptiveAveragePooling3D",
        "AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D",
        "AveragePooling1D", "AveragePooling2D", "AveragePooling3D", "AvgPool1D", "AvgPool2D",
        "AvgPool3D", "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D",
        "GlobalAvgPool1D", "GlobalAvgPool2D", "GlobalAvgPool3D", "GlobalMaxPool1D",
        "GlobalMaxPool2D", "GlobalMaxPool3D", "GlobalMaxPooling1D", "GlobalMaxPooling2D",
        "GlobalMaxPooling3D", "MaxPool1D", "MaxPool2D", "MaxPool3D", "MaxPooling1D",
        "MaxPooling2D", "MaxPooling3D",
    ),
    "plain_attention": ("AdditiveAttention", "Attention"),
    "policies": ("Equalization", "RandAugment"),
    "preprocessing": ("CenterCrop", "Normalization", "Rescaling", "Resizing"),
    "filters": (
        "AutoContrast", "Pipeline", "RandomColorDegeneration", "RandomGaussianBlur",
        "RandomSharpness", "RandomShear",
    ),
    "grouped_attention": ("GroupQueryAttention",),
    "hashing": ("HashedCrossing", "Hashing"),
    "input_spec": ("InputSpec",),
    "inputs": ("Input", "InputLayer"),
    "lookups": ("IntegerLookup", "StringLookup"),
    "masking": ("Masking", "TimeDistributed", "Wrapper"),
    "merging": (
        "Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract",
        "add", "average", "concatenate", "dot", "maximum", "minimum", "multiply", "subtract",
    ),
    "operation": ("Operation",),
    "recurrent": ("GRU", "LSTM", "RNN", "SimpleRNN"),
    "recurrent_cells": ("GRUCell", "LSTMCell", "SimpleRNNCell", "StackedRNNCells"),
    "reshaping": ("Flatten", "Permute", "RepeatVector", "Reshape"),
    "symbolic": ("KerasTensor",),
    "spectral": ("SpectralNormalization",),
    "text": ("TextVectorization",),
    "transformer": ("TransformerDecoder", "TransformerEncoder"),
}  # fmt: skip
_HOMES = {name: module for module, names in _MODULES.items() for name in names}
_TABLE = {}  # classes that configurations may name besides; dlcore.models adds its own

__all__ = ["Layer", "deserialize", "serialize", *_HOMES]


def __getattr__(name):
    if name not in _HOMES:
        raise lookup.no_attribute("dlcore.layers", name, __all__)
    module = importlib.import_module(f"dlcore.layers.{_HOMES[name]}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__():
    return sorted({*globals(), *_HOMES})


def _find(name):
    """The class that configurations call `name`, or None."""
    if name in _HOMES:
        value = globals().get(name) or __getattr__(name)
        return value if isinstance(value, type) else None
    return _TABLE.get(name) if isinstance(name, str) else None


def serialize(layer):
    """{"class_name": ..., "name": ..., "config": {...}} of a layer or model.

    A layer that is in several places of it has a number as "shared", and its configuration once.
    """
    with sharing.writing(layer):
        return sharing.described(layer)


def deserialize(config, custom_objects=None):
    """The layer that `serialize` described, with new weights.

    Parameters
    ----------
    config : dict
    custom_objects : dict of str to class or function, optional
        Names of your own.
    """
    if custom_objects:
        with lookup.custom_object_scope(custom_objects):
            return deserialize(config)
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise ValueError(f"layer: expected a dictionary with class_name and config, got {config!r}")
    name, number = config.get("class_name"), config.get("shared")
    cls = name if isinstance(name, type) else lookup.custom_object(name) or _find(name)
    if cls is None:
        raise ValueError(f"layer: expected a built-in class or one in custom_objects, got {name!r}")
    with sharing.reading() as known:
        if number is not None and number in known:
            return known[number]
        layer = cls.from_config(config["config"])
        if isinstance(config.get("name"), str):
            layer._name = config["name"]
        if "build" in config:
            layer.build_from_config(config["build"])
        if number is not None:
            known[number] = layer
        return layer


def is_layer_config(value):
    """Whether `value` is what `serialize` returns."""
    wanted = {"class_name", "name", "config"}
    return isinstance(value, dict) and set(value) - {"shared", "build"} == wanted
