"""Global settings, with the names of `keras.config`."""

_floatx = "float32"
_dtype_policy = None  # the name of one, or None for that of _floatx
_epsilon = 1e-7
_image_data_format = "channels_last"
_check_numerics = False
_matmul_precision = "float32"
_interactive = True
_max_epochs = _max_steps = None


def backend():
    """What computes: always "dlcore"."""
    return "dlcore"


def floatx():
    """Default float type of weights and of converted inputs: "float32" or "float64"."""
    return _floatx


def set_floatx(value):
    """Set the default float type.

    Parameters
    ----------
    value : {"float32", "float64"}

    Raises
    ------
    ValueError
        For any other value.
    """
    global _floatx
    if value not in ("float32", "float64"):
        raise ValueError(f"set_floatx: expected 'float32' or 'float64', got {value!r}")
    _floatx = value


def dtype_policy():
    """The `DTypePolicy` of layers that are given no dtype; by default that of `floatx`."""
    from dlcore import dtype_policies

    return dtype_policies.get(_dtype_policy or _floatx)


def set_dtype_policy(policy):
    """Set in which type layers made from now on compute and keep their weights.

    Parameters
    ----------
    policy : str or DTypePolicy
        "float32", "float64", "mixed_bfloat16" or "mixed_float16"; None goes back to `floatx`.

    Raises
    ------
    ValueError
        For any other name.

    Examples
    --------
    >>> import dlcore
    >>> dlcore.config.set_dtype_policy("mixed_bfloat16")
    >>> dlcore.layers.Dense(1).compute_dtype
    'bfloat16'
    >>> dlcore.config.set_dtype_policy("float32")
    """
    global _dtype_policy
    from dlcore import dtype_policies

    _dtype_policy = None if policy is None else dtype_policies.get(policy).name


def epsilon():
    """Small number that keeps logarithms and divisions finite (1e-7)."""
    return _epsilon


def set_epsilon(value):
    """Set `epsilon` to a positive float."""
    global _epsilon
    if not value > 0:
        raise ValueError(f"set_epsilon: expected a positive number, got {value!r}")
    _epsilon = float(value)


def image_data_format():
    """Default order of the axes of images: "channels_last" or "channels_first"."""
    return _image_data_format


def set_image_data_format(data_format):
    """Set the default order of the axes of images.

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}

    Raises
    ------
    ValueError
        For any other value.
    """
    global _image_data_format
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            "set_image_data_format: expected 'channels_last' or 'channels_first', "
            f"got {data_format!r}"
        )
    _image_data_format = data_format


def check_numerics(enable=None):
    """Whether `fit` refuses NaN and Inf in inputs and losses; with an argument, sets it."""
    global _check_numerics
    if enable is not None:
        _check_numerics = bool(enable)
    return _check_numerics


def matmul_precision():
    """How GPUs multiply float32: "float32" or "tf32"."""
    return _matmul_precision


def set_matmul_precision(value):
    """Set how GPUs multiply float32 matrices, in convolutions too.

    Tensor cores are several times as fast as float32 arithmetic, but keep only ten bits of each
    factor's mantissa ("tf32"); sums stay in float32. The setting holds for what is built
    afterwards, and changes nothing where there are no tensor cores.

    Parameters
    ----------
    value : {"float32", "tf32"}

    Raises
    ------
    ValueError
        For any other value.
    """
    global _matmul_precision
    if value not in ("float32", "tf32"):
        raise ValueError(f"set_matmul_precision: expected 'float32' or 'tf32', got {value!r}")
    _matmul_precision = value


def enable_interactive_logging():
    """Let progress bars move, where there is a terminal (the default)."""
    global _interactive
    _interactive = True


def disable_interactive_logging():
    """Print a line per epoch instead of progress bars that move."""
    global _interactive
    _interactive = False


def is_interactive_logging_enabled():
    """Whether progress bars may move."""
    return _interactive


def max_epochs():
    """Most epochs of any call of `fit`, or None."""
    return _max_epochs


def set_max_epochs(max_epochs):
    """Let no call of `fit` run more epochs than that, for a quick try of a script; None for all."""
    global _max_epochs
    _max_epochs = _limit("set_max_epochs", max_epochs)


def max_steps_per_epoch():
    """Most steps of an epoch of `fit`, `evaluate` and `predict`, or None."""
    return _max_steps


def set_max_steps_per_epoch(max_steps_per_epoch):
    """Let no epoch of `fit`, `evaluate` or `predict` run more steps than that; None for all."""
    global _max_steps
    _max_steps = _limit("set_max_steps_per_epoch", max_steps_per_epoch)


def _limit(who, value):
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"{who}: expected an int above 0 or None, got {value!r}")
    return value


def enable_traceback_filtering():
    """Accepted for Keras' sake: tracebacks are always whole."""


def disable_traceback_filtering():
    """Accepted for Keras' sake: tracebacks are always whole."""


def is_traceback_filtering_enabled():
    """Always False: tracebacks are whole."""
    return False


def enable_unsafe_deserialization():
    """Accepted for Keras' sake: files hold no code, and none is ever run from them."""


def enable_flash_attention():
    """Accepted for Keras' sake: attention goes over blocks wherever nobody asks for the weights."""


def disable_flash_attention():
    """Accepted for Keras' sake: attention goes over blocks wherever nobody asks for the weights."""


def is_flash_attention_enabled():
    """Always True: attention goes over blocks."""
    return True
