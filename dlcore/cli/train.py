"""`dlcore train`: an MLP on a data set, with progress, test metrics, the model and its curves."""

import sys
import time

from dlcore.cli import whole, writable

# Data set -> what the network is where no option says otherwise: hidden layers, batch size, epochs.
DEFAULTS = {
    "digits": ((128, 128), 32, 20),
    "mnist": ((512, 512), 128, 10),
    "fashion_mnist": ((512, 512), 128, 10),
    "xor": ((32, 32), 32, 30),
    "circles": ((32, 32), 32, 30),
    "spiral": ((64, 64), 32, 60),
    "blobs": ((32,), 32, 20),
}
TOY_POINTS = 2000


def add_arguments(parser):
    add = parser.add_argument
    add("--data", choices=DEFAULTS, default="digits", help="data set (default: digits)")
    add("--hidden", type=_sizes, metavar="SIZES", help="units of each hidden layer, as 512,512")
    add("--activation", default="relu", help="of the hidden layers (default: relu)")
    add("--dropout", type=float, default=0.0, metavar="RATE", help="dropout after hidden layers")
    add("--optimizer", default="adam", help="default: adam")
    add("--learning-rate", type=float, metavar="RATE", help="by default the optimizer's own")
    add("--batch-size", type=whole(1, "a size"), metavar="N", help="rows per step")
    add("--epochs", type=whole(0, "a number"), metavar="N", help="passes over the data")
    add("--seed", type=whole(0, "a seed"), default=0, help="of the random numbers (default: 0)")
    add("--threads", type=whole(1, "a number"), metavar="N", help="by default one per core")
    add("--save", metavar="FILE", help="file of the model (default: DATA.safetensors)")
    add("--plot", metavar="FILE", help="picture of the learning curves (default: DATA.svg)")
    add("--quiet", action="store_true", help="no progress, only the result")


def run(options):
    import dlcore

    hidden, batch_size, epochs = DEFAULTS[options.data]
    save = writable("train", options.save or f"{options.data}.safetensors")
    plot = writable("train", options.plot or f"{options.data}.svg")
    _check_picture(plot)
    if options.threads:
        dlcore.set_num_threads(options.threads)
    dlcore.utils.set_random_seed(options.seed)

    (x_train, y_train), (x_test, y_test) = _load(options.data, options.seed)
    x_train, x_held, y_train, y_held = dlcore.data.train_test_split(
        x_train, y_train, test_size=0.1, stratify=y_train, seed=options.seed
    )
    model = _build(x_train, y_train, options.hidden or hidden, options)
    if not options.quiet:
        model.summary()
    start = time.perf_counter()
    history = model.fit(
        x_train,
        y_train,
        batch_size=options.batch_size or batch_size,
        epochs=epochs if options.epochs is None else options.epochs,
        validation_data=(x_held, y_held),
        verbose=0 if options.quiet else "auto",
    )
    seconds = time.perf_counter() - start
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    model.save(save)
    print(
        f"test loss {loss:.4f}, test accuracy {100 * accuracy:.2f} % on {len(y_test)} rows; "
        f"trained in {seconds:.1f} s"
    )
    print(f"model: {save}")
    if history.history.get("loss"):
        from dlcore.utils.curves import save_curves

        save_curves(history.history, plot)
        print(f"learning curves: {plot}")


def _sizes(text):
    parse = whole(1, "a layer size")
    return tuple(parse(part) for part in text.split(","))


def _load(name, seed):
    """Features scaled to about 1, and labels: (train, test)."""
    from dlcore import data, datasets

    if name in ("digits", "mnist", "fashion_mnist"):
        (x, y), (u, v) = getattr(datasets, name).load_data()
        scale = 16 if name == "digits" else 255
        x, u = ((a.reshape(len(a), -1) / scale).astype("float32") for a in (x, u))
        return (x, y), (u, v)
    x, y = getattr(data, name)(TOY_POINTS, seed=seed)
    x, u, y, v = data.train_test_split(x, y, stratify=y, seed=seed)
    return (x, y), (u, v)


def _build(x, y, hidden, options):
    from dlcore import Sequential, layers, optimizers

    model = Sequential([layers.Input((x.shape[1],))])
    for units in hidden:
        model.add(layers.Dense(units, activation=options.activation))
        if options.dropout:
            model.add(layers.Dropout(options.dropout))
    model.add(layers.Dense(int(y.max()) + 1, activation="softmax"))
    optimizer = optimizers.get(options.optimizer)
    if options.learning_rate is not None:
        optimizer = type(optimizer)(learning_rate=options.learning_rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _check_picture(path):
    if path.lower().endswith(".svg") or "matplotlib" in sys.modules:
        return
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise ValueError(
            f"train: expected --plot with a name that ends in .svg, got {path!r}; "
            "other formats need matplotlib (pip install matplotlib)"
        )
