// y = f(conv(x, w), extra inputs...), and dx = f(sum over taps of dy w, extra inputs...), which is
// the forward pass of transposed convolution too. 1 to 3 axes, any strides, dilations, padding and
// groups.
//
//   for each group of columns, run of a few boxes, phase of the strides (input gradient)
//                                                                         filters -> panels
//     for each box of about 256 output pixels                             inputs -> window, in L2
//       for each panel of w                                               2 or 3 vectors wide
//         for each 320 products                                           w's share stays in L1
//           for each register tile of pixels, neighbours in the box       sums in registers
//
// Nothing is unrolled into columns: a tile adds an offset for its pixel and an offset for the
// filter element (conv_tile.h). Without padding x is read in place, and so is w where its columns
// are whole vectors and its rows not far apart. Products with padding are left out where many.
#include "cpu/kernels/conv_depthwise.h"
#include "cpu/kernels/conv_filters.h"
#include "cpu/kernels/conv_strips.h"
#include "cpu/kernels/conv_winograd.h"
#include "cpu/kernels/level.h"

namespace dl::DL_LEVEL {

namespace {

// How scratch is laid out, in bytes.
struct Layout {
  int64_t pixels, result, extra, ranges, partial_rows, taps;
  int64_t panels, window, partial, sums, registers, total;
};

template <class T>
Layout lay_out(const Conv& c) {
  Layout at{};
  Room room;
  const int64_t pixels = box_pixels(c);
  const bool stepped = c.channel_step < c.inner, waits = stepped || c.skips || c.k_most > c.k_step;
  at.pixels = room.take<int64_t>(pixels);
  at.result = room.take<int64_t>(pixels);
  at.extra = room.take<int64_t>(c.store == Store::relu_grad ? pixels : 0);
  at.ranges = room.take<TapRange>(c.skips ? pixels : 0);
  at.partial_rows = room.take<int64_t>(waits ? pixels : 0);
  at.taps = room.take<int64_t>(c.k_most);
  at.panels = room.take<T>(c.packed ? c.k_most * c.group : 0);
  at.window = room.take<T>(c.window);
  at.partial = room.take<T>(!waits ? 0 : pixels * (stepped ? c.group : c.width * kLanes<T>));
  at.sums = room.take<T>(c.direct ? 0 : pixels * c.group);
  at.registers = room.take<T>(register_elements<T>(c, c.group));
  at.total = room.bytes;
  return at;
}

template <class T>
class Convolver {
 public:
  Convolver(const Call& call, const Conv& c, char* scratch)
      : call_(call), c_(c), at_(lay_out<T>(c)), scratch_(scratch) {
    const Tensor &x = call.tensors[c.n_out], &w = call.tensors[c.n_out + 1];
    x_ = x.as<const T>(), in_ = image_strides(x);
    w_ = w.as<const T>(), filter_ = filter_strides(w);
    pixel_ = c.wide ? c.inner * c.group : c.channel_step;
  }

  void part(int64_t index) {
    const ConvPart part = find_part(c_, index);
    if (part.cell != cell_) begin_cell(cell_ = part.cell);
    const Box b = find_box(c_, axis_, part.box);
    ahead_ = {};
    if (part.box + 1 < box_count(c_)) look_ahead(b, find_box(c_, axis_, part.box + 1));
    if (b.o < axis_[0].out && b.images * b.rows * b.cols > 0) box(b);
  }

 private:
  static constexpr int64_t L = kLanes<T>;

  template <class E>
  E* at(int64_t offset) const {
    return reinterpret_cast<E*>(scratch_ + offset);
  }

  void begin_cell(int64_t cell) {
    const int64_t col_parts = ceil_div(c_.cols, c_.group);
    j0_ = cell % col_parts * c_.group, cell /= col_parts;
    cols_ = least(c_.group, c_.cols - j0_);
    group_ = cell % c_.groups, cell /= c_.groups;
    for (int d = 2; d >= 0; --d) {
      phase_[d] = c_.task == Task::input_grad ? gradient_phase(c_.axis[d], cell % c_.phases[d])
                                              : forward_phase(c_.axis[d]);
      cell /= c_.phases[d];
      axis_[d] = phase_[d].axis;
    }
    taps_ = axis_[0].taps * axis_[1].taps * axis_[2].taps;
    reach_ = find_reach(c_, axis_, in_, pixel_);
    table_ = Box{};
    if (c_.channel_step >= c_.inner) set_channels(0);
    if (c_.evaluates) prepare(c_.expression, evaluated_rows(c_.group), cols_, at<T>(at_.registers));
  }

  // The products of channels [first, first + channel_step), by taps.
  void set_channels(int64_t first) {
    channel_ = first;
    channels_ = least(c_.channel_step, c_.inner - first);
    k_ = taps_ * channels_;
    if (c_.dots) {
      tap_offsets(reach_, axis_, 1, 0, at<int64_t>(at_.taps));
      pack_dots(phase_, filter_, filters(), c_.inner, cols_, at<T>(at_.panels));
      return;
    }
    const int64_t step = !c_.windowed ? in_.c : c_.wide ? c_.group : 1;
    tap_offsets(reach_, axis_, channels_, step, at<int64_t>(at_.taps));
    if (c_.packed)
      pack_filters(phase_, filter_, filters(), channels_, cols_, c_.width, at<T>(at_.panels));
  }

  // Rows of w are products, columns are outputs; both steps depend on the direction.
  FilterView<T> filters() const {
    const bool back = c_.task == Task::input_grad;
    const int64_t row = back ? filter_.k : filter_.c;
    const int64_t col = back ? filter_.c : filter_.k, group = c_.inner * filter_.k;
    const T* first = w_ + group_ * (back ? c_.inner : c_.cols) * filter_.k;
    if (!c_.wide || !back) return {first + j0_ * col + channel_ * row, row, col};
    if (c_.repeat == 1) return {first + j0_ * group, row, group};
    return {first, row, col, j0_, c_.repeat, group};
  }

  void dots(const T* x) {
    const int n = static_cast<int>(cols_);
    SumTile<T> t{};
    t.a = x;
    t.col = at<int64_t>(at_.taps), t.k = taps_;
    t.b = at<T>(at_.panels), t.b_row = channels_ * cols_;
    t.c = c_.direct ? address(call_.tensors[0], 0, 0, 0) : at<T>(at_.sums);
    t.c_at = at<int64_t>(at_.result);
    strips().run(t, dot_height(n), {}, [n](int h) { return find_dot<T>(n, h); });
  }

  int64_t panel_width(int64_t j) const { return least(c_.width, ceil_div(cols_ - j, L)); }

  void box(const Box& b) {
    if (c_.skips) {  // taps depend on the place
      set_tables(b);
    } else if (!serves(table_, b)) {
      set_tables(table_ = table_box(c_, b));
    }
    box_ = b;
    for (int64_t first = 0; first == 0 || first < c_.inner; first += c_.channel_step) {
      if (c_.channel_step < c_.inner) set_channels(first);
      if (c_.dots) {
        dots(source());
        break;
      }
      panels(source(), first == 0, first + c_.channel_step >= c_.inner);
    }
    if (!c_.direct) finish();
  }

  void look_ahead(const Box& b, const Box& next) {
    const Rows now = input_rows(axis_, in_, b), then = input_rows(axis_, in_, next);
    const int64_t tiles =
        ceil_div(box_pixels(c_), sum_height(c_.width)) * ceil_div(cols_, c_.width * L);
    const int64_t begin = next.n == b.n ? most(now.end, then.begin) : then.begin;
    ahead_ = fetch_pixels(x_ + begin, x_ + then.end, in_.axis[2],
                          c_.wide ? wide_first(c_, j0_) : group_ * c_.inner,
                          c_.wide ? wide_count(c_) : c_.channel_step, tiles);
  }

  // Offsets of the box's pixels, in the order of its tiles.
  void set_tables(const Box& b) {
    const Tensor& out = call_.tensors[0];
    const Strides y = image_strides(out);
    const Strides extra = c_.store == Store::relu_grad ? image_strides(call_.tensors[c_.extra]) : y;
    int64_t* next[] = {at<int64_t>(at_.pixels), at<int64_t>(at_.result), at<int64_t>(at_.extra)};
    TapRange* range = at<TapRange>(at_.ranges);
    each_pixel(axis_, b, c_.skips, [&](int64_t i, int64_t n, int64_t p, int64_t q) {
      *next[0]++ = n * reach_.image + p * reach_.out_step[1] + q * reach_.out_step[2];
      *next[1]++ = c_.direct ? result_offset(y, n, p, q) : i * c_.group;
      if (c_.store == Store::relu_grad) *next[2]++ = result_offset(extra, n, p, q);
      if (!c_.skips) return;
      const Inside r = valid_taps(axis_[1], b.p + p), s = valid_taps(axis_[2], b.q + q);
      *range++ = {r.begin, r.end, s.begin, s.end};
    });
    for (int64_t i = 0; at_.taps > at_.partial_rows && i < box_pixels(c_); ++i)
      at<int64_t>(at_.partial_rows)[i] = i * c_.width * L;
  }

  int64_t result_offset(const Strides& s, int64_t n, int64_t p, int64_t q) const {
    return n * s.n + p * phase_[1].step * s.axis[1] + q * phase_[2].step * s.axis[2];
  }

  // What pixel 0 of the box reads at offset 0.
  const T* source() const {
    if (k_ == 0) return at<T>(at_.window);
    const Window<T> window(axis_, in_, reach_, pixel_);
    const int64_t first = group_ * c_.inner + channel_;
    if (!c_.windowed) return window.in_place(x_, box_) + (c_.wide ? j0_ : first) * in_.c;
    const Channels narrow{first, channels_, channels_, 1, 0, 1, 0};
    window.fill(x_, box_, c_.wide ? wide_channels(c_, j0_, cols_) : narrow, at<T>(at_.window));
    return at<T>(at_.window);
  }

  void panels(const T* x, bool first, bool last) {
    const int64_t steps = most(1, ceil_div(k_, c_.k_step));
    const int64_t waiting = c_.width * L;
    const bool stepped = c_.channel_step < c_.inner;
    for (int64_t j = 0; j < cols_; j += c_.width * L) {
      const int64_t w = panel_width(j);
      T* partial = at<T>(at_.partial) + (stepped ? j * box_pixels(c_) : 0);
      for (int64_t s = 0; s < steps; ++s) {
        const int64_t k0 = k_ * s / steps, k1 = k_ * (s + 1) / steps;
        SumTile<T> t{};
        t.a = c_.wide ? x + j : x;
        t.col = at<int64_t>(at_.taps) + k0, t.k = k1 - k0;
        t.b_row = c_.packed ? w * L : filter_row();
        t.b = (c_.packed ? at<T>(at_.panels) + j * k_ : w_ + group_ * c_.cols + j0_ + j) +
              k0 * t.b_row;
        t.start = first && s == 0 ? nullptr : partial;
        t.start_row = waiting;
        t.c = partial, t.c_at = at<int64_t>(at_.partial_rows);
        if (last && s == steps - 1) set_result(t, j);
        const int width = static_cast<int>(w);
        const typename Strips<T>::Sums sums{k0, first, last && s == steps - 1, partial};
        strips().run(t, sum_height(width), sums, [&](int h) {
          return c_.wide ? find_sum<T, true>(width, h) : find_sum<T, false>(width, h);
        });
      }
    }
  }

  // Between rows of w in place, which has one stride for taps and channels.
  int64_t filter_row() const {
    if (c_.inner > 1) return filter_.c;
    for (int d = 2; d >= 0; --d) {
      if (axis_[d].taps > 1) return filter_.axis[d];
    }
    return 0;
  }

  void set_result(SumTile<T>& t, int64_t j) const {
    t.c_at = at<int64_t>(at_.result);
    if (!c_.direct) {
      t.c = at<T>(at_.sums) + j;
      return;
    }
    t.c = address(call_.tensors[0], 0, 0, j);
    t.store = c_.store;
    if (c_.store == Store::plain) return;
    const Tensor& x = call_.tensors[c_.extra];
    t.extra =
        c_.store == Store::relu_grad ? address(x, 0, 0, j) : x.as<T>() + group_ * c_.cols + j0_ + j;
    t.extra_at = at<int64_t>(at_.extra);
  }

  // Of pixel 0 in row p of image n of the box, column j of the group, in a result or extra input.
  T* address(const Tensor& t, int64_t n, int64_t p, int64_t j) const {
    return t.as<T>() + position(t, n, p, j);
  }

  int64_t position(const Tensor& t, int64_t n, int64_t p, int64_t j) const {
    const Strides s = image_strides(t);
    const int64_t pixel[3] = {box_.o, box_.p + p, box_.q};
    int64_t at = (box_.n + n) * s.n + (group_ * c_.cols + j0_ + j) * s.c;
    for (int d = 0; d < 3; ++d) at += (phase_[d].first + pixel[d] * phase_[d].step) * s.axis[d];
    return at;
  }

  Strips<T> strips() {
    return {c_,
            axis_,
            channels_,
            box_.images * box_.rows * box_.cols,
            at<int64_t>(at_.pixels),
            at<int64_t>(at_.partial_rows),
            at<TapRange>(at_.ranges),
            ahead_};
  }

  // Sums of the box are in scratch; pixels that lie at one distance in every operand go together.
  void finish() {
    const T* sums = at<T>(at_.sums);
    const int64_t run = lies_even() ? box_.images * box_.rows * box_.cols : box_.cols;
    for (int64_t n = 0, done = 0; n < box_.images; ++n) {
      for (int64_t p = 0; p < box_.rows; ++p, done += box_.cols) {
        if (run > box_.cols && done > 0) return;
        finish_run(sums + done * c_.group, n, p, run);
      }
    }
  }

  bool lies_even() const {
    for (int t = 0; t < call_.n_tensors; ++t) {
      if (t == c_.n_out || t == c_.n_out + 1) continue;
      const Strides s = image_strides(call_.tensors[t]);
      const int64_t row = s.axis[1] * phase_[1].step, col = s.axis[2] * phase_[2].step;
      if (box_.rows > 1 && row != box_.cols * col) return false;
      if (box_.images > 1 && s.n != box_.rows * box_.cols * col) return false;
    }
    return true;
  }

  Operand view(const Tensor& t, int64_t n, int64_t p, int64_t pixel) const {
    const Strides s = image_strides(t);
    const int64_t row = s.axis[2] * phase_[2].step;
    return {t.data + (position(t, n, p, 0) + pixel * row) * size_of(t.dtype), t.dtype, row, s.c};
  }

  void finish_run(const T* sums, int64_t n, int64_t p, int64_t run) {
    if (!c_.evaluates) {
      const Operand out = view(call_.tensors[0], n, p, 0);
      scatter_block(sums, c_.group, run, cols_, reinterpret_cast<T*>(out.data), out.row_stride,
                    out.col_stride);
      return;
    }
    const int64_t step = evaluated_rows(c_.group);
    for (int64_t i = 0; i < run; i += step) {
      Operand out[kMaxOutputs], in[kMaxValues];
      in[0] = {reinterpret_cast<char*>(const_cast<T*>(sums + i * c_.group)), c_.dtype, c_.group, 1};
      for (int x = 0; x < c_.n_out; ++x) out[x] = view(call_.tensors[x], n, p, i);
      for (int x = 1; x < c_.expression.n_in; ++x)
        in[x] = view(call_.tensors[c_.n_out + 1 + x], n, p, i);
      evaluate(c_.expression, least(step, run - i), cols_, out, in, at<T>(at_.registers));
    }
  }

  const Call& call_;
  const Conv& c_;
  const Layout at_;
  char* scratch_;
  const T *x_, *w_;
  Strides in_, filter_;
  int64_t pixel_;  // elements of a pixel in the window
  int64_t cell_ = -1, group_ = 0, j0_ = 0, cols_ = 0;
  ConvPhase phase_[3];
  ConvAxis axis_[3];
  Reach reach_;
  int64_t taps_ = 0, channel_ = 0, channels_ = 0, k_ = 0;
  Box box_{}, table_{};  // now, and of which the pixels are in tables
  Ahead ahead_;
};

const char* plan(const Call& call, Task task, Work& work) {
  if (const char* wrong = check_conv(call, task)) return wrong;
  Conv c{};
  read_conv(call, task, c);
  work.outputs = c.n_out;
  work.prepared_bytes = sizeof c;
  if (call.prepared) std::memcpy(call.prepared, &c, sizeof c);
  count_cost(call, c, work);
  if (c.winograd) {
    plan_winograd(c, work);
    return nullptr;
  }
  if (c.depthwise) {
    plan_depthwise(c, work);
    return nullptr;
  }
  work.parts[0] = most(1, conv_cells(c) * box_count(c));
  work.scratch_bytes = c.dtype == DType::f32 ? lay_out<float>(c).total : lay_out<double>(c).total;
  return nullptr;
}

template <class T>
void run_parts(const Call& call, const Conv& c, int64_t begin, int64_t end, char* scratch) {
  Convolver<T> work(call, c, scratch);
  for (int64_t i = begin; i < end; ++i) work.part(i);
}

void run(const Call& call, Task task, int phase, int64_t begin, int64_t end, char* scratch) {
  Conv c;
  if (call.prepared) {
    std::memcpy(&c, call.prepared, sizeof c);
  } else {
    c = Conv{};
    read_conv(call, task, c);
  }
  if (c.winograd) return run_winograd(call, c, phase, begin, end, scratch);
  if (c.depthwise) return run_depthwise(call, c, begin, end, scratch);
  if (conv_cells(c) * box_count(c) == 0) return;
  if (c.dtype == DType::f32) {
    run_parts<float>(call, c, begin, end, scratch);
  } else {
    run_parts<double>(call, c, begin, end, scratch);
  }
}

}  // namespace

const char* plan_conv(const Call& call, Work& work) { return plan(call, Task::forward, work); }

void run_conv(const Call& call, int phase, int64_t begin, int64_t end, char* scratch) {
  run(call, Task::forward, phase, begin, end, scratch);
}

const char* plan_conv_input_grad(const Call& call, Work& work) {
  return plan(call, Task::input_grad, work);
}

void run_conv_input_grad(const Call& call, int phase, int64_t begin, int64_t end, char* scratch) {
  run(call, Task::input_grad, phase, begin, end, scratch);
}

}  // namespace dl::DL_LEVEL
