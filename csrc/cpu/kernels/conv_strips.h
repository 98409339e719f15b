// The pixels of a box by strips of neighbours, a register tile each (conv_tile.h). Where products
// with the padding are many, a strip at the edge of an image leaves them out.
#pragma once

#include "cpu/kernels/conv_window.h"

namespace dl::DL_LEVEL {

constexpr int64_t kCallProducts = 128;  // of all strips in a call of their tile

template <class T>
struct Strips {
  // The products from k0 on, of which the sums begin with the first channels and are done with the
  // last; where they wait.
  struct Sums {
    int64_t k0;
    bool first, last;
    T* partial;
  };

  const Conv& conv;
  const ConvAxis (&axis)[3];  // of the phase
  int64_t channels;           // products of a tap
  int64_t pixels;             // of the box
  // Tables of its pixels: their inputs, where their sums wait, and which taps lie inside the image.
  const int64_t *rows, *partial_rows;
  const TapRange* ranges;
  Ahead& ahead;

  // Strips of nearly equal heights.
  template <class Find>
  void run(SumTile<T> t, int height, const Sums& sums, Find find) const {
    const int64_t n = ceil_div(pixels, height);
    const SumTile<T> first = t;
    const int low = static_cast<int>(pixels / n);
    const int64_t high = pixels % n;
    const SumFunction<T> low_tile = find(low), high_tile = high ? find(low + 1) : low_tile;
    const bool alone = conv.skips || conv.dots || height > kStripRows;
    const int64_t most_strips = alone ? 1 : most(1, kCallProducts / most(1, t.k));
    for (int64_t s = 0, r = 0; s < n; s += t.strips) {
      const int h = low + (s < high);
      t.strips = least(most_strips, (s < high ? high : n) - s);
      t.row = rows + r;
      t.c_at = first.c_at + r;
      t.extra_at = first.extra_at + r;
      if (first.start) t.start = first.start + r * first.start_row;
      ahead.step(t.strips);
      const SumFunction<T> tile = s < high ? high_tile : low_tile;
      if (conv.skips) {
        strip_in_runs(t, sums, r, h, tile);
      } else {
        tile(t);
      }
      r += t.strips * h;
    }
  }

 private:
  // Taps that any pixel of the strip needs.
  TapRange needed_taps(int64_t r, int h) const {
    const TapRange* range = ranges + r;
    TapRange g = *range;
    for (int i = 1; i < h; ++i) {
      g.r0 = least(g.r0, range[i].r0), g.r1 = most(g.r1, range[i].r1);
      g.s0 = least(g.s0, range[i].s0), g.s1 = most(g.s1, range[i].s1);
    }
    return g;
  }

  // A strip at the edge of the image: runs of products, one for each row of taps if columns miss.
  void strip_in_runs(const SumTile<T>& t, const Sums& sums, int64_t r, int h,
                     SumFunction<T> tile) const {
    const TapRange g = needed_taps(r, h);
    const int64_t R = axis[1].taps, S = axis[2].taps;
    if (g.r0 == 0 && g.r1 == R && g.s0 == 0 && g.s1 == S) return tile(t);
    const int64_t tap_rows = g.s1 - g.s0 == S ? most(1, g.r1 - g.r0) : 1;
    const int64_t count = ((tap_rows - 1) * S + g.s1 - g.s0) * channels, k1 = sums.k0 + t.k;
    SumTile<T> run = t;
    run.k = 0;
    run.start = nullptr;
    T* const partial = sums.partial + r * t.start_row;
    bool begun = !sums.first && count > 0 && g.r0 < g.r1;
    for (int64_t f = 0; f < axis[0].taps; ++f) {
      for (int64_t row = g.r0; row < g.r1; row += tap_rows) {
        const int64_t from = ((f * R + row) * S + g.s0) * channels;
        const int64_t k = most(from, sums.k0), end = least(from + count, k1);
        if (count > 0 && from < sums.k0) begun = true;
        if (k >= end) continue;
        if (run.k > 0) {
          store_partial(run, partial, r, tile);
          begun = true;
        }
        run.col = t.col + (k - sums.k0), run.b = t.b + (k - sums.k0) * t.b_row, run.k = end - k;
        run.start = begun ? partial : nullptr;
      }
    }
    if (run.k == 0) run.start = begun ? partial : nullptr;
    if (run.k > 0 || sums.last) tile(run);
  }

  void store_partial(SumTile<T> run, T* partial, int64_t r, SumFunction<T> tile) const {
    run.c = partial - r * run.start_row, run.c_at = partial_rows + r;
    run.store = Store::plain;
    tile(run);
  }
};

}  // namespace dl::DL_LEVEL
