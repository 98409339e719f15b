"""Mixed precision: layers that compute in bfloat16 or float16 and keep float32 weights."""

from dlcore.config import dtype_policy, set_dtype_policy
from dlcore.dtype_policies import DTypePolicy
from dlcore.optimizers import LossScaleOptimizer

Policy = DTypePolicy
global_policy = dtype_policy
set_global_policy = set_dtype_policy

__all__ = [
    "DTypePolicy", "LossScaleOptimizer", "Policy", "dtype_policy", "global_policy",
    "set_dtype_policy", "set_global_policy",
]  # fmt: skip
