// Where a box of output pixels finds its inputs: in place, or in a copy with the padding around it.
//
// The copy is made when a box would read outside the image, when channels are not neighbours, or
// when columns need their channels repeated. It costs one move for taps x columns multiply-adds.
#pragma once

#include "cpu/kernels/conv_plan.h"
#include "cpu/kernels/gemm_pack.h"

namespace dl::DL_LEVEL {

// Input of output pixel (n, p, q) of the box at tap (f, r, s): first + n * image +
// p * out_step[1] + q * out_step[2] + f * tap_step[0] + r * tap_step[1] + s * tap_step[2].
struct Reach {
  bool windowed;
  bool taps_only[3];  // a single output along the axis: only its taps are copied
  int64_t extent[3];  // of the window
  int64_t step[3];    // between neighbours along an axis
  int64_t out_step[3], tap_step[3], image;
};

inline Reach find_reach(const Conv& c, const ConvAxis (&axis)[3], const Strides& in,
                        int64_t pixel) {
  Reach r{};
  r.windowed = c.windowed;
  const int64_t outputs[3] = {1, c.box_rows, c.box_cols};
  int64_t step = pixel;
  for (int d = 2; d >= 0; --d) {
    const ConvAxis& a = axis[d];
    r.taps_only[d] = outputs[d] == 1;
    r.extent[d] = r.taps_only[d]
                      ? a.taps
                      : (outputs[d] - 1) * a.stride + most(0, a.taps - 1) * a.dilation + 1;
    r.step[d] = c.windowed ? step : in.axis[d];
    r.out_step[d] = r.step[d] * a.stride;
    r.tap_step[d] = r.step[d] * (c.windowed && r.taps_only[d] ? 1 : a.dilation);
    step *= r.extent[d];
  }
  r.image = c.windowed ? step : in.n;
  return r;
}

// Box i of a result of axis[..].out pixels; empty where the cut was made for a larger one.
inline Box find_box(const Conv& c, const ConvAxis (&axis)[3], int64_t i) {
  Box b{};
  auto slice = [](int64_t size, int64_t k, int64_t n, int64_t& first, int64_t& count) {
    first = size * k / n;
    count = size * (k + 1) / n - first;
  };
  slice(axis[2].out, i % c.boxes[3], c.boxes[3], b.q, b.cols), i /= c.boxes[3];
  slice(axis[1].out, i % c.boxes[2], c.boxes[2], b.p, b.rows), i /= c.boxes[2];
  b.o = i % c.boxes[1], i /= c.boxes[1];
  slice(c.batch, i, c.boxes[0], b.n, b.images);
  return b;
}

// Which channels of a pixel are copied, and to where: runs of `count` (the last may be shorter), so
// that all of them are read while their lines are there. Element j of run r is channel
// (first + j) / repeat * stride + r * begin.
struct Channels {
  int64_t first, total;  // of all runs
  int64_t count;         // of a run
  int64_t stride, begin, repeat;
  int64_t run_step;    // between runs of the copy
  bool apart = false;  // every run is a window of its own

  int64_t windows() const { return apart ? ceil_div(total, count) : 1; }
};

// The lanes of v with every R of them replaced by their r-th.
template <class T, int R, int r, int... lane>
inline Vec<T> spread(Vec<T> v, std::integer_sequence<int, lane...>) {
  return __builtin_shufflevector(v, v, (lane / R * R + r)...);
}

// Runs of n pixels, of whole vectors of columns that read as many neighbours as they are.
template <class T, int R, int... r>
void spread_vectors(const T* x, int64_t step, int64_t n, int64_t cols, T* y, int64_t pixel,
                    int64_t run_step, std::integer_sequence<int, r...>) {
  constexpr auto kAll = std::make_integer_sequence<int, kLanes<T>>();
  for (int64_t i = 0; i < n; ++i, x += step, y += pixel) {
    for (int64_t j = 0; j < cols; j += kLanes<T>) {
      const Vec<T> v = load(x + j);
      (store(y + r * run_step + j, spread<T, R, r>(v, kAll)), ...);
    }
  }
}

// Every channel R times.
template <class T, int R, int... lane>
void repeat_vectors(const T* x, int64_t step, int64_t n, int64_t cols, T* y, int64_t pixel,
                    std::integer_sequence<int, lane...>) {
  for (int64_t i = 0; i < n; ++i, x += step, y += pixel) {
    for (int64_t j = 0; j < cols; j += kLanes<T>) {
      Vec<T> v{};
      std::memcpy(&v, x + j / R, sizeof v / R);
      store(y + j, Vec<T>(__builtin_shufflevector(v, v, (lane / R)...)));
    }
  }
}

template <class T, int R>
bool spread_groups(const T* x, int64_t step, int64_t n, const Channels& ch, T* y, int64_t pixel) {
  if constexpr (R < kLanes<T>) {
    if (ch.repeat != R) return false;
    if (ch.stride == 1) {
      repeat_vectors<T, R>(x + ch.first / R, step, n, ch.count, y, pixel,
                           std::make_integer_sequence<int, kLanes<T>>());
    } else {
      spread_vectors<T, R>(x + ch.first, step, n, ch.count, y, pixel, ch.run_step,
                           std::make_integer_sequence<int, R>());
    }
    return true;
  }
  return false;
}

// Columns that share channels.
template <class T>
void spread_pixels(const T* x, int64_t step, int64_t channel, int64_t n, const Channels& ch, T* y,
                   int64_t pixel) {
  const bool even = ch.stride == ch.repeat || ch.stride == 1;
  const bool regular = even && ch.total == ch.stride * ch.count;
  if (regular && channel == 1 && ch.first % kLanes<T> == 0 && ch.count % kLanes<T> == 0) {
    if (spread_groups<T, 2>(x, step, n, ch, y, pixel)) return;
    if (spread_groups<T, 4>(x, step, n, ch, y, pixel)) return;
    if (spread_groups<T, 8>(x, step, n, ch, y, pixel)) return;
  }
  for (int64_t i = 0; i < n; ++i, x += step, y += pixel) {
    for (int64_t r = 0; r * ch.count < ch.total; ++r) {
      for (int64_t j = 0; j < ch.count; ++j)
        y[r * ch.run_step + j] =
            x[((ch.first + j) / ch.repeat * ch.stride + r * ch.begin) * channel];
    }
  }
}

// Copies n pixels, `step` elements apart.
template <class T>
void copy_pixels(const T* x, int64_t step, int64_t channel, int64_t n, const Channels& ch, T* y,
                 int64_t pixel) {
  if (ch.repeat > 1) return spread_pixels(x, step, channel, n, ch, y, pixel);
  const int64_t col = ch.stride * channel;
  const T* from = x + ch.first * col;
  for (int64_t done = 0; done < ch.total; done += ch.count) {
    const int64_t count = least(ch.count, ch.total - done);
    if ((col == 1 || count == 1) && step == count && pixel == count) {
      copy_run(y, from, n * count);
    } else {
      gather_block(from, step, col, n, count, y, pixel);
    }
    from += ch.begin * channel, y += ch.run_step;
  }
}

template <class T>
void fill_zero(T* y, int64_t n) {
  constexpr int64_t L = kLanes<T>;
  int64_t i = 0;
  for (; i + L <= n; i += L) store(y + i, Vec<T>{});
  for (; i < n; ++i) y[i] = 0;
}

// Steps of a walk over the inputs first, first + step, ... (`count` of them) that lie in [0, size).
struct Inside {
  int64_t begin, end;
};

inline Inside inside(int64_t first, int64_t step, int64_t count, int64_t size) {
  const int64_t begin = first < 0 ? least(count, ceil_div(-first, step)) : 0;
  const int64_t end = first < size ? least(count, (size - 1 - first) / step + 1) : 0;
  return {begin, most(begin, end)};
}

template <class T>
class Window {
 public:
  Window(const ConvAxis (&axis)[3], const Strides& in, const Reach& reach, int64_t pixel)
      : axis_(axis), in_(in), reach_(reach), pixel_(pixel) {}

  // What the box's output (0, 0, 0) reads at tap (0, 0, 0) of an x in place.
  const T* in_place(const T* x, const Box& b) const {
    const int64_t at[3] = {b.o, b.p, b.q};
    x += b.n * in_.n;
    for (int d = 0; d < 3; ++d) x += (at[d] * axis_[d].stride - axis_[d].pad) * in_.axis[d];
    return x;
  }

  void fill(const T* x, const Box& b, const Channels& channels, T* window) const {
    const Walk depth = walk(0, b.o, 1), rows = walk(1, b.p, b.rows), cols = walk(2, b.q, b.cols);
    const Inside valid = inside(cols.first, cols.step, cols.count, axis_[2].in);
    for (int64_t n = 0; n < b.images; ++n) {
      for (int64_t f = 0; f < depth.count; ++f) {
        for (int64_t r = 0; r < rows.count; ++r) {
          const int64_t d = depth.first + f * depth.step, h = rows.first + r * rows.step;
          const bool outside = d < 0 || d >= axis_[0].in || h < 0 || h >= axis_[1].in;
          T* y = window + n * reach_.image + f * reach_.step[0] + r * reach_.step[1];
          if (outside) {
            fill_pixels(y, channels, cols.count);
          } else {
            fill_row(x + (b.n + n) * in_.n + d * in_.axis[0] + h * in_.axis[1], cols, valid,
                     channels, y);
          }
        }
      }
    }
  }

 private:
  struct Walk {
    int64_t first, step, count;
  };

  Walk walk(int d, int64_t at, int64_t outputs) const {
    const ConvAxis& a = axis_[d];
    const int64_t first = at * a.stride - a.pad;
    if (reach_.taps_only[d]) return {first, a.dilation, a.taps};
    return {first, 1, (outputs - 1) * a.stride + (a.taps - 1) * a.dilation + 1};
  }

  void fill_row(const T* x, const Walk& cols, const Inside& valid, const Channels& channels,
                T* y) const {
    fill_pixels(y, channels, valid.begin);
    if (valid.begin < valid.end) {
      copy_pixels(x + (cols.first + valid.begin * cols.step) * in_.axis[2], cols.step * in_.axis[2],
                  in_.c, valid.end - valid.begin, channels, y + valid.begin * pixel_, pixel_);
    }
    fill_pixels(y + valid.end * pixel_, channels, cols.count - valid.end);
  }

  void fill_pixels(T* y, const Channels& channels, int64_t n) const {
    for (int64_t i = 0; n > 0 && i < channels.windows(); ++i)
      fill_zero(y + i * channels.run_step, n * pixel_);
  }

  const ConvAxis (&axis_)[3];
  const Strides& in_;
  const Reach& reach_;
  const int64_t pixel_;
};

// Lines that the next box will read arrive in L2 while this one is worked on, some at every tile:
// the first `width` of every `step` bytes.
class Ahead {
 public:
  Ahead() = default;
  Ahead(const void* begin, const void* end, int64_t tiles, int64_t step = kLine,
        int64_t width = kLine)
      : at_(static_cast<const char*>(begin)),
        end_(static_cast<const char*>(end)),
        step_(step),
        width_(width) {
    each_ = step * ceil_div(end_ - at_, step * most(1, tiles));
  }

  void step(int64_t tiles = 1) {
    if (at_ >= end_) return;
    const char* stop = tiles * each_ < end_ - at_ ? at_ + tiles * each_ : end_;
    for (int64_t i = 0; i < width_; i += kLine) {
      for (const char* line = at_; line < stop; line += step_) __builtin_prefetch(line + i, 0, 2);
    }
    at_ = stop;
  }

 private:
  static constexpr int64_t kLine = 64;
  const char *at_ = nullptr, *end_ = nullptr;
  int64_t each_ = 0, step_ = 0, width_ = 0;
};

// Of pixels [begin, end): whole, or `count` of their `pixel` elements, from `first` on, if few.
template <class T>
Ahead fetch_pixels(const T* begin, const T* end, int64_t pixel, int64_t first, int64_t count,
                   int64_t tiles) {
  constexpr int64_t kSize = sizeof(T);
  if (2 * count >= pixel) return {begin, end, tiles};
  return {begin + first, end, tiles, pixel * kSize, count * kSize};
}

// Where the rows that a box reads begin and end, whole images if it has several.
struct Rows {
  int64_t begin, end;
};

inline Rows input_rows(const ConvAxis (&axis)[3], const Strides& in, const Box& b) {
  int64_t first[2], last[2];
  const int64_t at[2] = {b.o, b.p}, outputs[2] = {1, b.rows};
  for (int d = 0; d < 2; ++d) {
    const ConvAxis& a = axis[d];
    first[d] = least(most(0, at[d] * a.stride - a.pad), a.in);
    const int64_t reach = (outputs[d] - 1) * a.stride + most(0, a.taps - 1) * a.dilation;
    last[d] = least(most(first[d], at[d] * a.stride - a.pad + reach + 1), a.in);
  }
  return {b.n * in.n + first[0] * in.axis[0] + first[1] * in.axis[1],
          (b.n + b.images - 1) * in.n + most(first[0], last[0] - 1) * in.axis[0] +
              last[1] * in.axis[1]};
}

// Taps [r0, r1) x [s0, s1) of an output lie inside the image; the others add nothing.
struct TapRange {
  int64_t r0, r1, s0, s1;
};

inline Inside valid_taps(const ConvAxis& a, int64_t output) {
  return inside(output * a.stride - a.pad, a.dilation, a.taps, a.in);
}

// A box whose table of pixels serves b as well, whose rows or images may be fewer than of others.
inline Box table_box(const Conv& c, const Box& b) {
  Box t = b;
  if (b.images == 1) {
    t.rows = most(b.rows, c.box_rows);
  } else {
    t.images = most(b.images, c.box_images);
  }
  return t;
}

// Does the table made for t begin with that of b?
inline bool serves(const Box& t, const Box& b) {
  if (t.cols != b.cols) return false;
  return b.images == 1 ? b.rows <= t.rows : b.rows == t.rows && b.images <= t.images;
}

// What columns [j0, j0 + cols) of Conv::wide read.
inline Channels wide_channels(const Conv& c, int64_t j0, int64_t cols) {
  return {j0, cols * c.inner, cols, c.inner, 1, c.repeat, c.group};
}
inline int64_t wide_first(const Conv& c, int64_t j0) { return j0 / c.repeat * c.inner; }
inline int64_t wide_count(const Conv& c) { return ceil_div(c.group, c.repeat) * c.inner; }

// Calls visit(i, n, p, q) for the box's pixels in the order of its tiles, i being the place in rows
// of pixels. Columns at the edges come last, one after the other, so that the pixels of a tile miss
// the same taps.
template <class F>
void each_pixel(const ConvAxis (&axis)[3], const Box& b, bool edges_last, F visit) {
  int64_t q0 = 0, q1 = b.cols;
  if (edges_last) {
    const auto full = [&](int64_t q) {
      const Inside taps = valid_taps(axis[2], b.q + q);
      return taps.begin == 0 && taps.end == axis[2].taps;
    };
    while (q0 < b.cols && !full(q0)) ++q0;
    q1 = q0;
    while (q1 < b.cols && full(q1)) ++q1;
  }
  const auto columns = [&](int64_t from, int64_t to) {
    for (int64_t row = 0; row < b.images * b.rows; ++row) {
      for (int64_t q = from; q < to; ++q) visit(row * b.cols + q, row / b.rows, row % b.rows, q);
    }
  };
  columns(q0, q1);
  for (int64_t q = 0; q < b.cols; ++q) {
    if (q < q0 || q >= q1) columns(q, q + 1);
  }
}

// Offsets of `inner` products of every tap.
inline void tap_offsets(const Reach& r, const ConvAxis (&axis)[3], int64_t inner,
                        int64_t inner_step, int64_t* at) {
  for (int64_t f = 0; f < axis[0].taps; ++f) {
    for (int64_t h = 0; h < axis[1].taps; ++h) {
      for (int64_t w = 0; w < axis[2].taps; ++w) {
        for (int64_t i = 0; i < inner; ++i)
          *at++ = f * r.tap_step[0] + h * r.tap_step[1] + w * r.tap_step[2] + i * inner_step;
      }
    }
  }
}

}  // namespace dl::DL_LEVEL
