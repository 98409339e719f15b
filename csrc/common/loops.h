// The loops of a call over tensors of one shape, made as few as strides allow: size-1 dimensions
// dropped, the rest ordered so that the first tensor is walked as it lies in memory, neighbours
// merged where all tensors allow it.
#pragma once

#include "kernel.h"

namespace dl::DL_LEVEL {

constexpr int kMaxTensors = 72;

struct Loops {
  int rank = 0, n_tensors = 0;
  int64_t shape[kMaxRank];
  int64_t stride[kMaxRank][kMaxTensors];

  int64_t size(int begin, int end) const {
    int64_t n = 1;
    for (int d = begin; d < end; ++d) n *= shape[d];
    return n;
  }

  // Element offset of tensor t at a flat index over dimensions [0, end).
  int64_t offset(int t, int end, int64_t index) const {
    int64_t sum = 0;
    for (int d = end - 1; d >= 0; index /= shape[d], --d) sum += index % shape[d] * stride[d][t];
    return sum;
  }
};

inline int64_t magnitude(int64_t x) { return x < 0 ? -x : x; }

// Dimensions where chosen(d) holds, appended to `loops`; order follows the strides of tensor
// `leader`.
template <class Chosen>
inline void add_loops(Loops& loops, const Tensor* tensors, int n_tensors, int leader,
                      Chosen chosen) {
  const Tensor& lead = tensors[leader];
  int order[kMaxRank], n = 0;
  for (int d = 0; d < lead.rank; ++d) {
    if (lead.shape[d] == 1 || !chosen(d)) continue;
    int i = n++;
    for (; i > 0 && magnitude(lead.stride[order[i - 1]]) < magnitude(lead.stride[d]); --i)
      order[i] = order[i - 1];
    order[i] = d;
  }
  const int first = loops.rank;
  loops.n_tensors = n_tensors;
  for (int i = 0; i < n; ++i) {
    const int64_t size = lead.shape[order[i]];
    bool merges = loops.rank > first;
    for (int t = 0; merges && t < n_tensors; ++t)
      merges = loops.stride[loops.rank - 1][t] == tensors[t].stride[order[i]] * size;
    const int d = merges ? loops.rank - 1 : loops.rank++;
    loops.shape[d] = merges ? loops.shape[d] * size : size;
    for (int t = 0; t < n_tensors; ++t) loops.stride[d][t] = tensors[t].stride[order[i]];
  }
}

}  // namespace dl::DL_LEVEL
