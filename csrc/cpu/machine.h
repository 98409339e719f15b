// What this machine can do, measured: the yardsticks of the benchmarks. Each takes some
// milliseconds. Throws std::invalid_argument for bad arguments, std::runtime_error if the threads
// cannot be had.
#pragma once

#include <cstdint>

namespace dl {

double fma_peak(int threads);  // float32 multiply-adds, flop/s
double read_bandwidth(int64_t bytes,
                      int threads);  // bytes/s of reading a buffer of `bytes` again and again
double latency_ns();  // for a cache line from one thread of the team to another; NaN if the team is
                      // one thread
double two_thread_gain();  // multiply-adds of two threads at once / of one; NaN as above. About 1
                           // if both have but the halves of one core

}  // namespace dl
