// What the tests of matrix products share: arrays of some layouts, gemm run in parts, and a naive
// chain over k that has the same bits.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "cpu/kernels/level.h"
#include "tests/check.h"
#include "tests/random_cases.h"

using namespace dl;
using namespace dl::DL_LEVEL;

enum Form { rows, columns, padded, strided, backwards, both_backwards, one_row, one_column, forms };

// An array with its own buffer, no larger than its elements reach, so that the sanitizer sees every
// step outside.
template <class T>
struct Array {
  std::vector<int64_t> shape, stride;
  std::unique_ptr<T[]> buffer;
  int64_t size = 1, origin = 0;

  Array(std::vector<int64_t> shape_, Form form) : shape(shape_), stride(shape_.size()) {
    const int r = int(shape.size());
    const int64_t m = shape[r - 2], n = shape[r - 1];
    int64_t row = n, col = 1;
    if (form == columns) row = 1, col = m;
    if (form == padded) row = n + 3;
    if (form == strided) row = 2 * n + 1, col = 2;
    if (form == backwards) row = -n;
    if (form == both_backwards) row = -n - 2, col = -1;
    if (form == one_row) row = 0;
    if (form == one_column) row = 1, col = 0;
    stride[r - 1] = col, stride[r - 2] = row;
    int64_t matrix = std::max<int64_t>(1, std::abs(row) * m + std::abs(col) * n);
    if (form == rows) matrix = m * n;
    for (int d = r - 3; d >= 0; --d) stride[d] = matrix, matrix *= shape[d];
    place();
  }

  void place() {
    int64_t low = 0, high = 0;
    for (size_t d = 0; d < shape.size(); ++d) {
      if (shape[d] == 0) size = 0;
      (stride[d] < 0 ? low : high) += (shape[d] - 1) * stride[d];
    }
    if (size) size = high - low + 1;
    origin = -low;
    buffer.reset(new T[size]);
    for (int64_t i = 0; i < size; ++i) buffer[i] = T(pick(-1000, 1000)) / T(300);
  }

  int64_t index(int64_t batch, int64_t i, int64_t j) const {
    const int r = int(shape.size());
    int64_t at = origin + i * stride[r - 2] + j * stride[r - 1];
    for (int d = r - 3; d >= 0; --d) at += batch % shape[d] * stride[d], batch /= shape[d];
    return at;
  }
  T& operator()(int64_t batch, int64_t i, int64_t j) { return buffer[index(batch, i, j)]; }
  T operator()(int64_t batch, int64_t i, int64_t j) const { return buffer[index(batch, i, j)]; }

  Tensor tensor() const {
    Tensor t{};
    t.data = reinterpret_cast<char*>(buffer.get() + (size ? origin : 0));
    t.dtype = sizeof(T) == 4 ? DType::f32 : DType::f64;
    t.rank = int(shape.size());
    for (int d = 0; d < t.rank; ++d) t.shape[d] = shape[d], t.stride[d] = stride[d];
    return t;
  }
};

inline Form pick_form(int last) { return Form(pick(0, last)); }

struct Program {
  std::vector<int64_t> ints;
  std::vector<double> floats;
};

inline Call call_of(const std::vector<Tensor>& tensors, const Program& program) {
  return {tensors.data(),
          int(tensors.size()),
          program.ints.data(),
          int(program.ints.size()),
          program.floats.data(),
          int(program.floats.size()),
          nullptr};
}

inline Work plan(std::vector<Tensor> tensors, const Program& program) {
  for (Tensor& t : tensors) t.data = nullptr;
  Work work;
  const char* wrong = plan_gemm(call_of(tensors, program), work);
  if (wrong) std::fprintf(stderr, "%s\n", wrong);
  CHECK(!wrong);
  return work;
}

// Runs a call in pieces of `step` parts (0: all at once), each with fresh scratch full of NaN.
inline void run(const std::vector<Tensor>& tensors, const Program& program, int64_t step) {
  const Work work = plan(tensors, program);
  CHECK(work.phases == 1 && work.parts[0] >= 1);
  const Call call = call_of(tensors, program);
  const int64_t parts = work.parts[0];
  if (step <= 0) step = parts;
  for (int64_t begin = 0; begin < parts; begin += step) {
    const size_t bytes = size_t(work.scratch_bytes);
    char* scratch = static_cast<char*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64 + 64));
    std::memset(scratch, 0xff, bytes);
    run_gemm(call, 0, begin, std::min(parts, begin + step), scratch);
    std::free(scratch);
  }
}

// Whether this build of the kernel fuses multiply and add: not every machine and optimization level
// does.
template <class T>
bool fuses() {
  static const bool fused = [] {
    Array<T> a({1, 2}, rows), b({2, 1}, rows), out({1, 1}, rows);
    const T e = std::ldexp(T(1), -(std::numeric_limits<T>::digits + 1) / 2);
    a(0, 0, 0) = -1, b(0, 0, 0) = 1;
    a(0, 0, 1) = b(0, 1, 0) = 1 + e;
    run({out.tensor(), a.tensor(), b.tensor()}, {}, 0);
    return out(0, 0, 0) == 2 * e + e * e;
  }();
  return fused;
}

// The sum over k of x[k] y[k], each `step` elements from the last. Unchecked: the sanitizers'
// checks here would be most of the tests' time.
template <class T>
__attribute__((no_sanitize("address"), no_sanitize("undefined"))) T
sum_of_products(const T* x, int64_t x_step, const T* y, int64_t y_step, int64_t depth, bool fused) {
  T s = 0;
  for (int64_t k = 0; k < depth; ++k) {
    const T a = x[k * x_step], b = y[k * y_step];
    if (fused) {
      s = std::fma(a, b, s);
    } else {
      volatile T product = a * b;
      s += product;
    }
  }
  return s;
}

template <class T>
T chain(const Array<T>& a, const Array<T>& b, int64_t batch, int64_t i, int64_t j) {
  return sum_of_products(a.buffer.get() + a.index(batch, i, 0), a.stride.back(),
                         b.buffer.get() + b.index(batch, 0, j), b.stride[b.stride.size() - 2],
                         a.shape.back(), fuses<T>());
}

template <class T>
bool same_bits(T x, T y) {
  return std::memcmp(&x, &y, sizeof x) == 0;
}

template <class T>
Program expression(int64_t n_out, int64_t n_in, std::vector<double> constants, int64_t n_temp,
                   int64_t n_ops, const std::vector<int64_t>& code) {
  Program p;
  p.ints = {sizeof(T) == 8, n_out, n_in, int64_t(constants.size()), n_temp, n_ops};
  p.ints.insert(p.ints.end(), code.begin(), code.end());
  p.floats = constants;
  return p;
}
