// What the tests of convolutions share: cases, arrays of some layouts, and kernels run in parts.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "cpu/kernels/level.h"
#include "tests/check.h"
#include "tests/random_cases.h"

using namespace dl;
using namespace dl::DL_LEVEL;

using Shape = std::vector<int64_t>;

inline int64_t count(const Shape& shape) {
  int64_t n = 1;
  for (int64_t s : shape) n *= s;
  return n;
}

// An array with its axes in any order in memory, and no element more than it needs: integers of
// -most .. most.
template <class T>
struct Array {
  Shape shape, stride;
  std::unique_ptr<T[]> buffer;
  int64_t size;

  enum Layout { plain, channels_first, spaced };

  explicit Array(const Shape& s, Layout layout = plain, int64_t most = 3)
      : shape(s), stride(s.size()), size(count(s)) {
    const int r = int(shape.size());
    int64_t step = layout == spaced ? 2 : 1;
    if (layout == channels_first) {
      for (int d = r - 2; d >= 1; --d) stride[d] = step, step *= shape[d];
      stride[r - 1] = step, step *= shape[r - 1];
      stride[0] = step;
    } else {
      for (int d = r - 1; d >= 0; --d) stride[d] = step, step *= shape[d] + (layout == spaced);
    }
    int64_t last = 0;
    for (int d = 0; d < r; ++d) last += (shape[d] - 1) * stride[d];
    if (size) size = last + 1;
    buffer.reset(new T[size]);
    for (int64_t i = 0; i < size; ++i) buffer[i] = T(most ? pick(-most, most) : 0);
  }

  T& at(const Shape& index) const {
    int64_t i = 0;
    for (size_t d = 0; d < shape.size(); ++d) i += index[d] * stride[d];
    return buffer[i];
  }

  Tensor tensor() const {
    Tensor t{};
    t.data = reinterpret_cast<char*>(buffer.get());
    t.dtype = sizeof(T) == 4 ? DType::f32 : DType::f64;
    t.rank = int(shape.size());
    for (int d = 0; d < t.rank; ++d) t.shape[d] = shape[d], t.stride[d] = stride[d];
    return t;
  }

  void fill(T value) {
    for (int64_t i = 0; i < size; ++i) buffer[i] = value;
  }
};

template <class T>
using Layout = typename Array<T>::Layout;

// Visits every index of a shape in order.
template <class Visit>
void each(const Shape& shape, Visit visit) {
  if (count(shape) == 0) return;
  Shape index(shape.size(), 0);
  for (;;) {
    visit(index);
    int d = int(shape.size()) - 1;
    while (d >= 0 && ++index[size_t(d)] == shape[size_t(d)]) index[size_t(d--)] = 0;
    if (d < 0) return;
  }
}

struct Case {
  int64_t batch, channels, filters, groups;
  Shape in, size, stride, dilation, before, after;

  int64_t d() const { return int64_t(in.size()); }
  int64_t out(size_t a) const {
    const int64_t span = in[a] + before[a] + after[a] - dilation[a] * (size[a] - 1) - 1;
    return span < 0 ? 0 : span / stride[a] + 1;
  }
  Shape x() const {
    Shape s{batch};
    s.insert(s.end(), in.begin(), in.end());
    s.push_back(channels);
    return s;
  }
  Shape w() const {
    Shape s = size;
    s.push_back(channels / groups), s.push_back(filters);
    return s;
  }
  Shape y() const {
    Shape s{batch};
    for (size_t a = 0; a < in.size(); ++a) s.push_back(out(a));
    s.push_back(filters);
    return s;
  }
  std::vector<int64_t> ints() const {
    std::vector<int64_t> v{d(), groups};
    for (const Shape* s : {&stride, &dilation, &before}) v.insert(v.end(), s->begin(), s->end());
    return v;
  }
};

using Plan = const char* (*)(const Call&, Work&);
using Run = void (*)(const Call&, int, int64_t, int64_t, char*);

struct Functions {
  Plan plan;
  Run run;
};
inline const Functions forward{plan_conv, run_conv},
    input_grad{plan_conv_input_grad, run_conv_input_grad},
    filter_grad{plan_conv_filter_grad, run_conv_filter_grad};

struct Aligned {
  explicit Aligned(int64_t bytes)
      : data(static_cast<char*>(std::aligned_alloc(64, size_t(bytes + 63) / 64 * 64 + 64))) {
    std::memset(data, 0xff, size_t(bytes));
  }
  ~Aligned() { std::free(data); }
  char* data;
};

// Runs a call in pieces of `step` parts (0: all at once), each with fresh scratch full of NaN.
inline void run(const Functions& kernel, const std::vector<Tensor>& tensors,
                const std::vector<int64_t>& ints, const std::vector<double>& floats, int64_t step) {
  std::vector<Tensor> shapes = tensors;
  for (Tensor& t : shapes) t.data = nullptr;
  Call call{shapes.data(), int(shapes.size()), ints.data(), int(ints.size()),
            floats.data(), int(floats.size()), nullptr};
  Work work;
  const char* wrong = kernel.plan(call, work);
  if (wrong) std::fprintf(stderr, "%s\n", wrong);
  CHECK(!wrong);
  CHECK(work.scratch_bytes < 2 << 20);
  std::vector<double> prepared(size_t(work.prepared_bytes) / 8 + 2);
  if (pick(0, 1)) {
    call.prepared = prepared.data();
    CHECK(!kernel.plan(call, work));
  }
  call.tensors = tensors.data();
  Aligned shared(work.shared_bytes);
  call.shared = shared.data;
  for (int phase = 0; phase < work.phases; ++phase) {
    const int64_t parts = work.parts[phase], stride = step ? step : parts;
    for (int64_t begin = 0; begin < parts; begin += stride) {
      Aligned scratch(work.scratch_bytes);
      kernel.run(call, phase, begin, std::min(parts, begin + stride), scratch.data);
    }
  }
}

// One for minimal filtering (conv_winograd.h), whatever the type.
inline Case winograd_case() {
  Case c{};
  c.batch = pick(1, 3), c.groups = 1;
  c.channels = 16 * pick(1, 3), c.filters = 16 * pick(1, 3);
  for (int64_t a = 0; a < 2; ++a) {
    c.in.push_back(pick(8, 13)), c.size.push_back(3);
    c.stride.push_back(1), c.dilation.push_back(1);
    c.before.push_back(pick(0, 2)), c.after.push_back(pick(0, 2));
  }
  return c;
}

inline Case random_case(int64_t d, int64_t most_channels) {
  Case c{};
  c.batch = pick(0, 9) ? pick(1, 3) : pick(0, 7);
  const int64_t kind = pick(0, 5);
  c.groups = kind < 3 ? 1 : kind == 3 ? pick(4, 12) : pick(1, 4);
  c.channels = c.groups * pick(1, most_channels);
  c.filters = c.groups * pick(1, most_channels);
  if (kind == 5) {
    c.groups = c.channels = pick(1, 2 * most_channels);
    c.filters = c.channels * pick(1, 3);
    if (pick(0, 1)) c.groups = c.channels = c.filters = 16 * pick(1, 3);  // conv_depthwise.h
  }
  const int64_t extent = d == 1 ? 40 : d == 2 ? 12 : 6;
  for (int64_t a = 0; a < d; ++a) {
    c.in.push_back(pick(1, extent)), c.size.push_back(pick(1, d == 3 ? 3 : 4));
    c.stride.push_back(pick(1, 3)), c.dilation.push_back(pick(0, 1) ? 1 : pick(1, 3));
    c.before.push_back(pick(0, 1) ? pick(0, 4) : 0);
    c.after.push_back(pick(0, 1) ? pick(0, 4) : 0);
  }
  return c;
}
