// The kernels that csrc/cuda has: those lines of kernels.def whose plan and launch are linked in. A
// program that needs another one runs by the array formulas.
#include <vector>

#include "cuda/launch.h"

namespace dl::cuda {

#define DL_KERNEL(name)                                                   \
  __attribute__((weak)) const char* plan_##name(const Call&, Work&);      \
  __attribute__((weak)) cudaError_t launch_##name(const Call&, cudaStream_t);
#include "kernels.def"
#undef DL_KERNEL

const CudaKernelTable& table() {
  static const std::vector<CudaKernel> kernels = [] {
    std::vector<CudaKernel> list;
#define DL_KERNEL(name) \
  if (plan_##name && launch_##name) list.push_back({{#name, plan_##name, nullptr}, launch_##name});
#include "kernels.def"
#undef DL_KERNEL
    return list;
  }();
  static const CudaKernelTable table{kernels.data(), static_cast<int>(kernels.size())};
  return table;
}

}  // namespace dl::cuda
