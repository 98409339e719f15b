"""EinsumDense: y = activation(einsum(equation, x, kernel) + bias)."""

from dlcore import activations, ops
from dlcore.layers.base import Layer


class EinsumDense(Layer):
    """A dense layer whose axes an equation connects.

    Parameters
    ----------
    equation : str
        As for `ops.einsum`: "ab,bc->ac" is `Dense`; "..." in input and output, at their beginnings
        or ends, stands for further axes.
    output_shape : int or tuple of int
        Sizes of the output's letters without the batch (and without those of "..."); None stands
        for the size that the input has.
    activation : default None
    bias_axes : str, optional
        Letters of the output along which the bias has different values; by default no bias.
    kernel_initializer : default "glorot_uniform"
    bias_initializer : default "zeros"
    kernel_regularizer, bias_regularizer, activity_regularizer : optional
    kernel_constraint, bias_constraint : optional
    **kwargs
        See `Layer`.

    Examples
    --------
    >>> import numpy as np, dlcore
    >>> layer = dlcore.layers.EinsumDense("abc,cde->abde", (None, 4, 8), bias_axes="de")
    >>> layer(np.zeros((2, 5, 3), "float32")).shape, layer.kernel.shape, layer.bias.shape
    ((2, 5, 4, 8), (3, 4, 8), (4, 8))
    """

    def __init__(
        self, equation, output_shape, activation=None, bias_axes=None,
        kernel_initializer="glorot_uniform", bias_initializer="zeros", kernel_regularizer=None,
        bias_regularizer=None, kernel_constraint=None, bias_constraint=None, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.equation, self.bias_axes = equation, bias_axes
        self.output_shape = output_shape if isinstance(output_shape, int) else tuple(output_shape)
        self._letters = self._parsed(equation.replace(" ", ""))
        self.activation = activations.get(activation)
        self._describe_weight("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        self._describe_weight("bias", bias_initializer, bias_regularizer, bias_constraint)

    def _parsed(self, equation):
        """(letters of the input, of the kernel, of the output, place of "..." or None)."""
        terms = equation.replace("->", ",").split(",")
        places = [_place(term) for term in (terms[0], terms[-1])]
        letters = [term.replace("...", "") for term in terms]
        good = len(terms) == 3 and equation.count("->") == 1 and places[0] == places[1] != "inside"
        if not good or not all(part.isalpha() for part in letters) or "..." in terms[1]:
            raise ValueError(
                f"{self.name}: expected an equation as 'ab,bc->ac' or '...b,bc->...c',"
                f" got {self.equation!r}"
            )
        return (*letters, places[0])

    def build(self, input_shape):
        of_input, of_kernel, of_output, place = self._letters
        elided = len(input_shape) - len(of_input)
        if elided < 0 or (place is None and elided):
            raise ValueError(
                f"{self.name}: expected input of {len(of_input)} axes for {self.equation!r},"
                f" got {tuple(input_shape)}"
            )
        given = self.output_shape
        given = (given,) if isinstance(given, int) else given
        if place == "before":
            sizes = dict(zip(of_input, input_shape[elided:], strict=True))
        else:
            sizes = dict(zip(of_input, input_shape[: len(of_input)], strict=True))
            given = (input_shape[0], *given)
        if len(given) != len(of_output):
            raise ValueError(
                f"{self.name}: expected output_shape for the letters of {of_output!r},"
                f" got {self.output_shape}"
            )
        for letter, size in zip(of_output, given, strict=True):
            known = sizes.setdefault(letter, size)
            if known is None or size is None:
                sizes[letter] = size if known is None else known
            elif known != size:
                raise ValueError(
                    f"{self.name}: expected {known} in output_shape for {letter!r}, got {size}"
                )
        self.kernel = self._add_described("kernel", [sizes.get(x) for x in of_kernel])
        self.bias = None
        if self.bias_axes:
            self.bias = self._add_described("bias", self._bias_shape(sizes, elided))

    def _bias_shape(self, sizes, elided):
        _, _, of_output, place = self._letters
        unknown = set(self.bias_axes) - set(of_output)
        if unknown:
            raise ValueError(
                f"{self.name}: expected bias_axes among {of_output!r}, got {self.bias_axes!r}"
            )
        first = min(map(of_output.index, self.bias_axes))
        shape = [sizes[x] if x in self.bias_axes else 1 for x in of_output[first:]]
        return shape + [1] * (elided if place == "after" else 0)

    def call(self, inputs):
        y = ops.einsum(self.equation, self._as_float(inputs), self.kernel)
        return activations.get(self.activation)(y if self.bias is None else y + self.bias)


def _place(term):
    """Where "..." is in a term of an equation: "before" or "after" its letters, or nowhere."""
    if "..." not in term:
        return None
    return "before" if term.startswith("...") else "after" if term.endswith("...") else "inside"
