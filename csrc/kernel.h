// What a kernel is: the contract between the program runner and every native backend.
//
// A kernel is two functions. `plan` looks at shapes and attributes (data pointers may be null),
// refuses what it cannot do with one sentence, and says how the call is cut into parts. `run` does
// parts [begin, end) of a phase. The cut depends on shapes alone, never on the number of threads,
// so results have the same bits for any team.
#pragma once

#include <cstdint>

namespace dl {

// The order is part of the Python interface (dlcore/program/dtypes.py). The halves bf16 and f16 are
// how a GPU stores tensors of a program; arrays outside are of the types before them.
enum class DType : int { f32, f64, i32, i64, u8, b8, bf16, f16 };
constexpr int kDTypes = 8;
constexpr int kArrayDTypes = 6;

constexpr int64_t size_of(DType t) {
  constexpr int64_t sizes[] = {4, 8, 4, 8, 1, 1, 2, 2};
  return sizes[static_cast<int>(t)];
}

constexpr int kMaxRank = 8;
constexpr int kMaxPhases = 4;

struct Tensor {
  char* data;
  DType dtype;
  int rank;
  int64_t shape[kMaxRank];
  int64_t stride[kMaxRank];  // in elements; 0 broadcasts

  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
};

// One kernel call. Outputs come first in `tensors`.
struct Call {
  const Tensor* tensors;
  int n_tensors;
  const int64_t* ints;
  int n_ints;
  const double* floats;
  int n_floats;
  char* shared;  // Work::shared_bytes of scratch that all threads see; 64-byte aligned
  // Work::prepared_bytes that plan filled, 16-byte aligned; null in the first call of plan, and in
  // run where nobody prepared.
  void* prepared = nullptr;
};

// How a call is cut and what it costs.
struct Work {
  int phases = 1;                            // all threads meet between two phases
  int64_t parts[kMaxPhases] = {1, 1, 1, 1};  // independent parts of each phase
  int outputs = 1;                           // tensors[0 .. outputs) are written
  int64_t scratch_bytes = 0;                 // private to a thread
  int64_t shared_bytes = 0;
  int64_t prepared_bytes = 0;  // what run needs not work out again: plan is called again to fill it
  double flops = 0;            // arithmetic, for choosing how many threads are worth waking
  double bytes = 0;            // memory read and written
};

struct Kernel {
  const char* name;
  const char* (*plan)(const Call&, Work&);  // nullptr, or one sentence that says what is wrong
  void (*run)(const Call&, int phase, int64_t begin, int64_t end, char* scratch);
};

struct KernelTable {
  const char* level;  // "baseline", "avx2", "avx512", ...
  int vector_bytes;
  const Kernel* kernels;
  int n_kernels;
};

}  // namespace dl
