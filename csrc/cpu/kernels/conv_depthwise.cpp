// conv and conv_input_grad of depthwise convolutions: conv_depthwise.h.
//
//   for each block of rows, phase of the strides (input gradient), block of channels
//     for each line of up to 8 pixels
//       for each vector of channels              sums in registers, over all taps
#include "cpu/kernels/conv_depthwise.h"

#include "cpu/pack.h"

namespace dl::DL_LEVEL {

namespace {

constexpr int kPixels = 8;  // sums that hide the latency of the multiply-adders

template <class T>
struct LineSums {
  const T* x;                   // of the first pixel and tap
  int64_t pixel, x_row, x_col;  // between the inputs of pixels, and of taps
  const T* w;
  int64_t w_row, w_col;
  int64_t rows, cols;  // of taps
  int64_t channels;
  T* y;
  int64_t y_pixel, y_row;
  Store store;
  const T* extra;  // bias, or y of relu_grad
  int64_t extra_pixel;
  // What the line below will read first and write.
  const T *next_x, *next_y;
};

// One line of memory of every pixel, when the first of its vectors is worked on.
template <class T, int N>
DL_INLINE void prefetch_line(const T* x, int64_t pixel, int64_t c) {
  if (c % (64 / static_cast<int64_t>(sizeof(T)))) return;
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) __builtin_prefetch(x + i * pixel + c);
}

// Of n channels from c on.
template <class T, int N>
DL_INLINE void store_line(const LineSums<T>& t, int64_t c, int64_t n, Vec<T> (&sum)[N]) {
  const Vec<T> zero{};
  if (t.store == Store::bias || t.store == Store::bias_relu) {
    const Vec<T> b = load_some(t.extra + c, n);
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) sum[i] += b;
  }
  if (t.store == Store::bias_relu) {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) sum[i] = sum[i] < zero ? zero : sum[i];
  }
  if (t.store == Store::relu_grad) {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i)
      sum[i] = load_some(t.extra + i * t.extra_pixel + c, n) > zero ? sum[i] : zero;
  }
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) store_some(t.y + i * t.y_pixel + c, sum[i], n);
}

// Any taps.
template <class T, int N>
void sum_line(const LineSums<T>& line) {
  const LineSums<T> t = line;  // no store can change it
  for_vectors<T>(t.channels, [&](int64_t c, int64_t n) __attribute__((always_inline)) {
    Vec<T> sum[N] = {};
    for (int64_t r = 0; r < t.rows; ++r) {
      const T *x = t.x + r * t.x_row + c, *w = t.w + r * t.w_row + c;
      for (int64_t s = 0; s < t.cols; ++s, x += t.x_col, w += t.w_col) {
        const Vec<T> factor = load_some(w, n);
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) sum[i] += load_some(x + i * t.pixel, n) * factor;
      }
    }
    store_line<T, N>(t, c, n, sum);
  });
}

// A row of three taps as far apart as the pixels: an input is read once for the three of them.
template <class T, int N>
DL_INLINE void add_three(const LineSums<T>& t, const T* x, const T* w, int64_t n,
                         Vec<T> (&sum)[N]) {
  asm("" : "+r"(x), "+r"(w));  // or GCC keeps the distances from all rows, in memory
  const Vec<T> factor[] = {load_some(w, n), load_some(w + t.w_col, n),
                           load_some(w + 2 * t.w_col, n)};
#pragma GCC unroll 10
  for (int i = 0; i < N + 2; ++i) {
    const Vec<T> v = load_some(x + i * t.pixel, n);
#pragma GCC unroll 3
    for (int s = 0; s < 3; ++s) {
      if (i >= s && i - s < N) sum[i - s] += v * factor[s];
    }
  }
}

template <class T, int N>
void sum_line_of_three(const LineSums<T>& line) {
  const LineSums<T> t = line;
  for_vectors<T>(t.channels, [&](int64_t c, int64_t n) __attribute__((always_inline)) {
    prefetch_line<T, N>(t.next_x, t.pixel, c);
    prefetch_line<T, N>(t.next_y, t.y_pixel, c);
    Vec<T> sum[N] = {};
    const T *x = t.x + c, *w = t.w + c;
    if (t.rows == 3) {
#pragma GCC unroll 3
      for (int r = 0; r < 3; ++r) add_three<T, N>(t, x + r * t.x_row, w + r * t.w_row, n, sum);
    } else {
      for (int64_t r = 0; r < t.rows; ++r)
        add_three<T, N>(t, x + r * t.x_row, w + r * t.w_row, n, sum);
    }
    store_line<T, N>(t, c, n, sum);
  });
}

template <class T>
using LineFunction = void (*)(const LineSums<T>&);

template <class T>
LineFunction<T> find_line(const LineSums<T>& t, int64_t pixels) {
#define DL_LINES(f)                                                        \
  {                                                                        \
    f<T, 1>, f<T, 2>, f<T, 3>, f<T, 4>, f<T, 5>, f<T, 6>, f<T, 7>, f<T, 8> \
  }
  static constexpr LineFunction<T> kAny[kPixels] = DL_LINES(sum_line);
  static constexpr LineFunction<T> kThree[kPixels] = DL_LINES(sum_line_of_three);
#undef DL_LINES
  return (t.cols == 3 && t.x_col == t.pixel ? kThree : kAny)[pixels - 1];
}

template <class T>
int64_t register_bytes(const Conv& c) {
  if (!c.evaluates) return 0;
  return round_up(register_elements<T>(c.expression, kPixels, c.group) * int64_t{sizeof(T)}, 64);
}

template <class T>
int64_t line_bytes(const Conv& c) {
  return c.direct ? 0 : kPixels * c.group * int64_t{sizeof(T)};
}

template <class T>
class DepthwiseConvolver {
 public:
  DepthwiseConvolver(const Call& call, const Conv& c, char* scratch)
      : call_(call),
        c_(c),
        sums_(reinterpret_cast<T*>(scratch)),
        registers_(reinterpret_cast<T*>(scratch + line_bytes<T>(c))),
        in_(image_strides(call.tensors[c.n_out])),
        filter_(filter_strides(call.tensors[c.n_out + 1])) {}

  // Parts are numbered by block of rows, phase, block of channels: phases differ in their taps, so
  // every share has some of each.
  void part(int64_t index) {
    const int64_t blocks = c_.boxes[2], rows = c_.batch * largest_phase(c_, 1).out;
    const int64_t block = index / conv_cells(c_);
    begin_cell(index % conv_cells(c_));
    const int64_t P = largest_phase(c_, 1).out;
    each_image(P, rows * block / blocks, rows * (block + 1) / blocks,
               [&](int64_t n, int64_t p0, int64_t p1) {
                 each_line(axis_, n, p0, least(p1, axis_[1].out), kPixels,
                           [&](const Line& line) { sum(line); });
               });
  }

 private:
  void begin_cell(int64_t cell) {
    const int64_t col_parts = ceil_div(c_.cols, c_.group);
    j0_ = cell % col_parts * c_.group, cell /= col_parts;
    cols_ = least(c_.group, c_.cols - j0_);
    for (int d = 2; d >= 0; --d) {
      phase_[d] = c_.task == Task::input_grad ? gradient_phase(c_.axis[d], cell % c_.phases[d])
                                              : forward_phase(c_.axis[d]);
      cell /= c_.phases[d];
      axis_[d] = phase_[d].axis;
    }
    if (c_.evaluates) prepare(c_.expression, kPixels, cols_, registers_);
  }

  void sum(const Line& line) const {
    const ConvAxis &rows = axis_[1], &cols = axis_[2];
    const TapRange& taps = line.taps;
    const Tensor &x = call_.tensors[c_.n_out], &w = call_.tensors[c_.n_out + 1];
    LineSums<T> t{};
    t.rows = taps.r1 - taps.r0, t.cols = taps.s1 - taps.s0;
    t.channels = cols_;
    const int64_t h = line.p * rows.stride - rows.pad + taps.r0 * rows.dilation;
    const int64_t v = line.q * cols.stride - cols.pad + taps.s0 * cols.dilation;
    t.x = x.as<const T>() + line.n * in_.n + h * in_.axis[1] + v * in_.axis[2] + j0_;
    t.pixel = line.down ? rows.stride * in_.axis[1] : cols.stride * in_.axis[2];
    t.x_row = rows.dilation * in_.axis[1], t.x_col = cols.dilation * in_.axis[2];
    t.w = w.as<const T>() + filter_at(1, taps.r0) + filter_at(2, taps.s0) + j0_;
    t.w_row = phase_[1].filter_step * filter_.axis[1];
    t.w_col = phase_[2].filter_step * filter_.axis[2];
    t.y = sums_, t.y_pixel = c_.group;
    if (c_.direct) set_result(t, line);
    const int64_t below = line.down ? 0 : 1;
    t.next_x = t.x + below * ((t.rows - 1) * t.x_row + rows.stride * in_.axis[1]);
    t.next_y = t.y + below * t.y_row;
    find_line(t, line.pixels)(t);
    if (!c_.direct) finish(line);
  }

  int64_t filter_at(int d, int64_t tap) const {
    return (phase_[d].filter + tap * phase_[d].filter_step) * filter_.axis[d];
  }

  void set_result(LineSums<T>& t, const Line& line) const {
    const Tensor& y = call_.tensors[0];
    t.y = y.as<T>() + position(y, line), t.y_pixel = pixel_step(y, line);
    t.y_row = phase_[1].step * image_strides(y).axis[1];
    t.store = c_.store;
    if (c_.store == Store::plain) return;
    const Tensor& x = call_.tensors[c_.extra];
    const bool all = c_.store == Store::relu_grad;
    t.extra = x.as<const T>() + (all ? position(x, line) : j0_);
    t.extra_pixel = pixel_step(x, line);
  }

  // Of the line's first pixel in a result or extra input.
  int64_t position(const Tensor& t, const Line& line) const {
    const Strides s = image_strides(t);
    return line.n * s.n + phase_[0].first * s.axis[0] +
           (phase_[1].first + line.p * phase_[1].step) * s.axis[1] +
           (phase_[2].first + line.q * phase_[2].step) * s.axis[2] + j0_ * s.c;
  }

  int64_t pixel_step(const Tensor& t, const Line& line) const {
    const int d = line.down ? 1 : 2;
    return phase_[d].step * image_strides(t).axis[d];
  }

  void finish(const Line& line) const {
    const auto view = [&](const Tensor& t) {
      return Operand{t.data + position(t, line) * size_of(t.dtype), t.dtype, pixel_step(t, line),
                     image_strides(t).c};
    };
    Operand out[kMaxOutputs], in[kMaxValues];
    in[0] = {reinterpret_cast<char*>(sums_), c_.dtype, c_.group, 1};
    for (int i = 0; i < c_.n_out; ++i) out[i] = view(call_.tensors[i]);
    for (int i = 1; i < c_.expression.n_in; ++i) in[i] = view(call_.tensors[c_.n_out + 1 + i]);
    evaluate(c_.expression, line.pixels, cols_, out, in, registers_);
  }

  const Call& call_;
  const Conv& c_;
  T *sums_, *registers_;
  Strides in_, filter_;
  ConvPhase phase_[3];
  ConvAxis axis_[3];
  int64_t j0_ = 0, cols_ = 0;
};

template <class T>
void run_parts(const Call& call, const Conv& c, int64_t begin, int64_t end, char* scratch) {
  DepthwiseConvolver<T> work(call, c, scratch);
  for (int64_t i = begin; i < end; ++i) work.part(i);
}

}  // namespace

void plan_depthwise(const Conv& c, Work& work) {
  work.parts[0] = most(1, conv_cells(c) * c.boxes[2]);
  work.scratch_bytes = c.dtype == DType::f32 ? line_bytes<float>(c) + register_bytes<float>(c)
                                             : line_bytes<double>(c) + register_bytes<double>(c);
}

void run_depthwise(const Call& call, const Conv& c, int64_t begin, int64_t end, char* scratch) {
  if (conv_cells(c) * c.boxes[2] == 0) return;
  if (c.dtype == DType::f32) {
    run_parts<float>(call, c, begin, end, scratch);
  } else {
    run_parts<double>(call, c, begin, end, scratch);
  }
}

}  // namespace dl::DL_LEVEL
