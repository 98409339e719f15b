// Depthwise convolution: every channel is a lane of a vector, and meets no other.
//
//   forward, input gradient  y[i, c]  = sum over taps t:    x[place(i, t), c] w[t, c]
//   filter gradient          dw[t, c] = sum over pixels i:  x[place(i, t), c] dy[i, c]
//
// The work is a few pixels in a line, in a row or column of the image, that meet the same taps of
// the filter, so nothing is copied and products with the padding are left out. All channels of a
// line are done before the next line: channel by channel, pixels at a distance of a power of two
// would share few sets of L1. Rows follow each other, so that memory is read in its order; inputs
// of the line below are prefetched, whose streams are too many for the machine to see.
#pragma once

#include "cpu/kernels/conv_window.h"

namespace dl::DL_LEVEL {

// `pixels` outputs in a line, from row p and column q of image n, and the taps they meet.
struct Line {
  int64_t n, p, q, pixels;
  bool down;  // a column
  TapRange taps;
};

// Lines of rows [p0, p1) of image n: rows, in strips of up to `most_pixels`, but columns at the
// edges, where taps are missed.
template <class F>
void each_line(const ConvAxis (&axis)[3], int64_t n, int64_t p0, int64_t p1, int64_t most_pixels,
               F visit) {
  const auto rows = [&](int64_t p) { return valid_taps(axis[1], p); };
  const auto cols = [&](int64_t q) { return valid_taps(axis[2], q); };
  const auto full = [&](int64_t q) { return cols(q).end - cols(q).begin == axis[2].taps; };
  const int64_t Q = axis[2].out;
  int64_t q0 = 0, q1;
  while (q0 < Q && !full(q0)) ++q0;
  for (q1 = q0; q1 < Q && full(q1);) ++q1;
  const int64_t strips = ceil_div(q1 - q0, most_pixels);
  for (int64_t p = p0, next; p < p1; p = next) {
    const Inside r = rows(p);
    for (next = p; next < least(p1, p + most_pixels); ++next) {
      if (rows(next).begin != r.begin || rows(next).end != r.end) break;
      for (int64_t s = 0; s < strips; ++s) {
        const int64_t first = q0 + (q1 - q0) * s / strips, last = q0 + (q1 - q0) * (s + 1) / strips;
        visit(Line{n, next, first, last - first, false, {r.begin, r.end, 0, axis[2].taps}});
      }
    }
    for (int64_t q = q0 > 0 ? 0 : q1; q < Q; q = q + 1 == q0 ? q1 : q + 1)
      visit(Line{n, p, q, next - p, true, {r.begin, r.end, cols(q).begin, cols(q).end}});
  }
}

// Rows [begin, end) of all images of P rows, as rows [p0, p1) of image n.
template <class F>
void each_image(int64_t P, int64_t begin, int64_t end, F visit) {
  for (int64_t i = begin, next; i < end; i = next) {
    const int64_t n = i / P;
    next = least(end, (n + 1) * P);
    visit(n, i - n * P, next - n * P);
  }
}

// The forward pass or the input gradient where read_conv chose it: Conv::depthwise.
void plan_depthwise(const Conv& c, Work& work);
void run_depthwise(const Call& call, const Conv& c, int64_t begin, int64_t end, char* scratch);

}  // namespace dl::DL_LEVEL
