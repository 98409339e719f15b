// conv and conv_input_grad through minimal filtering: conv_winograd.h.
//
//   phase 0   for each panel of w, block of channels                     w -> 16 panels, shared
//   phase 1   for each block of tiles (2 x 2 outputs), share of w      inputs -> 16 matrices, in L2
//               for each panel of it
//                 16 products of tiles x channels by channels x panel    sums -> 16 matrices, in L2
//                 the sums of every tile                                 4 outputs, the epilogue
//
// The channels of a tile's product are one chain, whatever the blocks.
#include "cpu/kernels/conv_winograd.h"

#include "cpu/kernels/conv_filters.h"

namespace dl::DL_LEVEL {

namespace {

constexpr int64_t kFilterChannels = 64;  // of a part of phase 0
constexpr int64_t kRunTiles = 32;        // of a row of tiles, whose outputs wait for an expression

int64_t filter_steps(const Conv& c) { return ceil_div(c.inner, kFilterChannels); }

struct Layout {
  int64_t matrix, sum_matrix, filter_matrix;  // elements between two of the 16
  int64_t taps;                               // of phase 0
  int64_t inputs, sums, patch, outputs, registers, total;
};

template <class T>
Layout lay_out(const Conv& c) {
  Layout at{};
  Room room;
  const int64_t panel = c.width * kLanes<T>;
  at.taps = 0;
  const int64_t taps = 9 * least(c.inner, kFilterChannels) * panel;
  at.matrix = matrix_step<T>(c.tiles * c.inner), at.sum_matrix = matrix_step<T>(c.tiles * panel);
  at.filter_matrix = matrix_step<T>(c.inner * panel);
  at.inputs = room.take<T>(kPoints * at.matrix);
  at.sums = room.take<T>(kPoints * at.sum_matrix);
  at.patch = room.take<T>(kPoints * c.inner);
  at.outputs = room.take<T>(c.direct ? 0 : 4 * kRunTiles * panel);
  at.registers = room.take<T>(register_elements<T>(c, panel));
  at.total = most(room.bytes, round_up(taps * int64_t{sizeof(T)}, 64));
  return at;
}

// Where the outputs of a tile go.
template <class T>
struct OutputTile {
  const T* m;
  int64_t matrix, cols;
  T* y;
  int64_t row, col;  // between outputs
  bool both_rows, both_cols;
  const T* extra;  // bias, or y of relu_grad
  int64_t extra_row, extra_col;
};

// A^T m A and the epilogue.
template <class T, Store kStore>
void store_tile(const OutputTile<T>& t) {
  const Vec<T> zero{};
  const auto finish = [&](Vec<T> s, int64_t k, int64_t r, int64_t q) {
    if constexpr (kStore == Store::bias) s += load(t.extra + k);
    if constexpr (kStore == Store::bias_relu) {
      s += load(t.extra + k);
      s = s < zero ? zero : s;
    }
    if constexpr (kStore == Store::relu_grad)
      s = load(t.extra + r * t.extra_row + q * t.extra_col + k) > zero ? s : zero;
    store(t.y + r * t.row + q * t.col + k, s);
  };
  for (int64_t k = 0; k < t.cols; k += kLanes<T>) {
    Vec<T> first[4], second[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const T* m = t.m + k + j * t.matrix;
      const Vec<T> b = load(m + 4 * t.matrix), c = load(m + 8 * t.matrix);
      first[j] = load(m) + b + c, second[j] = b - c - load(m + 12 * t.matrix);
    }
    finish(first[0] + first[1] + first[2], k, 0, 0);
    if (t.both_cols) finish(first[1] - first[2] - first[3], k, 0, 1);
    if (!t.both_rows) continue;
    finish(second[0] + second[1] + second[2], k, 1, 0);
    if (t.both_cols) finish(second[1] - second[2] - second[3], k, 1, 1);
  }
}

template <class T>
void (*find_store(Store s))(const OutputTile<T>&) {
  switch (s) {
    case Store::bias:
      return store_tile<T, Store::bias>;
    case Store::bias_relu:
      return store_tile<T, Store::bias_relu>;
    case Store::relu_grad:
      return store_tile<T, Store::relu_grad>;
    default:
      return store_tile<T, Store::plain>;
  }
}

template <class T>
class WinogradConvolver {
 public:
  WinogradConvolver(const Call& call, const Conv& c, char* scratch)
      : call_(call),
        c_(c),
        at_(lay_out<T>(c)),
        scratch_(scratch),
        panel_(c.width * L),
        store_(find_store<T>(c.store)) {
    for (int d = 0; d < 3; ++d)
      phase_[d] =
          c.task == Task::input_grad ? gradient_phase(c.axis[d], 0) : forward_phase(c.axis[d]);
  }

  // Parts of phase 0: panel, block of channels.
  void transform_part(int64_t index) {
    const int64_t step = index % filter_steps(c_), j = index / filter_steps(c_) * panel_;
    const int64_t first = step * kFilterChannels, n = least(kFilterChannels, c_.inner - first);
    const int64_t width = least(panel_, c_.cols - j);
    const Tensor& w = call_.tensors[c_.n_out + 1];
    const Strides s = filter_strides(w);
    const bool back = c_.task == Task::input_grad;
    const int64_t row = back ? s.k : s.c, col = back ? s.c : s.k;
    T* taps = at<T>(at_.taps);
    pack_filters(phase_, s, {w.as<const T>() + first * row + j * col, row, col}, n, width, c_.width,
                 taps);
    transform_filter(taps, n * width, n * width, filters(j) + first * width, at_.filter_matrix);
  }

  // Parts of phase 1: block of tiles, panels.
  void block_part(int64_t index) {
    if (index / c_.column_parts != block_) begin_block(block_ = index / c_.column_parts);
    const int64_t panels = ceil_div(c_.cols, panel_), k = index % c_.column_parts;
    const int64_t end = least(c_.cols, panels * (k + 1) / c_.column_parts * panel_);
    for (int64_t j = panels * k / c_.column_parts * panel_; j < end; j += panel_) {
      width_ = least(panel_, c_.cols - j);
      multiply(j);
      for (int64_t i = 0; i < n_;) i += finish_run(j, i);
    }
  }

  // Before block_part.
  void prepare_blocks() {
    if (c_.evaluates) prepare(c_.expression, evaluated_rows(panel_), panel_, at<T>(at_.registers));
  }

 private:
  static constexpr int64_t L = kLanes<T>;

  template <class E>
  E* at(int64_t offset) const {
    return reinterpret_cast<E*>(scratch_ + offset);
  }

  void begin_block(int64_t index) {
    const int64_t tiles = c_.batch * c_.tile_rows * c_.tile_cols;
    const int64_t blocks = ceil_div(tiles, c_.tiles);
    first_ = tiles * index / blocks, n_ = tiles * (index + 1) / blocks - first_;
    transform_inputs();
  }

  // The 16 panels from column j on.
  T* filters(int64_t j) const {
    return reinterpret_cast<T*>(call_.shared) + kPoints * at_.filter_matrix * (j / panel_);
  }

  void transform_inputs() {
    const Tensor& x = call_.tensors[c_.n_out];
    const Strides s = image_strides(x);
    const ConvAxis &rows = phase_[1].axis, &cols = phase_[2].axis;
    for (int64_t i = 0; i < n_; ++i) {
      const ImageTile t = image_tile(c_, first_ + i);
      const Patch<T> patch =
          read_patch(x.as<const T>() + t.n * s.n, s, rows.in, cols.in, t.p - rows.pad,
                     t.q - cols.pad, 4, c_.inner, at<T>(at_.patch));
      transform_input(patch.x, patch.row, patch.col, c_.inner, at<T>(at_.inputs) + i * c_.inner,
                      at_.matrix);
    }
  }

  void multiply(int64_t j) {
    const int64_t steps = ceil_div(c_.inner, c_.k_step);
    for (int point = 0; point < kPoints; ++point) {
      for (int64_t s = 0; s < steps; ++s) {
        const int64_t k0 = c_.inner * s / steps, k1 = c_.inner * (s + 1) / steps;
        Tile<T> t{};
        t.a = at<T>(at_.inputs) + point * at_.matrix + k0, t.a_row = c_.inner, t.a_col = 1;
        t.b[0] = filters(j) + point * at_.filter_matrix + k0 * width_, t.b_row[0] = width_;
        t.k[0] = k1 - k0;
        t.c = at<T>(at_.sums) + point * at_.sum_matrix, t.c_row = width_;
        t.accumulate = s > 0;
        multiply_point(t, n_, static_cast<int>(width_ / L));
      }
    }
  }

  // Tiles from i on that are neighbours in a row of tiles, all of one height: their number.
  int64_t finish_run(int64_t j, int64_t i) {
    const ImageTile t = image_tile(c_, first_ + i);
    const int64_t run = least(least(c_.tile_cols - t.q / 2, n_ - i), kRunTiles);
    const int64_t rows = least(2, phase_[1].axis.out - t.p);
    const int64_t cols = least(2 * run, phase_[2].axis.out - t.q);
    OutputTile<T> to{};
    to.matrix = at_.sum_matrix, to.cols = width_;
    to.y = at<T>(at_.outputs), to.row = cols * width_, to.col = width_;
    if (c_.direct) set_result(to, t, j);
    to.both_rows = rows == 2;
    for (int64_t k = 0; k < run; ++k) {
      to.m = at<T>(at_.sums) + (i + k) * width_;
      to.both_cols = 2 * k + 1 < cols;
      store_(to);
      to.y += 2 * to.col, to.extra += 2 * to.extra_col;
    }
    for (int64_t r = 0; !c_.direct && r < rows; ++r)
      finish_row(at<T>(at_.outputs) + r * to.row, {t.n, t.p + r, t.q}, j, cols);
    return run;
  }

  static int64_t position(const Tensor& x, const ImageTile& t, int64_t j) {
    const Strides s = image_strides(x);
    return t.n * s.n + t.p * s.axis[1] + t.q * s.axis[2] + j * s.c;
  }

  void set_result(OutputTile<T>& to, const ImageTile& t, int64_t j) const {
    const Tensor &y = call_.tensors[0], &x = call_.tensors[c_.extra];
    const Strides s = image_strides(y), e = image_strides(x);
    to.y = y.as<T>() + position(y, t, j), to.row = s.axis[1], to.col = s.axis[2];
    if (c_.store == Store::plain) return;
    to.extra = x.as<const T>() + (c_.store == Store::relu_grad ? position(x, t, j) : j);
    if (c_.store == Store::relu_grad) to.extra_row = e.axis[1], to.extra_col = e.axis[2];
  }

  Operand view(const Tensor& x, const ImageTile& t, int64_t j) const {
    const Strides s = image_strides(x);
    return {x.data + position(x, t, j) * size_of(x.dtype), x.dtype, s.axis[2], s.c};
  }

  // The expression of n outputs of a row, from pixel t and column j on.
  void finish_row(T* sums, ImageTile t, int64_t j, int64_t n) {
    if (!c_.evaluates) {
      const Operand out = view(call_.tensors[0], t, j);
      scatter_block(sums, width_, n, width_, reinterpret_cast<T*>(out.data), out.row_stride,
                    out.col_stride);
      return;
    }
    const int64_t step = evaluated_rows(panel_);
    for (int64_t i = 0; i < n; i += step, t.q += step) {
      Operand out[kMaxOutputs], in[kMaxValues];
      in[0] = {reinterpret_cast<char*>(sums + i * width_), c_.dtype, width_, 1};
      for (int x = 0; x < c_.n_out; ++x) out[x] = view(call_.tensors[x], t, j);
      for (int x = 1; x < c_.expression.n_in; ++x)
        in[x] = view(call_.tensors[c_.n_out + 1 + x], t, j);
      evaluate(c_.expression, least(step, n - i), width_, out, in, at<T>(at_.registers));
    }
  }

  const Call& call_;
  const Conv& c_;
  const Layout at_;
  char* scratch_;
  const int64_t panel_;
  void (*store_)(const OutputTile<T>&);
  ConvPhase phase_[3];
  int64_t block_ = -1;
  int64_t first_ = 0, n_ = 0;  // tiles of the block
  int64_t width_ = 0;          // columns of the panel
};

template <class T>
void run_parts(const Call& call, const Conv& c, int phase, int64_t begin, int64_t end,
               char* scratch) {
  WinogradConvolver<T> work(call, c, scratch);
  if (phase == 1) work.prepare_blocks();
  for (int64_t i = begin; i < end; ++i) {
    if (phase == 0) {
      work.transform_part(i);
    } else {
      work.block_part(i);
    }
  }
}

}  // namespace

void plan_winograd(const Conv& c, Work& work) {
  const bool single = c.dtype == DType::f32;
  const int64_t panel = c.width * kVectorBytes / size_of(c.dtype);
  work.phases = 2;
  work.parts[0] = ceil_div(c.cols, panel) * filter_steps(c);
  work.parts[1] = ceil_div(c.batch * c.tile_rows * c.tile_cols, c.tiles) * c.column_parts;
  const Layout at = single ? lay_out<float>(c) : lay_out<double>(c);
  work.shared_bytes = kPoints * at.filter_matrix * ceil_div(c.cols, panel) * size_of(c.dtype);
  work.scratch_bytes = at.total;
}

void run_winograd(const Call& call, const Conv& c, int phase, int64_t begin, int64_t end,
                  char* scratch) {
  if (c.dtype == DType::f32) {
    run_parts<float>(call, c, phase, begin, end, scratch);
  } else {
    run_parts<double>(call, c, phase, begin, end, scratch);
  }
}

}  // namespace dl::DL_LEVEL
