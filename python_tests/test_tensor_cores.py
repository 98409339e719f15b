"""The products of a layer and its gradients on tensor cores, by each of the kernels for them."""

import pytest
from test_gpu import on_gpu

from dlcore import backends
from dlcore.check import tensor_cores

_cuda = pytest.importorskip("dlcore._cuda")
if _cuda.available() is not None:
    pytest.skip(_cuda.available(), allow_module_level=True)

# The emulated device does what Hopper's instructions do.
HOPPER = _cuda.device()["emulated"] or _cuda.device()["capability"] == (9, 0)


@pytest.mark.parametrize("kernels", ["never", "always"])
@pytest.mark.parametrize("precision", tensor_cores.PRECISIONS)
def test_layer(precision, kernels):
    with on_gpu("cuda"):
        result, taken = tensor_cores.check(
            precision, kernels, backends.device_array, backends.to_host
        )
    assert not result.failures
    # Forward and both gradients; as tf32, not that whose operands both lie across k.
    products = (2 if precision == "tf32" else 3) * len(tensor_cores.SHAPES)
    assert taken == (products if kernels == "always" and HOPPER else 0)


def test_choice_is_one_of_three():
    with pytest.raises(ValueError, match="expected 'never', 'large' or 'always'"):
        _cuda.use_hopper("small")
