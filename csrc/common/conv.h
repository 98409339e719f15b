// Geometry of convolution, one spatial axis at a time, for every backend.
//
//   forward         y[i]  = sum over t:  x[i * stride - pad + t * dilation] w[t]
//   input gradient  dx[h] = sum over t:  dy[(h + pad - t * dilation) / stride] w[t], where that is
//                   whole
//   filter gradient dw[t] = sum over i:  x[i * stride - pad + t * dilation] dy[i]
//
// x and dy are 0 outside. The input gradient falls apart into `stride` convolutions of stride 1,
// one for each residue of h: ConvPhase. It is the forward pass of transposed convolution too.
#pragma once

#include <cstdint>

namespace dl {

// Output i reads input i * stride - pad + t * dilation at tap t; pad may be negative.
struct ConvAxis {
  int64_t in, out, taps, stride, dilation, pad;
};

// A convolution that makes every step-th element of a result, from every some-th tap of a filter.
struct ConvPhase {
  ConvAxis axis;
  int64_t filter, filter_step;  // tap t is element filter + t * filter_step of the filter
  int64_t first, step;          // output i is element first + i * step of the result
};

// Static: compiled for several instruction sets, see philox.h.
static inline ConvPhase forward_phase(const ConvAxis& a) { return {a, 0, 1, 0, 1}; }

static inline int64_t common_divisor(int64_t a, int64_t b) {
  while (b) {
    const int64_t rest = a % b;
    a = b, b = rest;
  }
  return a;
}

// Residues that have elements.
static inline int64_t gradient_phases(const ConvAxis& a) {
  return a.in < 1 ? 1 : a.in < a.stride ? a.in : a.stride;
}

// dx[residue], dx[residue + stride], ... from dy. With g = gcd(stride, dilation), every
// stride / g-th tap reaches them, from `first` on; the taps are taken backwards, so that dy is read
// forwards.
static inline ConvPhase gradient_phase(const ConvAxis& a, int64_t residue) {
  const int64_t g = common_divisor(a.stride, a.dilation), tap_step = a.stride / g;
  const int64_t outputs = a.in > residue ? (a.in - residue - 1) / a.stride + 1 : 0;
  int64_t tap = 0, taps = 0;
  for (; tap < tap_step && tap < a.taps && !taps; ++tap) {
    if ((residue + a.pad - tap * a.dilation) % a.stride == 0)
      taps = (a.taps - tap - 1) / tap_step + 1;
  }
  if (!taps) return {{a.out, outputs, 0, 1, 1, 0}, 0, 1, residue, a.stride};
  const int64_t first = tap - 1, last = first + (taps - 1) * tap_step;
  const int64_t nearest = (residue + a.pad - last * a.dilation) / a.stride;
  return {{a.out, outputs, taps, 1, a.dilation / g, -nearest}, last, -tap_step, residue, a.stride};
}

}  // namespace dl
