"""What a model takes, as a layer and as a symbol."""

from dlcore import config, lookup
from dlcore.layers import spec
from dlcore.layers.base import Layer
from dlcore.layers.symbolic import Connection
from dlcore.program.dtypes import standardize


class InputLayer(Layer):
    """What a model takes: the shape and dtype of its input. See `Input`.

    Parameters
    ----------
    shape : tuple of int
        Shape of one row.
    batch_size : int, optional
        What the symbol shows as its batch; models take any other too.
    dtype : str, optional
        What inputs are cast to; by default `config.floatx()`.
    batch_shape : tuple, optional
        (batch, *shape), instead of `shape`.
    name : str, optional
    sparse, ragged, input_tensor, optional
        Not supported: must be left as they are.
    input_shape, batch_input_shape
        Old spellings of `shape` and `batch_shape`.
    """

    def __init__(
        self, shape=None, batch_size=None, dtype=None, sparse=None, ragged=None, batch_shape=None,
        input_tensor=None, optional=False, name=None, input_shape=None, batch_input_shape=None,
    ):  # fmt: skip
        super().__init__(dtype=config.floatx(), name=name)
        unsupported = {
            "sparse": sparse, "ragged": ragged, "input_tensor": input_tensor, "optional": optional,
        }  # fmt: skip
        for what, value in unsupported.items():
            if value:
                raise ValueError(f"{self.name}: expected no {what}, got {value!r}")
        shape = input_shape if shape is None else shape
        batch_shape = batch_input_shape if batch_shape is None else batch_shape
        if dtype in (str, "str", "string"):
            raise ValueError(
                f"{self.name}: expected a dtype of numbers, got {dtype!r}; call StringLookup or"
                " TextVectorization on the data, and the model on what they return"
            )
        self.dtype = standardize(dtype, self.name)
        if shape is None and batch_shape is None:
            raise ValueError(f"{self.name}: expected shape or batch_shape, got neither")
        if shape is None:
            batch_size, *shape = batch_shape
        self.shape = self._row_shape = spec.check_row_shape(self.name, shape)
        self.batch_size = batch_size
        self.batch_shape = (batch_size, *self.shape)
        self.built = True
        Connection(self, (), {}, spec.Spec(self.batch_shape, self.dtype))

    def call(self, inputs):
        return inputs


@lookup.checked
def Input(
    shape=None, batch_size=None, dtype=None, sparse=None, ragged=None, batch_shape=None, name=None,
    tensor=None, optional=False,
):  # fmt: skip
    """The input of a model: a symbol to call layers and `dlcore.ops` on, for `Model(inputs,
    outputs)`, or the first entry of a `Sequential`.

    Parameters
    ----------
    shape : tuple of int
        Shape of one row, without the batch.
    batch_size, dtype, sparse, ragged, batch_shape, name, tensor, optional
        See `InputLayer`.

    Returns
    -------
    KerasTensor

    Examples
    --------
    >>> import dlcore as keras
    >>> x = keras.Input((4,))
    >>> y = keras.layers.Dense(4, activation="relu")(x) + x
    >>> keras.Model(x, y).output_shape
    (None, 4)
    >>> keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).output_shape
    (None, 2)
    """
    return InputLayer(
        shape, batch_size, dtype, sparse, ragged, batch_shape, tensor, optional, name
    ).output
