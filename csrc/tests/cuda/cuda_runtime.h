// CUDA's runtime on the processor, as much of it as csrc/cuda uses: device memory is the heap, a
// stream's work is done when somebody waits for it, and a kernel runs block after block, its
// threads as fibers that change at barriers. It proves indexing, barriers, the order of streams and
// arithmetic, not speed and not the memory model.
//
// Environment: DLCORE_EMULATION_MEMORY is the device's in bytes, DLCORE_EMULATION_DEVICES=0 takes
// it away, DLCORE_EMULATION_DRIVER and DLCORE_EMULATION_RUNTIME are the versions of the driver (0:
// there is none) and of the runtime, as 12080,
// DLCORE_EMULATION_SHARED the most shared memory of a block (of consumers' GPUs: 101376).
// DLCORE_EMULATION_ORDER=reverse runs blocks, and the threads of a block, last to first, so that a
// barrier that is missing, or a block that reads what another writes, shows in one of the two
// orders. A barrier that some thread of a block (or of a warp) never reaches ends the process.
#pragma once

#ifndef DL_CUDA_EMULATED
#define DL_CUDA_EMULATED
#endif

#include <math.h>  // for float and double, as CUDA's

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#define __global__ static
#define __device__
#define __host__
#define __constant__
#define __shared__ static thread_local
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)
#define __restrict__ __restrict

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct uint3 {
  unsigned x, y, z;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }

extern thread_local uint3 threadIdx, blockIdx;
extern thread_local dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace dl_emulation {

void* dynamic_shared();
// Shared memory's address 0, and addresses in it.
const char* shared_window();
uint64_t shared_offset(const void* p);
void block_barrier();
void warp_barrier();
constexpr int kSlot = 32;
char* warp_slot(int lane);  // kSlot bytes of each lane of this thread's warp
int lane();
// Asynchronous copies of 16 bytes to shared memory: made by the wait, not before it, so that a wait
// that is missing shows.
void copy_later(void* to, const void* from, int bytes);
void end_copies();
void wait_copies(int groups_left);
// Other threads run until passed() says so.
void wait_until(const std::function<bool()>& passed);
// Runs `body` for every thread of the grid.
void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body);

template <class T>
T exchange(T value, int from) {
  static_assert(sizeof(T) <= kSlot);
  std::memcpy(warp_slot(lane()), &value, sizeof(T));
  warp_barrier();
  T other;
  std::memcpy(&other, warp_slot(from), sizeof(T));
  warp_barrier();
  return other;
}

// f(values), where values(lane) is what that lane of the warp has.
template <class T, class F>
void with_lanes(const T& value, F&& f) {
  static_assert(sizeof(T) <= kSlot);
  std::memcpy(warp_slot(lane()), &value, sizeof(T));
  warp_barrier();
  f([](int from) {
    T other;
    std::memcpy(&other, warp_slot(from), sizeof(T));
    return other;
  });
  warp_barrier();
}

}  // namespace dl_emulation

inline void __syncthreads() { dl_emulation::block_barrier(); }
inline void __syncwarp(unsigned = 0xffffffffu) { dl_emulation::warp_barrier(); }
inline void __threadfence() {}
inline void __threadfence_block() {}

template <class T>
T __shfl_sync(unsigned, T value, int from, int width = 32) {
  const int lane = dl_emulation::lane();
  return dl_emulation::exchange(value, lane / width * width + from % width);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask, int = 32) {
  return dl_emulation::exchange(value, dl_emulation::lane() ^ mask);
}
template <class T>
T __shfl_down_sync(unsigned, T value, unsigned delta, int width = 32) {
  const int lane = dl_emulation::lane(), from = lane + static_cast<int>(delta);
  return dl_emulation::exchange(value, from / width == lane / width ? from : lane);
}
template <class T>
T __shfl_up_sync(unsigned, T value, unsigned delta, int width = 32) {
  const int lane = dl_emulation::lane(), from = lane - static_cast<int>(delta);
  return dl_emulation::exchange(value, from >= lane / width * width ? from : lane);
}
inline unsigned __ballot_sync(unsigned, int predicate) {
  unsigned votes = 0;
  for (int i = 0; i < warpSize; ++i)
    votes |= static_cast<unsigned>(dl_emulation::exchange(predicate != 0, i)) << i;
  return votes;
}
inline int __any_sync(unsigned all, int predicate) { return __ballot_sync(all, predicate) != 0; }

template <class T>
T __ldg(const T* p) {
  return *p;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}
inline float __int_as_float(int x) {
  float y;
  std::memcpy(&y, &x, 4);
  return y;
}
inline int __float_as_int(float x) {
  int y;
  std::memcpy(&y, &x, 4);
  return y;
}
inline unsigned __float_as_uint(float x) { return static_cast<unsigned>(__float_as_int(x)); }
inline float __uint_as_float(unsigned x) { return __int_as_float(static_cast<int>(x)); }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }
// Products and sums that are never fused; the build has no multiply-add of its own accord.
// Rounded each by itself: through memory, so that they are not made one multiply-add.
inline double __dmul_rn(double a, double b) {
  volatile double product = a * b;
  return product;
}
inline double __dadd_rn(double a, double b) { return a + b; }
inline float __fdividef(float a, float b) { return a / b; }
using std::isfinite;
using std::isinf;
using std::isnan;
using std::max;
using std::min;

// Host side.

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInitializationError = 3,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorECCUncorrectable = 214,
  cudaErrorNvlinkUncorrectable = 220,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchOutOfResources = 701,
  cudaErrorLaunchTimeout = 702,
  cudaErrorAssert = 710,
  cudaErrorHardwareStackError = 714,
  cudaErrorIllegalInstruction = 715,
  cudaErrorMisalignedAddress = 716,
  cudaErrorInvalidAddressSpace = 717,
  cudaErrorInvalidPc = 718,
  cudaErrorLaunchFailure = 719,
  cudaErrorNotSupported = 801,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureIsolation = 905,
};
using cudaStream_t = struct dl_emulated_stream*;
using cudaEvent_t = struct dl_emulated_event*;
using cudaGraph_t = struct dl_emulated_graph*;
using cudaGraphExec_t = struct dl_emulated_exec*;
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount };
enum { cudaEnableDefault = 0 };
enum cudaDriverEntryPointQueryResult {
  cudaDriverEntryPointSuccess,
  cudaDriverEntryPointSymbolNotFound
};
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
enum cudaMemoryType {
  cudaMemoryTypeUnregistered,
  cudaMemoryTypeHost,
  cudaMemoryTypeDevice,
  cudaMemoryTypeManaged
};
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
  void *devicePointer, *hostPointer;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  void* attrs;
  unsigned numAttrs;
};
struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int major, minor, multiProcessorCount, l2CacheSize;
  size_t sharedMemPerBlockOptin;
};

const char* cudaGetErrorName(cudaError_t);
const char* cudaGetErrorString(cudaError_t);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int*);
cudaError_t cudaGetDevice(int*);
cudaError_t cudaSetDevice(int);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp*, int device);
cudaError_t cudaDeviceGetAttribute(int*, cudaDeviceAttr, int device);
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned version,
                                             unsigned long long flags,
                                             cudaDriverEntryPointQueryResult*);
cudaError_t cudaDriverGetVersion(int*);
cudaError_t cudaRuntimeGetVersion(int*);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
cudaError_t cudaMalloc(void**, size_t);
cudaError_t cudaFree(void*);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes*, const void*);
cudaError_t cudaMallocHost(void**, size_t);
cudaError_t cudaFreeHost(void*);
cudaError_t cudaMemcpyAsync(void*, const void*, size_t, cudaMemcpyKind, cudaStream_t);
cudaError_t cudaMemsetAsync(void*, int, size_t, cudaStream_t);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t*, unsigned);
cudaError_t cudaStreamDestroy(cudaStream_t);
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode);
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t*);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t*, cudaGraph_t, unsigned long long);
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t);
cudaError_t cudaGraphDestroy(cudaGraph_t);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t);
cudaError_t cudaEventCreate(cudaEvent_t*);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t*, unsigned);
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t);
cudaError_t cudaEventSynchronize(cudaEvent_t);
cudaError_t cudaEventElapsedTime(float*, cudaEvent_t, cudaEvent_t);
cudaError_t cudaEventDestroy(cudaEvent_t);
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int);

namespace dl_emulation {
// Puts work into a stream, or records it if the stream captures.
cudaError_t submit(cudaStream_t, std::function<void()> work);
bool allows_shared(const void* kernel, size_t bytes);  // of dynamic shared memory
// What waits for the device report from now on; cudaSuccess ends it, as no real device would.
void fail(cudaError_t);
}  // namespace dl_emulation

template <class... P>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...),
                               P... arguments) {
  const dim3 grid = config->gridDim, block = config->blockDim;
  const size_t shared = config->dynamicSmemBytes;
  if (block.x * block.y * block.z > 1024 || block.z > 64 || grid.x > 0x7fffffff || grid.y > 65535 ||
      grid.z > 65535 || !dl_emulation::allows_shared(reinterpret_cast<const void*>(kernel), shared))
    return cudaErrorInvalidValue;
  return dl_emulation::submit(config->stream, [=] {
    dl_emulation::run(grid, block, shared, [=] { kernel(arguments...); });
  });
}
