// Filters copied to the layout that register tiles read: backwards or some taps only, transposed, a
// few columns, their last vector padded.
#pragma once

#include "cpu/kernels/conv_plan.h"
#include "cpu/kernels/gemm_pack.h"

namespace dl::DL_LEVEL {

// Product i of column j at a tap is w[tap + i * row + j * col], or of column first + j counted in
// groups of `cols`, `group` elements apart.
template <class T>
struct FilterView {
  const T* w;
  int64_t row, col;
  int64_t first = 0, cols = 0, group = 0;

  const T* at(int64_t j) const {
    if (cols == 0) return w + j * col;
    return w + (first + j) / cols * group + (first + j) % cols * col;
  }
  // Of n columns from j on, those that lie `col` apart.
  int64_t run(int64_t j, int64_t n) const {
    return cols == 0 ? n : least(n, cols - (first + j) % cols);
  }
};

// Calls visit(offset in the filter) for the taps of a phase in order.
template <class F>
void each_tap(const ConvPhase (&phase)[3], const Strides& filter, F visit) {
  const auto at = [&](int d, int64_t tap) {
    return (phase[d].filter + tap * phase[d].filter_step) * filter.axis[d];
  };
  for (int64_t f = 0; f < phase[0].axis.taps; ++f) {
    for (int64_t r = 0; r < phase[1].axis.taps; ++r) {
      for (int64_t s = 0; s < phase[2].axis.taps; ++s) visit(at(0, f) + at(1, r) + at(2, s));
    }
  }
}

// Panels of `width` vectors: a row for each tap and product.
template <class T>
void pack_filters(const ConvPhase (&phase)[3], const Strides& filter, const FilterView<T>& view,
                  int64_t products, int64_t cols, int64_t width, T* to) {
  constexpr int64_t L = kLanes<T>;
  for (int64_t j = 0; j < cols; j += width * L) {
    const int64_t panel = least(width, ceil_div(cols - j, L)) * L;
    each_tap(phase, filter, [&](int64_t tap) {
      const int64_t n = least(panel, cols - j);
      if (view.run(j, n) == n) {
        pack_panel(view.at(j) + tap, view.row, view.col, products, n, to, panel);
      } else {
        for (int64_t i = 0, run; i < n; i += run) {
          run = view.run(j + i, n - i);
          gather_block(view.at(j + i) + tap, view.row, view.col, products, run, to + i, panel);
        }
      }
      to += products * panel;
    });
  }
}

// A vector of products for each tap, vector of products and column.
template <class T>
void pack_dots(const ConvPhase (&phase)[3], const Strides& filter, const FilterView<T>& view,
               int64_t products, int64_t cols, T* to) {
  constexpr int64_t L = kLanes<T>;
  each_tap(phase, filter, [&](int64_t tap) {
    for (int64_t i = 0; i < products; i += L, to += cols * L)
      gather_block(view.w + tap + i * view.row, view.col, view.row, cols, L, to, L);
  });
}

}  // namespace dl::DL_LEVEL
