// The filter gradient of a cell (some channels, some columns) through minimal filtering:
// conv_winograd.h.
//
//   for each block of tiles           x -> 16 matrices of tiles x channels, in L2
//     for each panel of columns       dy -> 16 matrices of tiles x panel, in L2
//       16 products, which add channels x panel sums
//   then, once                        16 sums -> the 9 of the filter
#pragma once

#include "cpu/kernels/conv_winograd.h"

namespace dl::DL_LEVEL {

template <class T>
class WinogradSums {
 public:
  struct Cell {
    int64_t channel, channels, col, cols;
  };

  static int64_t scratch_elements(const Conv& c) {
    const Layout at(c);
    return c.winograd ? at.total : 0;
  }

  WinogradSums(const Call& call, const Conv& c, T* scratch)
      : c_(c),
        x_(call.tensors[c.n_out]),
        dy_(call.tensors[c.n_out + 1]),
        at_(c),
        scratch_(scratch) {}

  // Of tiles [begin, end) to dw: for each panel of Conv::width vectors `rows` rows, of which a
  // tap's channels are neighbours.
  void sum(const Cell& cell, int64_t begin, int64_t end, T* dw, int64_t rows) {
    cell_ = cell;
    for (int64_t first = begin; first < end; first += c_.tiles) {
      const int64_t n = least(c_.tiles, end - first);
      transform_inputs(first, n);
      for (int64_t j = 0; j < cell.cols; j += panel()) {
        transform_gradients(first, n, j);
        multiply(n, j, first > begin);
      }
    }
    for (int64_t j = 0; j < cell.cols; j += panel()) {
      const int64_t width = panel_width(j);
      for (int64_t i = 0; i < cell.channels; ++i)
        transform_sums(sums(j) + i * width, cell.channels * width, width,
                       dw + j * rows + i * panel(), cell.channels * panel());
    }
  }

 private:
  static constexpr int64_t L = kLanes<T>;

  struct Layout {
    int64_t matrix, gradient_matrix;  // elements between two of the 16
    int64_t gradients, sums, patch, total;

    explicit Layout(const Conv& c) {
      const int64_t panel = c.width * L;
      matrix = matrix_step<T>(c.tiles * c.channel_step);
      gradient_matrix = matrix_step<T>(c.tiles * panel);
      gradients = kPoints * matrix;
      sums = gradients + kPoints * gradient_matrix;
      patch = sums + kPoints * c.channel_step * c.group;
      total = patch + kPoints * most(c.channel_step, panel);
    }
  };

  int64_t panel() const { return c_.width * L; }
  int64_t panel_width(int64_t j) const { return least(panel(), cell_.cols - j); }
  T* sums(int64_t j) const { return scratch_ + at_.sums + kPoints * cell_.channels * j; }

  void transform_inputs(int64_t first, int64_t n) {
    const Strides s = image_strides(x_);
    const ConvAxis &rows = c_.axis[1], &cols = c_.axis[2];
    for (int64_t i = 0; i < n; ++i) {
      const ImageTile t = image_tile(c_, first + i);
      const Patch<T> patch =
          read_patch(x_.as<const T>() + t.n * s.n + cell_.channel, s, rows.in, cols.in,
                     t.p - rows.pad, t.q - cols.pad, 4, cell_.channels, scratch_ + at_.patch);
      transform_input(patch.x, patch.row, patch.col, cell_.channels, scratch_ + i * cell_.channels,
                      at_.matrix);
    }
  }

  void transform_gradients(int64_t first, int64_t n, int64_t j) {
    const Strides s = image_strides(dy_);
    const int64_t width = panel_width(j);
    for (int64_t i = 0; i < n; ++i) {
      const ImageTile t = image_tile(c_, first + i);
      const Patch<T> patch =
          read_patch(dy_.as<const T>() + t.n * s.n + cell_.col + j, s, c_.axis[1].out,
                     c_.axis[2].out, t.p, t.q, 2, width, scratch_ + at_.patch);
      transform_gradient(patch.x, patch.row, patch.col, width, scratch_ + at_.gradients + i * width,
                         at_.gradient_matrix);
    }
  }

  void multiply(int64_t n, int64_t j, bool accumulate) {
    const int64_t width = panel_width(j);
    for (int point = 0; point < kPoints; ++point) {
      Tile<T> t{};
      t.a = scratch_ + point * at_.matrix, t.a_row = 1, t.a_col = cell_.channels;
      t.b[0] = scratch_ + at_.gradients + point * at_.gradient_matrix, t.b_row[0] = width;
      t.k[0] = n;
      t.c = sums(j) + point * cell_.channels * width, t.c_row = width;
      t.accumulate = accumulate;
      multiply_point(t, cell_.channels, static_cast<int>(width / L));
    }
  }

  const Conv& c_;
  const Tensor &x_, &dy_;
  const Layout at_;
  T* scratch_;
  Cell cell_{};
};

}  // namespace dl::DL_LEVEL
