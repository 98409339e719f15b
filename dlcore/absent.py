"""Names of Keras that are not here, and what there is instead; read when such a name is asked for.

What is left out: what needs another framework, quantization of weights, complex numbers, and data
sets too large to come by.
"""

_WEIGHTS = "weights of published models are not here; build the layers and load your own weights"
_QUANTIZED = "weights have 32 or 64 bits; policies such as 'mixed_bfloat16' compute in 16"
_COMPLEX = "complex numbers are pairs (real part, imaginary part), as ops.fft takes and returns"
_FRAMEWORK = "layers of another framework do not run here"
_PLACES = "RandomTranslation, RandomRotation, RandomZoom and RandomShear move pixels"
_SPECTRA = "ops.stft transforms sequences, in a Lambda or a layer of your own"
_DEVICES = "one process trains on all threads of a machine, or on one GPU"
_STATE = "ops on arrays run at once; variables are changed with assign"

ADVICE = {
    # layers
    "AugMix": "RandAugment picks changes at random too",
    "ContrastLimitedAdaptiveHistogramEqualization": "Equalization evens out whole images",
    "FlaxLayer": _FRAMEWORK,
    "JaxLayer": _FRAMEWORK,
    "TFSMLayer": _FRAMEWORK,
    "TorchModuleWrapper": "io.weights_from_torch takes over the weights of a PyTorch model",
    "MelSpectrogram": _SPECTRA,
    "STFTSpectrogram": _SPECTRA,
    "MaxNumBoundingBoxes": "boxes are arrays like others",
    "RandomElasticTransform": _PLACES,
    "RandomPerspective": _PLACES,
    # ops
    "eig": "ops.eigh is for symmetric matrices; other values are complex, use numpy.linalg.eig",
    "elastic_transform": "ops.image.map_coordinates takes any displacement",
    "jvp": "dlcore.grad and dlcore.value_and_grad give gradients, by reverse differentiation",
    "lu_factor": "ops.solve, ops.inv and ops.det factor by themselves",
    "perspective_transform": "ops.image.map_coordinates takes any places",
    "polar": _COMPLEX,
    "scale_and_translate": "ops.image.affine_transform scales and translates",
    "vectorize": "ops.vectorized_map maps over the first axis, numpy.vectorize over arrays",
    "view": "numpy's x.view(dtype) reads the bytes of an array as another type",
    "view_as_complex": _COMPLEX,
    "view_as_real": _COMPLEX,
    # optimizers and callbacks
    "MultiOptimizer": "train_step of a model can use several optimizers",
    "ScheduleFreeAdamW": "AdamW(use_ema=True) averages the weights too",
    "OptimizerMap": "train_step of a model can use several optimizers",
    "OrbaxCheckpoint": "ModelCheckpoint and BackupAndRestore save and go on",
    "RemoteMonitor": "LambdaCallback(on_epoch_end=...) can send logs",
    # the package
    "GradientTape": "gradients(loss, variables) in train_step or in a function under"
    " dlcore.function, or value_and_grad of a function",
    "Function": "Model(inputs, outputs) makes a model of a graph",
    "Quantizer": _QUANTIZED,
    "RematScope": "memory is planned for a whole step, nothing is computed anew",
    "StatelessScope": _STATE,
    "SymbolicScope": _STATE,
    "applications": _WEIGHTS,
    "distillation": "a loss of your own can compare two models",
    "distribution": _DEVICES,
    "export": "files of Model.save hold the layers and weights, and load_model reads them",
    "legacy": "old spellings are in their own places",
    "quantizers": _QUANTIZED,
    "remat": "memory is planned for a whole step, nothing is computed anew",
    "visualization": "utils.plot_model draws models, and matplotlib images",
    "wrappers": "scikit-learn takes objects with fit and predict: call a model in one",
    # utils, saving, initializers, policies
    "Config": "a dictionary does",
    "FeatureSpace": "StringLookup, IntegerLookup, CategoryEncoding, Discretization, HashedCrossing"
    " and Normalization prepare each column, and Concatenate joins them",
    "KerasFileEditor": "files are safetensors, which safetensors.numpy reads and writes",
    "STFT": "ops.stft transforms sequences",
    "STFTInitializer": "ops.stft transforms sequences",
    "audio_dataset_from_directory": "DataLoader takes any source of arrays",
    "bounding_boxes": "boxes are arrays like others",
    "model_to_dot": "utils.plot_model draws models",
    "stft": "ops.stft transforms sequences",
    "AWQDTypePolicy": _QUANTIZED,
    "DTypePolicyMap": "each layer takes a dtype of its own",
    "GPTQDTypePolicy": _QUANTIZED,
    "Int4DTypePolicy": _QUANTIZED,
    "QuantizedDTypePolicy": _QUANTIZED,
    "QuantizedFloat8DTypePolicy": _QUANTIZED,
}
