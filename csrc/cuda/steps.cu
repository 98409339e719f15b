#include "cuda/steps.h"

#include <algorithm>

#include "cuda/launch.h"

namespace dl::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kRanges = 64;  // of one launch: as many as arguments have room for

// As much is copied by one block, which then goes to the next step too: a launch less.
constexpr int64_t kAlone = 32 * 1024;

struct Ranges {
  int64_t* state;
  int first, n;
  bool last;  // in a grid of one block only
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
  const int64_t step = ranges.state[0];
  for (int i = static_cast<int>(blockIdx.y); i < ranges.n; i += static_cast<int>(gridDim.y)) {
    const MovingRange& r = ranges.list[i];
    char* moving = reinterpret_cast<char*>(ranges.state[1 + ranges.first + i]) + r.offset +
                   step * r.step_bytes;
    if (kSend) {
      copy_bytes(moving, r.fixed, r.bytes);
    } else {
      copy_bytes(r.fixed, moving, r.bytes);
    }
  }
  if (!ranges.last) return;
  __syncthreads();
  if (threadIdx.x == 0) ranges.state[0] = step + 1;
}

__global__ void next_step(int64_t* state) { ++state[0]; }

__global__ void store(int64_t* to, int64_t word) { *to = word; }

template <bool kSend>
cudaError_t launch_ranges(int64_t* state, int first, const MovingRange* list, int n, bool last,
                          cudaStream_t stream) {
  int64_t most = 0, total = 0;
  for (int i = 0; i < n; ++i) {
    most = std::max(most, list[i].bytes);
    total += list[i].bytes;
  }
  const bool alone = n <= kRanges && total <= kAlone;
  for (int done = 0; done < n; done += kRanges) {
    Ranges ranges{state, first + done, std::min(n - done, kRanges), last && alone, {}};
    std::copy(list + done, list + done + ranges.n, ranges.list);
    const dim3 grid =
        alone ? dim3(1)
              : dim3(grid_for(most, int64_t{kThreads} * 16 * 4), static_cast<unsigned>(ranges.n));
    const cudaError_t result = launch(copy_ranges<kSend>, grid, dim3(kThreads), 0, stream, ranges);
    if (result != cudaSuccess) return result;
  }
  if (alone || !last) return cudaSuccess;
  return launch(next_step, dim3(1), dim3(1), 0, stream, state);
}

}  // namespace

cudaError_t launch_bring(int64_t* state, int first, const MovingRange* ranges, int n, bool last,
                         cudaStream_t stream) {
  return launch_ranges<false>(state, first, ranges, n, last, stream);
}

cudaError_t launch_send(int64_t* state, int first, const MovingRange* ranges, int n, bool last,
                        cudaStream_t stream) {
  return launch_ranges<true>(state, first, ranges, n, last, stream);
}

cudaError_t launch_store(int64_t* to, int64_t word, cudaStream_t stream) {
  return launch(store, dim3(1), dim3(1), 0, stream, to, word);
}

}  // namespace dl::cuda
