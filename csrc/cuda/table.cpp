// The kernels that csrc/cuda has: those lines of kernels.def whose plan and launch are linked in. A
// program that needs another one runs by the array formulas.
#include <string_view>
#include <vector>

#include "cuda/launch.h"

namespace dl::cuda {

#define DL_KERNEL(name)                                              \
  __attribute__((weak)) const char* plan_##name(const Call&, Work&); \
  __attribute__((weak)) cudaError_t launch_##name(const Call&, cudaStream_t);
#include "kernels.def"
#undef DL_KERNEL

namespace {

// Those that load and store halves. Others refuse them, and a program converts around them.
constexpr std::string_view kTakeHalves[] = {
    "gemm",        "pointwise",       "reduce",
    "conv",        "conv_input_grad", "conv_filter_grad",
    "softmax",     "softmax_grad",    "softmax_cross_entropy",
    "pool",        "pool_grad",       "gather",
    "scatter_add", "layer_norm",      "layer_norm_grad",
    "moments",     "centered_sums",   "random",
    "attention",   "attention_grad",  "affine_sample"};

bool takes_halves(std::string_view name) {
  for (const std::string_view taking : kTakeHalves) {
    if (name == taking) return true;
  }
  return false;
}

template <const char* (*plan)(const Call&, Work&)>
const char* plan_without_halves(const Call& call, Work& work) {
  for (int i = 0; i < call.n_tensors; ++i) {
    if (is_half(call.tensors[i].dtype)) return "expected operands that are no halves";
  }
  return plan(call, work);
}

}  // namespace

const CudaKernelTable& table() {
  static const std::vector<CudaKernel> kernels = [] {
    std::vector<CudaKernel> list;
#define DL_KERNEL(name)                                                                        \
  if (plan_##name && launch_##name) {                                                          \
    const bool halves = takes_halves(#name);                                                   \
    list.push_back({{#name, halves ? plan_##name : plan_without_halves<plan_##name>, nullptr}, \
                    launch_##name,                                                             \
                    halves});                                                                  \
  }
#include "kernels.def"
#undef DL_KERNEL
    return list;
  }();
  static const CudaKernelTable table{kernels.data(), static_cast<int>(kernels.size())};
  return table;
}

}  // namespace dl::cuda
