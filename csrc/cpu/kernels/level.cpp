// The table of this instruction set's kernels.
#include "cpu/kernels/level.h"

#include "cpu/simd.h"

namespace dl::DL_LEVEL {

static const Kernel kKernels[] = {
#define DL_KERNEL(name) {#name, plan_##name, run_##name},
#include "kernels.def"
#undef DL_KERNEL
};

const KernelTable& table() {
  static constexpr KernelTable t{DL_TEXT(DL_LEVEL), kVectorBytes, kKernels,
                                 sizeof(kKernels) / sizeof(kKernels[0])};
  return t;
}

}  // namespace dl::DL_LEVEL
