"""The ops under the name `keras.ops.numpy`: those of `dlcore.ops`."""


def __getattr__(name):
    from dlcore import ops

    if name.startswith("_"):
        raise AttributeError(f"dlcore.ops.numpy: expected an op, got {name!r}")
    return getattr(ops, name)
