// What the tests of single kernels share: arrays of some layouts, and kernels run in parts.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "cpu/kernels/level.h"
#include "tests/check.h"

using namespace dl;
using Shape = std::vector<int64_t>;

inline std::mt19937_64 generator(1);
inline double random_in(double low, double high) {
  return std::uniform_real_distribution<double>(low, high)(generator);
}
inline int64_t random_below(int64_t n) { return static_cast<int64_t>(generator() % n); }

// kBackwards: each second element, last axis reversed. Tests go through all before kLayouts. kGaps:
// unused elements behind each run of the last axis.
enum Layout { kDense, kFortran, kBackwards, kOffset, kLayouts, kGaps };

// A tensor with its memory, which is exactly as long as it must be, so that the address sanitizer
// sees a stray access.
struct Array {
  static constexpr char kUnset = 0x5A;

  std::vector<char> memory;
  Tensor t{};

  Array(DType dtype, const Shape& shape, int layout = kDense) {
    t.dtype = dtype;
    t.rank = static_cast<int>(shape.size());
    const int64_t gap = layout == kGaps && t.rank > 0 ? 3 : 0;
    int64_t run = layout == kBackwards ? 2 : 1, start = layout == kOffset;
    for (int i = 0; i < t.rank; ++i) {
      const int a = layout == kFortran ? i : t.rank - 1 - i;
      t.shape[a] = shape[a];
      t.stride[a] = run;
      run = run * shape[a] + (i == 0 ? gap : 0);
    }
    run = std::max<int64_t>(run - gap, 0);
    if (layout == kBackwards && t.rank > 0 && shape.back() > 0) {
      start = (shape.back() - 1) * 2;
      t.stride[t.rank - 1] = -2;
    }
    memory.assign((run + start) * size_of(dtype), kUnset);
    t.data = memory.data() + start * size_of(dtype);
  }
  int64_t size() const {
    int64_t n = 1;
    for (int a = 0; a < t.rank; ++a) n *= t.shape[a];
    return n;
  }
  char* at(int64_t i) const {
    int64_t offset = 0;
    for (int a = t.rank - 1; a >= 0; --a) {
      offset += i % t.shape[a] * t.stride[a];
      i /= t.shape[a];
    }
    return t.data + offset * size_of(t.dtype);
  }
  template <class T>
  T& as(int64_t i) const {
    return *reinterpret_cast<T*>(at(i));
  }
  double operator[](int64_t i) const {
    switch (t.dtype) {
      case DType::f32:
        return as<float>(i);
      case DType::f64:
        return as<double>(i);
      case DType::i32:
        return as<int32_t>(i);
      case DType::i64:
        return static_cast<double>(as<int64_t>(i));
      default:
        return as<uint8_t>(i);
    }
  }
  void set(int64_t i, double x) const {
    switch (t.dtype) {
      case DType::f32:
        as<float>(i) = static_cast<float>(x);
        break;
      case DType::f64:
        as<double>(i) = x;
        break;
      case DType::i32:
        as<int32_t>(i) = static_cast<int32_t>(x);
        break;
      case DType::i64:
        as<int64_t>(i) = static_cast<int64_t>(x);
        break;
      case DType::u8:
        as<uint8_t>(i) = static_cast<uint8_t>(x);
        break;
      default:
        as<uint8_t>(i) = x != 0;
    }
  }
  void fill(double low, double high) const {
    for (int64_t i = 0; i < size(); ++i) set(i, random_in(low, high));
  }
};

struct Attributes {
  std::vector<int64_t> ints;
  std::vector<double> floats;
};

#define DL_TESTED(name) \
  Kernel { #name, DL_LEVEL::plan_##name, DL_LEVEL::run_##name }

inline std::vector<Tensor> tensors_of(const std::vector<Array*>& arrays) {
  std::vector<Tensor> tensors;
  for (Array* x : arrays) tensors.push_back(x->t);
  return tensors;
}

inline Call call_of(const std::vector<Tensor>& tensors, const Attributes& a) {
  return {tensors.data(),  static_cast<int>(tensors.size()),
          a.ints.data(),   static_cast<int>(a.ints.size()),
          a.floats.data(), static_cast<int>(a.floats.size()),
          nullptr};
}

inline bool refuses(const Kernel& k, const std::vector<Array*>& arrays, const Attributes& a) {
  const std::vector<Tensor> tensors = tensors_of(arrays);
  Work work;
  return k.plan(call_of(tensors, a), work) != nullptr;
}

// Runs each phase in calls of `parts_per_call` (0: one call of all), from the last on and with what
// the kernel prepares; returns how many tensors it wrote.
inline int run(const Kernel& k, const std::vector<Array*>& arrays, const Attributes& a,
               int64_t parts_per_call) {
  const std::vector<Tensor> tensors = tensors_of(arrays);
  Call call = call_of(tensors, a);
  Work work;
  const char* refusal = k.plan(call, work);
  if (refusal) std::fprintf(stderr, "%s\n", refusal);
  CHECK(!refusal);
  std::vector<double> prepared(work.prepared_bytes / 8 + 1), shared(work.shared_bytes / 8 + 1);
  if (parts_per_call && work.prepared_bytes) {
    call.prepared = prepared.data();
    CHECK(!k.plan(call, work));
  }
  call.shared = reinterpret_cast<char*>(shared.data());
  for (int phase = 0; phase < work.phases; ++phase) {
    CHECK(work.parts[phase] >= 1 || arrays[0]->size() == 0);
    const int64_t n = parts_per_call ? parts_per_call : work.parts[phase];
    for (int64_t end = work.parts[phase]; end > 0; end -= n) {
      std::vector<char> scratch(work.scratch_bytes, 0x33);
      k.run(call, phase, std::max<int64_t>(end - n, 0), end, scratch.data());
    }
  }
  return work.outputs;
}

// Runs twice, cut differently: the outputs must have the same bits.
inline void run(const Kernel& k, const std::vector<Array*>& arrays, const Attributes& a) {
  const int n_outputs = run(k, arrays, a, 0);
  std::vector<std::vector<char>> once;
  for (int i = 0; i < n_outputs; ++i) {
    once.push_back(arrays[i]->memory);
    arrays[i]->memory.assign(arrays[i]->memory.size(), Array::kUnset);
  }
  run(k, arrays, a, 1);
  for (int i = 0; i < n_outputs; ++i) CHECK(once[i] == arrays[i]->memory);
}

inline double epsilon_of(DType t) { return t == DType::f32 ? 0x1p-23 : 0x1p-52; }

inline bool near(double y, double exact, double tolerance) {
  if (std::isnan(exact) || std::isinf(exact)) return std::isnan(exact) ? std::isnan(y) : y == exact;
  return std::abs(y - exact) <= tolerance;
}

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
