// What a convolution call asks for, and where its pixels, taps and channels lie.
#pragma once

#include "cuda/gather.cuh"
#include "cuda/precision.h"
#include "cuda/results.cuh"

#include "common/conv_call.h"

namespace dl::cuda {

// Axes of images and filters, aligned to the last of three; others are 1 long.
struct Strides {
  int64_t n, axis[3], c, k;
};

inline Strides image_strides(const Tensor& t) {
  Strides s{};
  s.n = t.stride[0], s.c = t.stride[t.rank - 1];
  for (int d = 1; d < t.rank - 1; ++d) s.axis[d + 4 - t.rank] = t.stride[d];
  return s;
}

inline Strides filter_strides(const Tensor& t) {
  Strides s{};
  for (int d = 0; d < t.rank - 2; ++d) s.axis[d + 5 - t.rank] = t.stride[d];
  s.c = t.stride[t.rank - 2], s.k = t.stride[t.rank - 1];
  return s;
}

struct ConvCall {
  Task task;
  ConvAxis axis[3];
  int64_t batch, groups, channels, filters;  // of one group
  bool depthwise;                            // each channel is a group
  bool tf32;                                 // floats go through tensor cores
  Expression e;                              // what decode found

  const char* read_expression(const Call& call, Expression& found, Results& r) const {
    const int used = 2 + 3 * static_cast<int>(call.ints[0]);
    return cuda::read_expression(call.ints + used, call.n_ints - used, call.floats, call.n_floats,
                                 found, r);
  }
};

// nullptr or a sentence.
inline const char* read_conv(const Call& call, Task task, ConvCall& c) {
  if (const char* wrong = check_conv(call, task)) return wrong;
  c = {};
  c.task = task;
  Results r;
  if (const char* wrong = c.read_expression(call, c.e, r)) return wrong;
  const ConvOperands t = conv_operands(call, task, c.e.n_out);
  const int d = static_cast<int>(call.ints[0]);
  const int64_t* v = call.ints + 2;
  constexpr int64_t kFar = int64_t{1} << 30;  // positions and counts are 32 bits wide
  int64_t pixels = 2 * t.x.shape[0], gradients = 2 * t.x.shape[0], taps = 1;
  for (int i = 0; i < 3; ++i) {
    const int s = i - (3 - d);
    c.axis[i] = s < 0 ? ConvAxis{1, 1, 1, 1, 1, 0}
                      : ConvAxis{t.x.shape[s + 1], t.y.shape[s + 1], t.w.shape[s], v[s],
                                 v[d + s],         v[2 * d + s]};
    const ConvAxis& a = c.axis[i];
    if (a.out * a.stride + a.taps * a.dilation + a.pad + a.in >= kFar)
      return "conv: expected axes that reach less than 2^30 elements";
    const bool fits = pixels * a.out < kFar * 2 && gradients * a.in < kFar * 2;
    pixels *= a.out, gradients *= a.in, taps *= a.taps;
    if (!fits || taps >= kFar) return "conv: expected less than 2^30 pixels and taps";
  }
  c.batch = t.x.shape[0];
  c.groups = call.ints[1];
  c.channels = t.w.shape[d], c.filters = t.w.shape[d + 1] / c.groups;
  if (taps * c.channels >= kFar || taps * c.filters >= kFar)
    return "conv: expected filters of less than 2^30 elements";
  c.depthwise = c.channels == 1 && c.groups > 1;
  c.tf32 = t.x.dtype == DType::f32 && tf32_products;
  return nullptr;
}

inline void count_cost(const Call& call, const ConvCall& c, const Expression& e, Work& work) {
  const auto real = [](int64_t x) { return static_cast<double>(x); };
  double products = 2 * real(c.batch) * real(c.groups) * real(c.channels) * real(c.filters);
  for (const ConvAxis& a : c.axis) products *= real(a.out) * real(a.taps);
  double results = 1;
  const Tensor& out = call.tensors[0];
  for (int d = 0; d < out.rank; ++d) results *= real(out.shape[d]);
  work.flops = products + results * (e.n_ops > 0 ? cost(e) : 0);
  work.bytes = distinct_bytes(call);
}

// ---- indices ----

// Pixel (n, o, p, q) of a phase: what it reads at tap 0.
inline IndexMap pixel_map(const ConvPhase (&phase)[3], const Strides& in) {
  IndexMap m{};
  m.other = Divisor::of(1), m.other_stride = in.n;
  for (int d = 0; d < 3; ++d) {
    const ConvAxis& a = phase[d].axis;
    m.axis[d] = Divisor::of(a.out);
    m.first[d] = static_cast<int>(-a.pad), m.step[d] = static_cast<int>(a.stride);
    m.stride[d] = a.stride * in.axis[d];
  }
  return m;
}

// The offset of tap 0 of pixel 0.
inline int64_t first_pixel(const ConvPhase (&phase)[3], const Strides& in) {
  int64_t at = 0;
  for (int d = 0; d < 3; ++d) at -= phase[d].axis.pad * in.axis[d];
  return at;
}

// Pixel (n, o, p, q) of a result, which lies where it is.
inline IndexMap result_map(const ConvPhase (&phase)[3], const Strides& out) {
  IndexMap m{};
  m.other = Divisor::of(1), m.other_stride = out.n;
  for (int d = 0; d < 3; ++d) {
    m.axis[d] = Divisor::of(phase[d].axis.out);
    m.stride[d] = out.axis[d];
  }
  return m;
}

// Tap (r, s, t) and channel of an image.
inline IndexMap tap_map(const ConvPhase (&phase)[3], const Strides& in, int64_t channels) {
  IndexMap m{};
  m.other_fastest = true;
  m.other = Divisor::of(channels), m.other_stride = in.c;
  for (int d = 0; d < 3; ++d) {
    const ConvAxis& a = phase[d].axis;
    m.axis[d] = Divisor::of(a.taps);
    m.step[d] = static_cast<int>(a.dilation);
    m.stride[d] = a.dilation * in.axis[d];
  }
  return m;
}

// Tap and channel of a filter, from its first tap on.
inline IndexMap filter_map(const ConvPhase (&phase)[3], const Strides& w, int64_t channels,
                           int64_t channel_stride) {
  IndexMap m{};
  m.other_fastest = true;
  m.other = Divisor::of(channels), m.other_stride = channel_stride;
  for (int d = 0; d < 3; ++d) {
    m.axis[d] = Divisor::of(phase[d].axis.taps);
    m.stride[d] = phase[d].filter_step * w.axis[d];
  }
  return m;
}

inline int64_t first_tap(const ConvPhase (&phase)[3], const Strides& w) {
  int64_t at = 0;
  for (int d = 0; d < 3; ++d) at += phase[d].filter * w.axis[d];
  return at;
}

inline IndexMap channel_map(int64_t channels, int64_t stride) {
  IndexMap m{};
  m.other_fastest = true;
  m.other = Divisor::of(channels), m.other_stride = stride;
  for (int d = 0; d < 3; ++d) m.axis[d] = Divisor::of(1);
  return m;
}

inline void set_limits(const ConvPhase (&phase)[3], Gathered& g) {
  for (int d = 0; d < 3; ++d) g.limit[d] = static_cast<int>(phase[d].axis.in);
}
inline void set_no_limits(Gathered& g) {
  for (int& limit : g.limit) limit = 1;  // all positions are 0
}

// Views of the results and extra inputs that a phase makes; returns how many.
inline int phase_views(const Call& call, const ConvCall& c, const ConvPhase (&phase)[3],
                       Tensor* views) {
  int n = 0;
  for (int t = 0; t < call.n_tensors; ++t) {
    if (t == c.e.n_out || t == c.e.n_out + 1) continue;
    Tensor& v = views[n++] = call.tensors[t];
    for (int i = 1; i < v.rank - 1; ++i) {
      const ConvPhase& p = phase[i + 4 - v.rank];
      v.data += p.first * v.stride[i] * size_of(v.dtype);
      v.shape[i] = p.axis.out;
      v.stride[i] *= p.step;
    }
  }
  return n;
}

}  // namespace dl::cuda
