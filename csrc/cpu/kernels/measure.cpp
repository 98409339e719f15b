// Loops that find what one core can do, for the benchmarks' shares of peak.
#include "cpu/simd.h"

namespace dl::DL_LEVEL {

// Flops of `rounds` rounds of independent multiply-adds: enough chains to hide 4 cycles of latency
// on two pipes.
double probe_multiply_add(int64_t rounds) {
  constexpr int kChains = 12;
  Vec<float> sums[kChains];
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sums[i] = broadcast(float(i));
  Vec<float> x = broadcast(0.999f), y = broadcast(0.001f);
  asm volatile("" : "+m"(x), "+m"(y));  // unknown to the compiler
  const Vec<float> a = x, b = y;
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = sums[i] * a + b;
  }
  Vec<float> total = sums[0];
#pragma GCC unroll 12
  for (int i = 1; i < kChains; ++i) total += sums[i];
  asm volatile("" : : "m"(total));
  return 2.0 * kChains * kLanes<float> * static_cast<double>(rounds);
}

// Reads `bytes` (a multiple of 8 vectors is read) and returns a checksum.
double probe_read(const char* data, int64_t bytes) {
  constexpr int kStreams = 8;
  const int64_t vectors = bytes / kVectorBytes / kStreams * kStreams;
  const float* p = reinterpret_cast<const float*>(data);
  Vec<float> sums[kStreams] = {};
  for (int64_t i = 0; i < vectors; i += kStreams) {
#pragma GCC unroll 8
    for (int j = 0; j < kStreams; ++j) sums[j] += load(p + (i + j) * kLanes<float>);
  }
  double total = 0;
#pragma GCC unroll 8
  for (int j = 0; j < kStreams; ++j) total += sums[j][0];
  return total;
}

}  // namespace dl::DL_LEVEL
