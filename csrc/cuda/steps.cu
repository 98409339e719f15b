#include "cuda/steps.h"

#include <algorithm>

#include "cuda/launch.h"

namespace dl::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kRanges = 64;  // of one launch: as many as arguments have room for

struct Ranges {
  const int64_t* state;
  int first;
  MovingRange list[kRanges];
};

template <class T>
__device__ int64_t copy_whole(char* to, const char* from, int64_t bytes) {
  const int64_t n = bytes / static_cast<int64_t>(sizeof(T));
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x; i < n; i += stride)
    reinterpret_cast<T*>(to)[i] = reinterpret_cast<const T*>(from)[i];
  return n * static_cast<int64_t>(sizeof(T));
}

// The widest accesses that both addresses allow, then the bytes that are left.
__device__ void copy_bytes(char* to, const char* from, int64_t bytes) {
  const uint64_t both = reinterpret_cast<uint64_t>(to) | reinterpret_cast<uint64_t>(from);
  int64_t done = 0;
  if (both % 16 == 0) {
    done = copy_whole<uint4>(to, from, bytes);
  } else if (both % 4 == 0) {
    done = copy_whole<unsigned>(to, from, bytes);
  }
  copy_whole<char>(to + done, from + done, bytes - done);
}

template <bool kSend>
__global__ void __launch_bounds__(kThreads) copy_ranges(const __grid_constant__ Ranges ranges) {
  const int i = static_cast<int>(blockIdx.y);
  const MovingRange& r = ranges.list[i];
  char* moving = reinterpret_cast<char*>(ranges.state[1 + ranges.first + i]) + r.offset +
                 ranges.state[0] * r.step_bytes;
  if (kSend) {
    copy_bytes(moving, r.fixed, r.bytes);
  } else {
    copy_bytes(r.fixed, moving, r.bytes);
  }
}

__global__ void next_step(int64_t* state) { ++state[0]; }

__global__ void store(int64_t* to, int64_t word) { *to = word; }

template <bool kSend>
cudaError_t launch_ranges(const int64_t* state, int first, const MovingRange* list, int n,
                          cudaStream_t stream) {
  for (int done = 0; done < n; done += kRanges) {
    Ranges ranges{state, first + done, {}};
    const int count = std::min(n - done, kRanges);
    std::copy(list + done, list + done + count, ranges.list);
    int64_t most = 0;
    for (int i = 0; i < count; ++i) most = std::max(most, ranges.list[i].bytes);
    const dim3 grid(grid_for(most, int64_t{kThreads} * 16 * 4), static_cast<unsigned>(count));
    const cudaError_t result =
        launch(copy_ranges<kSend>, grid, dim3(kThreads), 0, stream, ranges);
    if (result != cudaSuccess) return result;
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t launch_bring(const int64_t* state, int first, const MovingRange* ranges, int n,
                         cudaStream_t stream) {
  return launch_ranges<false>(state, first, ranges, n, stream);
}

cudaError_t launch_send(const int64_t* state, int first, const MovingRange* ranges, int n,
                        cudaStream_t stream) {
  return launch_ranges<true>(state, first, ranges, n, stream);
}

cudaError_t launch_next_step(int64_t* state, cudaStream_t stream) {
  return launch(next_step, dim3(1), dim3(1), 0, stream, state);
}

cudaError_t launch_store(int64_t* to, int64_t word, cudaStream_t stream) {
  return launch(store, dim3(1), dim3(1), 0, stream, to, word);
}

}  // namespace dl::cuda
