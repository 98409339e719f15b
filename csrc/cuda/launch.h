// What every file of csrc/cuda needs: the CUDA runtime, launching, and what a kernel is here.
//
// The sources are plain C++ but for CUDA's keywords: kernels are launched by launch(), never by
// <<<>>>, and dynamic shared memory is declared by DL_SHARED. So they also compile against
// csrc/tests/cuda/cuda_runtime.h, which runs them on the processor, thread by thread, for tests on
// machines without a GPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernel.h"

#define DL_LEVEL cuda  // the namespace of what csrc/common has for every backend
#define DL_HALVES true

#ifdef DL_CUDA_EMULATED
#define DL_SHARED(T, name) T* name = reinterpret_cast<T*>(dl_emulation::dynamic_shared())
#else
#define DL_SHARED(T, name)                                    \
  extern __shared__ __align__(16) unsigned char dl_shared_[]; \
  T* name = reinterpret_cast<T*>(dl_shared_)
#endif

namespace dl::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// As dl::Kernel, but a call is put into a stream. `plan` never touches the device; it refuses what
// `launch` cannot do. Work::parts and scratch_bytes do not count; shared_bytes is scratch on the
// device, Call::shared; prepared_bytes stay on the host: small ones may travel as arguments of
// __global__ functions (8 KB in all).
struct CudaKernel : Kernel {
  cudaError_t (*launch)(const Call&, cudaStream_t);
  bool halves = false;  // whether operands may be bfloat16 or float16
};

struct CudaKernelTable {
  const CudaKernel* kernels;
  int n_kernels;
};

const CudaKernelTable& table();  // the kernels that csrc/cuda has

// An empty grid is no error: there is nothing to do.
template <class... P, class... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, const A&... arguments) {
  static_assert((sizeof(P) + ... + 0) <= 8192);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return cudaSuccess;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...);
}

// More than 48 KB of shared memory has to be asked for, once for each kernel. In `bytes` is what is
// dynamic; no kernel has more than 8 KB of static shared memory beside it.
template <class... P>
cudaError_t allow_shared(void (*kernel)(P...), size_t bytes) {
  if (bytes <= 40 * 1024) return cudaSuccess;
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                              cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

constexpr bool is_half(DType t) { return t == DType::bf16 || t == DType::f16; }

// Multiprocessors of an H100. What is cut by it has the same bits on every GPU; its tests, on the
// processor, take a small number.
#ifndef DL_FULL_GPU
#define DL_FULL_GPU 132
#endif
constexpr int64_t kFullGpu = DL_FULL_GPU;
constexpr int64_t kEnoughTiles = kFullGpu * 8 / 11;  // for large tiles to beat more of small ones

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks for `items` parts of work in grid-stride loops: enough to fill any GPU a few times over.
inline unsigned grid_for(int64_t items, int64_t per_block) {
  const int64_t blocks = ceil_div(items, per_block);
  return static_cast<unsigned>(blocks < 4096 ? blocks : 4096);
}

}  // namespace dl::cuda
