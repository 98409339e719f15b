// Reductions over threads, in an order that depends on the shape alone: no atomics, so two runs
// have the same bits.
//
//   reduce_lanes    groups of neighbouring lanes of a warp
//   reduce_group    groups of neighbouring threads of a block
//   reduce_columns  threads of a block at distances of `width`
//
// X is a number or a small struct of numbers; blocks have one dimension and whole warps, and every
// thread of the block calls.
#pragma once

#include <cstring>
#include <type_traits>

#include "cuda/launch.h"

namespace dl::cuda {

constexpr int kMostWarps = 32;  // of a block

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

struct Largest {  // a NaN loses
  template <class T>
  __device__ T operator()(T a, T b) const {
    return fmax(a, b);
  }
};

// x of the lane whose number differs in the bits of `mask`.
template <class X>
__device__ inline X exchange(const X& x, int mask) {
  if constexpr (sizeof(X) == 4 || sizeof(X) == 8) {
    using Word = std::conditional_t<sizeof(X) == 4, int, long long>;
    Word word;
    memcpy(&word, &x, sizeof x);
    word = __shfl_xor_sync(kAllLanes, word, mask);
    X y;
    memcpy(&y, &word, sizeof y);
    return y;
  } else {
    static_assert(sizeof(X) % 4 == 0);
    int words[sizeof(X) / 4];
    memcpy(words, &x, sizeof x);
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(X) / 4); ++i)
      words[i] = __shfl_xor_sync(kAllLanes, words[i], mask);
    X y;
    memcpy(&y, words, sizeof y);
    return y;
  }
}

// Of groups of `width` lanes, a power of two up to 32. Every lane gets the result, with the same
// bits if combine(a, b) and combine(b, a) have the same, else the first lane's is the one to use.
template <class X, class Combine>
__device__ inline X reduce_lanes(X x, int width, Combine combine) {
  for (int mask = width / 2; mask > 0; mask /= 2) x = combine(x, exchange(x, mask));
  return x;
}

// Of groups of `width` threads, a power of two; `meet` is kMostWarps elements of shared memory.
template <class X, class Combine>
__device__ inline X reduce_group(X x, int width, X* meet, Combine combine) {
  x = reduce_lanes(x, width < kWarp ? width : kWarp, combine);
  if (width <= kWarp) return x;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = width / kWarp;
  __syncthreads();  // an earlier call may still read
  if (lane == 0) meet[warp] = x;
  __syncthreads();
  return reduce_lanes(meet[warp / warps * warps + lane % warps], warps, combine);
}

// Of the threads t with the same t % width; the first of them gets the result. width and blockDim.x
// are powers of two; `meet` is an element of shared memory for each thread.
template <class X, class Combine>
__device__ inline X reduce_columns(X x, int width, X* meet, Combine combine) {
  const int t = threadIdx.x;
  for (int half = blockDim.x / 2; half >= width; half /= 2) {
    __syncthreads();
    if (t >= half && t < 2 * half) meet[t] = x;
    __syncthreads();
    if (t < half) x = combine(x, meet[t + half]);
  }
  return x;
}

// The least power of two that is no less.
constexpr int64_t power_of_two(int64_t n) {
  int64_t p = 1;
  while (p < n) p *= 2;
  return p;
}

// Long sums are cut into chunks that blocks take: the length of one, at least `least`, so that they
// are at most `most`. It depends on n alone: a row's bits do not depend on how many rows there are.
constexpr int64_t chunk_of(int64_t n, int64_t least, int64_t most) {
  int64_t chunk = least;
  while (ceil_div(n, chunk) > most) chunk *= 2;
  return chunk;
}

}  // namespace dl::cuda
