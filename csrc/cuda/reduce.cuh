// How reductions over any axes are cut, in one of two forms:
//
//   along   the innermost loop is reduced: `width` neighbouring threads for an output, or a chunk
//   across  the innermost loop is kept: `width` threads side by side, the others of the block
//           below them, each with rows of its own
//
// Long reductions are cut into chunks by their length alone; a second launch lets them meet.
#pragma once

#include "cuda/elements.cuh"
#include "cuda/reductions.cuh"

#include "common/loops.h"

namespace dl::cuda {

constexpr int kReduceThreads = 256;

struct ReduceCut {
  bool across;
  int width;
  int64_t outputs, size, cols;  // of each output; of the innermost kept loop
  int64_t chunk, chunks, tiles;
  unsigned blocks;
};

// A thread takes packs of V of the innermost loop.
inline ReduceCut cut_reduction(bool across, int64_t outputs, int64_t size, int64_t cols, int V) {
  ReduceCut c{};
  c.across = across, c.outputs = outputs, c.size = size, c.cols = cols, c.width = 1;
  c.chunk = across ? chunk_of(size, 512, 512) : chunk_of(size, 16 << 10, 2048);
  c.chunks = size > c.chunk ? ceil_div(size, c.chunk) : 1;
  const int64_t run = across ? ceil_div(cols, V) : ceil_div(size < c.chunk ? size : c.chunk, 4 * V);
  while (c.width < run && c.width < (across ? 64 : kReduceThreads)) c.width *= 2;
  c.tiles = across ? ceil_div(cols, c.width * V) : 1;
  const int64_t units = across ? (cols ? outputs / cols : 0) * c.tiles * c.chunks
                               : ceil_div(outputs * c.chunks, kReduceThreads / c.width);
  c.blocks = static_cast<unsigned>(units);
  return c;
}

// What a thread reduces: elements i = begin, begin + step, .. below end of an output (the first of
// a pack of outputs, if across).
struct ReducePart {
  int64_t output, chunk, begin, end, step;
  bool valid, first;  // first: stores what all have found

  __device__ ReducePart(const ReduceCut& c, int V) {
    const int lane = threadIdx.x & (c.width - 1), below = threadIdx.x / c.width;
    int64_t unit = blockIdx.x;
    if (c.across) {
      const int64_t col = (unit % c.tiles * c.width + lane) * V;
      unit /= c.tiles;
      chunk = unit % c.chunks;
      output = unit / c.chunks * c.cols + col;
      valid = col < c.cols;
      begin = chunk * c.chunk + below, step = kReduceThreads / c.width;
      first = valid && below == 0;
    } else {
      unit = unit * (kReduceThreads / c.width) + below;
      output = c.chunks > 1 ? unit / c.chunks : unit, chunk = unit - output * c.chunks;
      valid = output < c.outputs;
      begin = chunk * c.chunk + lane * V, step = int64_t{c.width} * V;
      first = valid && lane == 0;
    }
    end = (chunk + 1) * c.chunk;
    end = end < c.size ? end : c.size;
    if (!valid) end = 0, output = 0;
  }
};

// The loops of a call; the first `kept` are kept.
struct ReduceLoops {
  int rank, kept;
  int64_t shape[kMaxRank];

  // Indices of the loops [first, last) at a flat index over them.
  __device__ void split(int first, int last, int64_t flat, int64_t (&index)[kMaxRank]) const {
#pragma unroll
    for (int d = kMaxRank - 1; d >= 0; --d) {
      if (d < first || d >= last) continue;
      const int64_t rest = d == first ? 0 : flat / shape[d];
      index[d] = flat - rest * (d == first ? 0 : shape[d]);
      flat = rest;
    }
  }

  __device__ int64_t offset(int first, int last, const int64_t (&index)[kMaxRank],
                            const int64_t (&stride)[kMaxRank]) const {
    int64_t at = 0;
#pragma unroll
    for (int d = 0; d < kMaxRank; ++d) {
      if (d >= first && d < last) at += index[d] * stride[d];
    }
    return at;
  }

  __device__ int64_t offset_of(int first, int last, int64_t flat,
                               const int64_t (&stride)[kMaxRank]) const {
    if (last - first == 1) return flat * stride[first];
    int64_t index[kMaxRank];
    split(first, last, flat, index);
    return offset(first, last, index, stride);
  }
};

}  // namespace dl::cuda
