// dw = f(sum over images and pixels of x dy, extra inputs...), the extra inputs being, say, what an
// optimizer updates.
//
//   for each cell of dw (a range of columns, a range of channels), chunk of the boxes
//     for each box of 128 output pixels and more     inputs -> window, dy -> panels, in L2
//       for each panel of dy                         up to four vectors wide, in L1
//         for each register tile of filter elements  its sums are read and written once a box
//   then, where there are several chunks: their sums are added in order
//
// A small dw is cut over the batch, a large one into cells, so that partial sums take little
// memory.
#include "cpu/kernels/conv_depthwise_sums.h"
#include "cpu/kernels/conv_winograd_sums.h"
#include "cpu/kernels/level.h"

namespace dl::DL_LEVEL {

namespace {

// A block of channels has so many rows of partial sums, one for each filter element.
int64_t block_rows(const Conv& c) { return c.k_most; }
int64_t channel_blocks(const Conv& c) { return most(1, ceil_div(c.channel_step, c.channel_block)); }
int64_t cell_rows(const Conv& c) { return channel_blocks(c) * block_rows(c); }
int64_t cell_sums(const Conv& c) { return cell_rows(c) * c.group; }
int64_t finish_parts(const Conv& c) { return ceil_div(cell_sums(c), 4 * kBlockSums); }

// What is cut into chunks: tiles, rows of images, or boxes.
int64_t chunk_units(const Conv& c) {
  if (c.winograd) return c.batch * c.tile_rows * c.tile_cols;
  return c.depthwise ? c.batch * c.axis[1].out : box_count(c);
}

struct Layout {
  int64_t rows, partial_rows, pixels, panels, window, tiles, partial, sums, registers, total;
};

template <class T>
Layout lay_out(const Conv& c) {
  Layout at{};
  Room room;
  at.rows = room.take<int64_t>(block_rows(c));
  at.partial_rows = room.take<int64_t>(block_rows(c));
  at.pixels = room.take<int64_t>(c.winograd ? 0 : box_pixels(c));
  at.panels = room.take<T>(c.packed ? box_pixels(c) * c.group : 0);
  at.window = room.take<T>(c.window * channel_blocks(c));
  at.tiles = room.take<T>(WinogradSums<T>::scratch_elements(c));
  at.partial = room.take<T>(c.chunks == 1 ? cell_sums(c) : 0);
  at.sums = room.take<T>(evaluated_rows(c.group) * c.group);
  at.registers = room.take<T>(register_elements<T>(c, c.group));
  at.total = room.bytes;
  return at;
}

template <class T>
class FilterGradient {
 public:
  FilterGradient(const Call& call, const Conv& c, char* scratch)
      : call_(call), c_(c), at_(lay_out<T>(c)), scratch_(scratch) {
    const Tensor &x = call.tensors[c.n_out], &dy = call.tensors[c.n_out + 1];
    x_ = x.as<const T>(), in_ = image_strides(x);
    dy_ = dy.as<const T>(), dy_strides_ = image_strides(dy);
    pixel_ = c.wide ? c.inner * c.group : c.channel_block;
  }

  // Parts of the first phase: cell, chunk.
  void sum_part(int64_t index) {
    select(index / c_.chunks);
    const int64_t chunk = index % c_.chunks;
    partial_ = c_.chunks == 1 ? at<T>(at_.partial)
                              : reinterpret_cast<T*>(call_.shared) + index * cell_sums(c_);
    const int64_t units = chunk_units(c_);
    const int64_t begin = units * chunk / c_.chunks, end = units * (chunk + 1) / c_.chunks;
    if (c_.winograd) {
      sum_tiles(begin, end);
    } else if (c_.depthwise) {
      DepthwiseSums<T>(call_, c_).sum(j0_, cols_, begin, end, partial_);
    } else {
      sum_boxes(begin, end);
    }
    if (c_.chunks == 1) finish(0, cell_rows(c_));
  }

  // Parts of the second: cell, block of rows.
  void finish_part(int64_t index) {
    const int64_t parts = finish_parts(c_), cell = index / parts, i = index % parts;
    select(cell);
    partial_ = reinterpret_cast<T*>(call_.shared) + cell * c_.chunks * cell_sums(c_);
    finish(cell_rows(c_) * i / parts, cell_rows(c_) * (i + 1) / parts);
  }

 private:
  static constexpr int64_t L = kLanes<T>;

  void sum_tiles(int64_t begin, int64_t end) {
    select_block(0);
    WinogradSums<T> tiles(call_, c_, at<T>(at_.tiles));
    tiles.sum({channel_, channels_, j0_, cols_}, begin, end, partial_, block_rows(c_));
  }

  void sum_boxes(int64_t begin, int64_t end) {
    if (begin == end) fill_zero(partial_, cell_sums(c_));
    for (int64_t i = begin; i < end; ++i) {
      const Box b = find_box(c_, c_.axis, i);
      if (i + 1 < end) look_ahead(b, find_box(c_, c_.axis, i + 1));
      box(b, i > begin);
    }
  }

  template <class E>
  E* at(int64_t offset) const {
    return reinterpret_cast<E*>(scratch_ + offset);
  }

  void select(int64_t cell) {
    if (cell == cell_) return;
    cell_ = cell;
    cell_channel_ = cell % c_.channel_parts * c_.channel_step, cell /= c_.channel_parts;
    const int64_t col_parts = ceil_div(c_.cols, c_.group);
    j0_ = cell % col_parts * c_.group, cell /= col_parts;
    cols_ = least(c_.group, c_.cols - j0_);
    group_ = cell;
    reach_ = find_reach(c_, c_.axis, in_, pixel_);
    for (int64_t i = 0; i < block_rows(c_); ++i)
      at<int64_t>(at_.partial_rows)[i] = i * c_.width * L;
    table_ = Box{};
    channels_ = 0;
    if (c_.evaluates) prepare(c_.expression, evaluated_rows(c_.group), cols_, at<T>(at_.registers));
  }

  // Channels of block i of the cell: their number may be 0.
  void select_block(int64_t i) {
    channel_ = cell_channel_ + i * c_.channel_block;
    const int64_t end = least(cell_channel_ + c_.channel_step, c_.inner);
    channels_ = most(0, least(c_.channel_block, end - channel_));
    rows_ = c_.axis[0].taps * c_.axis[1].taps * c_.axis[2].taps * channels_;
  }

  void look_ahead(const Box& b, const Box& next) {
    const int64_t tiles =
        ceil_div(cell_rows(c_), sum_height(c_.width)) * ceil_div(cols_, c_.width * L);
    const Rows now = input_rows(c_.axis, in_, b), then = input_rows(c_.axis, in_, next);
    x_ahead_ =
        fetch_pixels(x_ + (next.n == b.n ? most(now.end, then.begin) : then.begin), x_ + then.end,
                     in_.axis[2], c_.wide ? wide_first(c_, j0_) : group_ * c_.inner + cell_channel_,
                     c_.wide ? wide_count(c_) : c_.channel_step, tiles);
    const Strides& out = dy_strides_;
    const T* dy =
        dy_ + next.n * out.n + next.o * out.axis[0] + next.p * out.axis[1] + next.q * out.axis[2];
    dy_ahead_ = fetch_pixels(dy, dy + next.images * next.rows * next.cols * out.axis[2],
                             out.axis[2], group_ * c_.cols + j0_, c_.group, tiles);
  }

  void box(const Box& b, bool accumulate) {
    if (!serves(table_, b)) set_pixels(table_ = table_box(c_, b));
    box_ = b;
    if (c_.packed) pack_gradient();
    const T* x = source();
    for (int64_t i = 0; i < channel_blocks(c_); ++i) {
      const int64_t before = channels_;
      select_block(i);
      if (channels_ == 0) break;
      if (channels_ != before)
        tap_offsets(reach_, c_.axis, channels_,
                    !c_.windowed ? in_.c
                    : c_.wide    ? c_.group
                                 : 1,
                    at<int64_t>(at_.rows));
      panels(x + i * (c_.windowed ? c_.window : c_.channel_block), sums_of_block(i), accumulate);
    }
  }

  T* sums_of_block(int64_t i) const { return partial_ + i * block_rows(c_) * c_.group; }

  void panels(const T* x, T* sums, bool accumulate) {
    const int64_t pixels = box_.images * box_.rows * box_.cols;
    for (int64_t j = 0; j < cols_; j += c_.width * L) {
      const int64_t w = panel_width(j);
      SumTile<T> t{};
      t.a = c_.wide ? x + j : x;
      t.col = at<int64_t>(at_.pixels), t.k = pixels;
      t.b = c_.packed ? at<T>(at_.panels) + j * pixels : gradient(0, 0, j);
      t.b_row = c_.packed ? w * L : dy_strides_.axis[2];
      t.c = sums + j * block_rows(c_);
      t.start_row = c_.width * L;
      strips(t, static_cast<int>(w), accumulate);
    }
  }

  void set_pixels(const Box& b) const {
    int64_t* next = at<int64_t>(at_.pixels);
    each_pixel(c_.axis, b, false, [&](int64_t, int64_t n, int64_t p, int64_t q) {
      *next++ = n * reach_.image + p * reach_.out_step[1] + q * reach_.out_step[2];
    });
  }

  int64_t panel_width(int64_t j) const { return least(c_.width, ceil_div(cols_ - j, L)); }

  // dy of the box's row p in its image n, column j of the group.
  const T* gradient(int64_t n, int64_t p, int64_t j) const {
    const Strides& s = dy_strides_;
    return dy_ + (box_.n + n) * s.n + box_.o * s.axis[0] + (box_.p + p) * s.axis[1] +
           box_.q * s.axis[2] + (group_ * c_.cols + j0_ + j) * s.c;
  }

  void pack_gradient() {
    const int64_t pixels = box_.images * box_.rows * box_.cols;
    int64_t pixel = 0;
    for (int64_t n = 0; n < box_.images; ++n) {
      for (int64_t p = 0; p < box_.rows; ++p, pixel += box_.cols) {
        for (int64_t j = 0; j < cols_; j += c_.width * L) {
          const int64_t width = panel_width(j) * L;
          pack_panel(gradient(n, p, j), dy_strides_.axis[2], dy_strides_.c, box_.cols,
                     least(width, cols_ - j), at<T>(at_.panels) + j * pixels + pixel * width,
                     width);
        }
      }
    }
  }

  // What pixel 0 of the box reads at offset 0, for the cell's first channel.
  const T* source() const {
    const Window<T> window(c_.axis, in_, reach_, pixel_);
    const int64_t first = c_.wide ? j0_ : group_ * c_.inner + cell_channel_;
    if (!c_.windowed) return window.in_place(x_, box_) + first * in_.c;
    const int64_t total = least(c_.channel_step, c_.inner - cell_channel_), n = c_.channel_block;
    const Channels narrow{first, total, n, 1, n, 1, c_.window, true};
    window.fill(x_, box_, c_.wide ? wide_channels(c_, j0_, cols_) : narrow, at<T>(at_.window));
    return at<T>(at_.window);
  }

  void strips(SumTile<T> t, int w, bool accumulate) {
    T* const sums = t.c;
    const int64_t strips = ceil_div(rows_, sum_height(w));
    for (int64_t s = 0; s < strips; ++s) {
      const int64_t r0 = rows_ * s / strips, r1 = rows_ * (s + 1) / strips;
      const int h = static_cast<int>(r1 - r0);
      t.strips = 1;
      t.row = at<int64_t>(at_.rows) + r0;
      t.c_at = at<int64_t>(at_.partial_rows) + r0;
      t.start = accumulate ? sums + r0 * t.start_row : nullptr;
      x_ahead_.step(), dy_ahead_.step();
      (c_.wide ? find_sum<T, true>(w, h) : find_sum<T, false>(w, h))(t);
    }
  }

  // Rows [r0, r1) of the cell, in runs of one stride.
  void finish(int64_t r0, int64_t r1) {
    const int64_t step = evaluated_rows(c_.group), block = block_rows(c_);
    for (int64_t r = r0; r < r1;) {
      select_block(r / block);
      const int64_t i = r % block, end = least(rows_, i + r1 - r);
      if (i >= end) {
        r += block - i;
        continue;
      }
      const int64_t run = lies_even() ? rows_ : channels_;
      const int64_t n = least(least(run - i % run, end - i), step);
      add_chunks(sums_of_block(r / block), i, n);
      finish_rows(i, n);
      r += n;
    }
  }

  void add_chunks(const T* partial, int64_t r, int64_t rows) {
    T* sums = at<T>(at_.sums);
    const int64_t panel = c_.width * L;
    for (int64_t j = 0; j < cols_; j += panel) {
      const int64_t width = panel_width(j) * L;
      for (int64_t i = 0; i < rows; ++i) {
        const T* from = partial + j * block_rows(c_) + (r + i) * panel;
        for (int64_t v = 0; v < width; v += L) {
          Vec<T> s = load(from + v);
          for (int64_t chunk = 1; chunk < c_.chunks; ++chunk)
            s += load(from + v + chunk * cell_sums(c_));
          store(sums + i * c_.group + j + v, s);
        }
      }
    }
  }

  bool lies_even() const {
    for (int t = 0; t < call_.n_tensors; ++t) {
      if (t == c_.n_out || t == c_.n_out + 1) continue;
      const Strides s = filter_strides(call_.tensors[t]);
      int64_t n = c_.inner;
      if (channels_ != n) return false;
      const int64_t row = row_stride(s);
      for (int d = 2; d >= 0; n *= c_.axis[d].taps, --d) {
        if (c_.axis[d].taps > 1 && s.axis[d] != n * row) return false;
      }
    }
    return true;
  }

  int64_t row_stride(const Strides& s) const {
    if (channels_ > 1) return s.c;
    for (int d = 2; d >= 0; --d) {
      if (c_.axis[d].taps > 1) return s.axis[d];
    }
    return 0;
  }

  Operand view(const Tensor& t, int64_t r) const {
    const Strides s = filter_strides(t);
    int64_t at = (group_ * c_.cols + j0_) * s.k + (channel_ + r % channels_) * s.c;
    int64_t tap = r / channels_;
    for (int d = 2; d >= 0; tap /= c_.axis[d].taps, --d) at += tap % c_.axis[d].taps * s.axis[d];
    return {t.data + at * size_of(t.dtype), t.dtype, row_stride(s), s.k};
  }

  void finish_rows(int64_t r, int64_t rows) {
    T* sums = at<T>(at_.sums);
    if (!c_.evaluates) {
      const Operand out = view(call_.tensors[0], r);
      scatter_block(sums, c_.group, rows, cols_, reinterpret_cast<T*>(out.data), out.row_stride,
                    out.col_stride);
      return;
    }
    Operand out[kMaxOutputs], in[kMaxValues];
    in[0] = {reinterpret_cast<char*>(sums), c_.dtype, c_.group, 1};
    for (int x = 0; x < c_.n_out; ++x) out[x] = view(call_.tensors[x], r);
    for (int x = 1; x < c_.expression.n_in; ++x) in[x] = view(call_.tensors[c_.n_out + 1 + x], r);
    evaluate(c_.expression, rows, cols_, out, in, at<T>(at_.registers));
  }

  const Call& call_;
  const Conv& c_;
  const Layout at_;
  char* scratch_;
  const T *x_, *dy_;
  Strides in_, dy_strides_;
  int64_t pixel_;
  int64_t cell_ = -1, group_ = 0, j0_ = 0, cols_ = 0;
  int64_t cell_channel_ = 0, channel_ = 0, channels_ = 0, rows_ = 0;  // of the block
  Reach reach_;
  Box box_{}, table_{};  // now, and of which the pixels are in a table
  Ahead x_ahead_, dy_ahead_;
  T* partial_ = nullptr;
};

template <class T>
void run_parts(const Call& call, const Conv& c, int phase, int64_t begin, int64_t end,
               char* scratch) {
  FilterGradient<T> work(call, c, scratch);
  for (int64_t i = begin; i < end; ++i) {
    if (phase == 0) {
      work.sum_part(i);
    } else {
      work.finish_part(i);
    }
  }
}

}  // namespace

const char* plan_conv_filter_grad(const Call& call, Work& work) {
  if (const char* wrong = check_conv(call, Task::filter_grad)) return wrong;
  Conv c{};
  read_conv(call, Task::filter_grad, c);
  work.outputs = c.n_out;
  work.prepared_bytes = sizeof c;
  if (call.prepared) std::memcpy(call.prepared, &c, sizeof c);
  const int64_t cells = conv_cells(c), size = size_of(c.dtype);
  work.parts[0] = most(1, cells * c.chunks);
  if (c.chunks > 1) {
    work.phases = 2;
    work.parts[1] = most(1, cells * finish_parts(c));
    work.shared_bytes = cells * c.chunks * cell_sums(c) * size;
  }
  work.scratch_bytes = c.dtype == DType::f32 ? lay_out<float>(c).total : lay_out<double>(c).total;
  count_cost(call, c, work);
  return nullptr;
}

void run_conv_filter_grad(const Call& call, int phase, int64_t begin, int64_t end, char* scratch) {
  Conv c;
  if (call.prepared) {
    std::memcpy(&c, call.prepared, sizeof c);
  } else {
    c = Conv{};
    read_conv(call, Task::filter_grad, c);
  }
  if (conv_cells(c) == 0) return;
  if (c.dtype == DType::f32) {
    run_parts<float>(call, c, phase, begin, end, scratch);
  } else {
    run_parts<double>(call, c, phase, begin, end, scratch);
  }
}

}  // namespace dl::DL_LEVEL
