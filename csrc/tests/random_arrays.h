// What the tests of pointwise and reduce share: arrays of any layout and dtype, and kernels run in
// parts.
#pragma once

#include "kernel.h"
#include "tests/expressions.h"

template <class T>
T read(const char* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
void write(char* p, T v) {
  std::memcpy(p, &v, sizeof v);
}

struct Array {
  std::vector<char> memory;
  Tensor tensor;

  // Any layout: permuted axes, gaps, negative strides; broadcast axes if `broadcast`.
  void make(DType dtype, int rank, const int64_t* shape, bool broadcast) {
    tensor = {nullptr, dtype, rank, {}, {}};
    std::vector<int> order(rank);
    for (int d = 0; d < rank; ++d) order[d] = d;
    if (pick(0, 2) == 0) std::shuffle(order.begin(), order.end(), random_bits);
    int64_t step = pick(0, 3) ? 1 : 2, low = 0, high = 0;
    for (int d : std::vector<int>(order.rbegin(), order.rend())) {
      tensor.shape[d] = shape[d];
      int64_t stride = broadcast && pick(0, 2) == 0 ? 0 : pick(0, 9) == 0 ? -step : step;
      tensor.stride[d] = stride;
      (stride < 0 ? low : high) += stride * std::max<int64_t>(shape[d] - 1, 0);
      if (stride) step *= std::max<int64_t>(shape[d], 1) + (pick(0, 5) == 0);
    }
    memory.assign((high - low + 1) * size_of(dtype), 0);
    tensor.data = memory.data() - low * size_of(dtype);
    for (int64_t i = 0; i <= high - low; ++i) set(memory.data() + i * size_of(dtype), pick_real());
  }
  void set(char* p, double x) const {
    switch (tensor.dtype) {
      case DType::f32:
        return write(p, float(x));
      case DType::f64:
        return write(p, x);
      case DType::i32:
        return write(p, int32_t(x));
      case DType::i64:
        return write(p, int64_t(x));
      case DType::u8:
        return write(p, uint8_t(int32_t(x)));
      default:
        return write(p, uint8_t(x != 0));
    }
  }
  double get(const int64_t* index) const {
    int64_t offset = 0;
    for (int d = 0; d < tensor.rank; ++d) offset += index[d] * tensor.stride[d];
    const char* p = tensor.data + offset * size_of(tensor.dtype);
    switch (tensor.dtype) {
      case DType::f32:
        return read<float>(p);
      case DType::f64:
        return read<double>(p);
      case DType::i32:
        return read<int32_t>(p);
      case DType::i64:
        return double(read<int64_t>(p));
      default:
        return read<uint8_t>(p);
    }
  }
};

// Calls f(index) for every element.
template <class F>
inline void each(int rank, const int64_t* shape, F f) {
  int64_t index[kMaxRank] = {}, n = 1;
  for (int d = 0; d < rank; ++d) n *= shape[d];
  for (int64_t i = 0; i < n; ++i) {
    f(index);
    for (int d = rank - 1; d >= 0 && ++index[d] == shape[d]; --d) index[d] = 0;
  }
}

struct Kernel1 {
  const char* (*plan)(const Call&, Work&);
  void (*run)(const Call&, int, int64_t, int64_t, char*);
};

// Runs all phases, cut into runs of `step` parts that go backwards: the order must not matter.
static const char* run_kernel(const Kernel1& k, std::vector<Tensor> tensors,
                              const std::vector<int64_t>& ints, const std::vector<double>& floats,
                              int64_t step) {
  Call call{tensors.data(), int(tensors.size()), ints.data(), int(ints.size()),
            floats.data(),  int(floats.size()),  nullptr};
  std::vector<Tensor> blank = tensors;
  for (auto& t : blank) t.data = nullptr;
  call.tensors = blank.data();
  Work work;
  if (const char* wrong = k.plan(call, work)) return wrong;
  call.tensors = tensors.data();
  std::vector<double> scratch(work.scratch_bytes / 8 + 1, NAN),
      shared(work.shared_bytes / 8 + 1, NAN);
  call.shared = reinterpret_cast<char*>(shared.data());
  for (int phase = 0; phase < work.phases; ++phase)
    for (int64_t end = work.parts[phase]; end > 0; end -= std::min(step, end))
      k.run(call, phase, std::max<int64_t>(end - step, 0), end,
            reinterpret_cast<char*>(scratch.data()));
  return nullptr;
}

inline void random_shape(int& rank, int64_t* shape) {
  rank = int(pick(0, 4));
  int64_t size = 1;
  for (int d = 0; d < rank; size *= std::max<int64_t>(shape[d++], 1))
    shape[d] = pick(0, 3) || size > 100 ? pick(1, 7) : pick(0, 90);
  if (pick(0, 39) == 0) rank = 2, shape[0] = pick(1, 400), shape[1] = pick(1, 200);
  if (pick(0, 39) == 0) rank = 1, shape[0] = pick(1, 40000);
}
