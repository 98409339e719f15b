// affine_sample: every pixel of out is x read at the place that the matrix of its image names.
//
//   column = m0 j + m1 i + m2, row = m3 j + m4 i + m5    for the pixel (i, j) of out (N, P, Q, C)
//   nearest   out[i, j] = x[round(row), round(column)]
//   bilinear  out[i, j] = the four neighbours weighted by the fractions of row and column
//
// Shifts, flips, crops, rotations and zooms are matrices, and a batch has one for each image.
// Pixels outside x are the fill value, or found by the fill mode:
//
//   nearest a a | a b c | c c      reflect b a | a b c | c b
//   wrap    b c | a b c | a b      mirror  c b | a b c | b a
//
// Places are fixed-point numbers of 32 fraction bits, whose sums are exact: dlcore/ops/sampling.py
// reads the very same pixels, and a shift by whole pixels only copies. affine_sample_grad adds dy
// to the pixels that were read, image by image in the order of the pixels.
#include "common/affine_sample.h"
#include "cpu/kernels/level.h"
#include "cpu/rows.h"

namespace dl::DL_LEVEL {

namespace {

constexpr int kFractionBits = 32;
constexpr int64_t kOne = 1ll << kFractionBits;
// Entries beyond are cut, so that no sum leaves 64 bits for images of up to 2^15 pixels a side.
constexpr double kMostSlope = 0x1p14, kMostOffset = 0x1p29;
constexpr int64_t kPartElements = 1 << 13;  // about 20 us of work

// Not a clamp of the library's: NaN becomes -most.
inline int64_t fixed(double x, double most) {
  const double cut = x > -most ? (x < most ? x : most) : -most;
  return __builtin_llrint(cut * 0x1p32);
}

struct Matrix {
  int64_t m[6];
};

template <class T>
Matrix matrix_of(const Tensor& t, int64_t n) {
  Matrix matrix;
  for (int k = 0; k < 6; ++k) {
    const double x = t.as<T>()[n * t.stride[0] + k * t.stride[1]];
    matrix.m[k] = fixed(x, k % 3 == 2 ? kMostOffset : kMostSlope);
  }
  return matrix;
}

// One image and how it is read.
template <class T>
struct Image {
  T* data;
  int64_t height, width, row, column, channel;  // strides
  int64_t mode;
  T fill;

  // The pixel, or null for the fill value.
  T* pixel(int64_t i, int64_t j) const {
    const int64_t r = place(i, height, mode), c = place(j, width, mode);
    return r < 0 || c < 0 ? nullptr : data + r * row + c * column;
  }
};

template <class T>
Image<T> image_of(const Call& call, const Tensor& t, int64_t n) {
  return {t.as<T>() + n * t.stride[0],
          t.shape[1],
          t.shape[2],
          t.stride[1],
          t.stride[2],
          t.stride[3],
          call.ints[1],
          static_cast<T>(call.floats[0])};
}

template <class T>
inline T fraction(int64_t place) {  // the 24 or 32 highest bits: exact in T
  const int64_t bits = place & (kOne - 1);
  if constexpr (sizeof(T) == 4) return static_cast<T>(static_cast<int32_t>(bits >> 8)) * 0x1p-24f;
  return static_cast<T>(bits) * static_cast<T>(0x1p-32);
}

// The four pixels around a place, null for the fill value, and the weights of the lower and the
// right ones. kInside: all are known to be there.
template <class T>
struct Corners {
  T* pixel[2][2];
  T down, right;
};

template <bool kInside, class T>
inline Corners<T> corners(const Image<T>& x, int64_t row, int64_t column) {
  const int64_t i = row >> kFractionBits, j = column >> kFractionBits;
  Corners<T> c;
  c.down = fraction<T>(row);
  c.right = fraction<T>(column);
  if constexpr (kInside) {
    T* p = x.data + i * x.row + j * x.column;
    c.pixel[0][0] = p, c.pixel[0][1] = p + x.column;
    c.pixel[1][0] = p + x.row, c.pixel[1][1] = p + x.row + x.column;
  } else {
    for (int k = 0; k < 4; ++k) c.pixel[k / 2][k % 2] = x.pixel(i + k / 2, j + k % 2);
  }
  return c;
}

// One row of out: where it starts in x, and the step from pixel to pixel.
struct Line {
  int64_t row, column, row_step, column_step;

  // Do all places lie on pixels?
  bool whole() const { return ((row | column | row_step | column_step) & (kOne - 1)) == 0; }
};

inline Line line_of(const Matrix& m, int64_t i) {
  return {m.m[4] * i + m.m[5], m.m[1] * i + m.m[2], m.m[3], m.m[0]};
}

inline Line rounded(Line line) {
  line.row += kOne / 2, line.column += kOne / 2;
  return line;
}

struct Range {
  int64_t begin, end;
};

// The j in 0..count - 1 with 0 <= start + j step < limit.
inline Range inside(int64_t start, int64_t step, int64_t limit, int64_t count) {
  int64_t begin = 0, end = count;
  if (step > 0) {
    if (start < 0) begin = (step - 1 - start) / step;
    end = start < limit ? (limit - start + step - 1) / step : 0;
  } else if (step < 0) {
    if (start >= limit) begin = (start - limit) / -step + 1;
    end = start < 0 ? 0 : start / -step + 1;
  } else if (start < 0 || start >= limit) {
    end = 0;
  }
  if (end > count) end = count;
  return {begin < end ? begin : end, end};
}

// One row of out.
template <class T>
struct Target {
  T* data;
  int64_t pixel, channel, channels;  // strides, and how many channels
};

// Channels known when compiling are not counted at run time: kChannels is 1, 3 or 0 for any number.
template <class T, int kChannels, bool kBilinear, bool kInside>
void sample_run(const Image<T>& x, const Line& line, const Target<T>& y, int64_t begin,
                int64_t end) {
  const int64_t n = kChannels ? kChannels : y.channels;
  int64_t row = line.row + begin * line.row_step, column = line.column + begin * line.column_step;
  T* out = y.data + begin * y.pixel;
  for (int64_t j = begin; j < end; ++j, out += y.pixel) {
    const auto value = [&x](const T* pixel, int64_t k) {
      return kInside || pixel ? pixel[k * x.channel] : x.fill;
    };
    if constexpr (kBilinear) {
      const Corners<T> c = corners<kInside>(x, row, column);
      for (int64_t k = 0; k < n; ++k) {
        const T a = value(c.pixel[0][0], k), b = value(c.pixel[0][1], k);
        const T d = value(c.pixel[1][0], k), e = value(c.pixel[1][1], k);
        const T top = a + c.right * (b - a), bottom = d + c.right * (e - d);
        out[k * y.channel] = top + c.down * (bottom - top);
      }
    } else {
      const int64_t i = row >> kFractionBits, at = column >> kFractionBits;
      const T* p = kInside ? x.data + i * x.row + at * x.column : x.pixel(i, at);
      for (int64_t k = 0; k < n; ++k) out[k * y.channel] = value(p, k);
    }
    row += line.row_step, column += line.column_step;
  }
}

// Pixels that follow each other in x and in out.
template <class T>
void copy_run(const Image<T>& x, const Line& line, const Target<T>& y, int64_t begin, int64_t end) {
  const int64_t at = (line.column >> kFractionBits) + begin;
  const T* from = x.data + (line.row >> kFractionBits) * x.row + at * x.column;
  T* to = y.data + begin * y.pixel;
  for (int64_t k = 0; k < (end - begin) * y.channels; ++k) to[k] = from[k];
}

template <class T, int kChannels, bool kBilinear>
void sample_line(const Image<T>& x, const Line& line, const Target<T>& y, int64_t count) {
  const int64_t height = (x.height - kBilinear) << kFractionBits;
  const int64_t width = (x.width - kBilinear) << kFractionBits;
  const Range i = inside(line.row, line.row_step, height, count);
  const Range j = inside(line.column, line.column_step, width, count);
  const int64_t begin = i.begin > j.begin ? i.begin : j.begin;
  const int64_t least = i.end < j.end ? i.end : j.end, end = least > begin ? least : begin;
  const bool dense = x.channel == 1 && y.channel == 1 && x.column == y.channels &&
                     y.pixel == y.channels && line.row_step == 0 && line.column_step == kOne;
  sample_run<T, kChannels, kBilinear, false>(x, line, y, 0, begin);
  if (!kBilinear && dense)
    copy_run(x, line, y, begin, end);
  else
    sample_run<T, kChannels, kBilinear, true>(x, line, y, begin, end);
  sample_run<T, kChannels, kBilinear, false>(x, line, y, end, count);
}

template <class T, int kChannels>
void sample_any(const Image<T>& x, const Line& line, bool bilinear, const Target<T>& y,
                int64_t count) {
  bilinear ? sample_line<T, kChannels, true>(x, line, y, count)
           : sample_line<T, kChannels, false>(x, rounded(line), y, count);
}

// Rows [begin, end) of all images.
template <class T>
void sample(const Call& call, int64_t begin, int64_t end) {
  const Tensor &y = call.tensors[0], &t = call.tensors[1], &m = call.tensors[2];
  const int64_t height = y.shape[1];
  const auto run = y.shape[3] == 1   ? sample_any<T, 1>
                   : y.shape[3] == 3 ? sample_any<T, 3>
                                     : sample_any<T, 0>;
  Matrix matrix{};
  Image<T> x{};
  for (int64_t r = begin; r < end; ++r) {
    const int64_t n = r / height, i = r % height;
    if (r == begin || i == 0) matrix = matrix_of<T>(m, n), x = image_of<T>(call, t, n);
    const Line line = line_of(matrix, i);
    T* out = y.as<T>() + n * y.stride[0] + i * y.stride[1];
    run(x, line, call.ints[0] == 1 && !line.whole(), {out, y.stride[2], y.stride[3], y.shape[3]},
        y.shape[2]);
  }
}

template <class T>
void add(const T* dy, int64_t channel, int64_t channels, T weight, const Image<T>& dx, T* pixel) {
  if (!pixel) return;
  for (int64_t k = 0; k < channels; ++k) pixel[k * dx.channel] += weight * dy[k * channel];
}

template <class T>
void scatter(const Call& call, int64_t n) {
  const Tensor &t = call.tensors[0], &d = call.tensors[1];
  const Image<T> dx = image_of<T>(call, t, n);
  for (int64_t i = 0; i < count(t, 1, 4); ++i) dx.data[offset(t, 1, 4, i)] = 0;
  const Matrix matrix = matrix_of<T>(call.tensors[2], n);
  const int64_t q = d.shape[2], channel = d.stride[3], channels = d.shape[3];
  for (int64_t i = 0; i < d.shape[1]; ++i) {
    Line at = line_of(matrix, i);
    const bool bilinear = call.ints[0] == 1 && !at.whole();
    if (!bilinear) at = rounded(at);
    const T* dy = d.as<T>() + n * d.stride[0] + i * d.stride[1];
    for (int64_t j = 0; j < q; ++j, dy += d.stride[2]) {
      if (!bilinear) {
        T* pixel = dx.pixel(at.row >> kFractionBits, at.column >> kFractionBits);
        add(dy, channel, channels, T(1), dx, pixel);
      } else {
        const Corners<T> c = corners<false>(dx, at.row, at.column);
        const T down[2] = {1 - c.down, c.down}, right[2] = {1 - c.right, c.right};
        for (int k = 0; k < 4; ++k)
          add(dy, channel, channels, down[k / 2] * right[k % 2], dx, c.pixel[k / 2][k % 2]);
      }
      at.row += at.row_step, at.column += at.column_step;
    }
  }
}

int64_t rows_per_part(const Tensor& y) {
  const int64_t row = y.shape[2] * y.shape[3];
  return row >= kPartElements ? 1 : kPartElements / (row > 0 ? row : 1);
}

void set_cost(const Call& call, int64_t pixels, Work& work) {
  const double values = static_cast<double>(pixels) * call.tensors[0].shape[3];
  work.flops = 30.0 * pixels + 8 * values;
  work.bytes = 2 * values * size_of(call.tensors[0].dtype);
}

}  // namespace

const char* plan_affine_sample(const Call& call, Work& work) {
  if (const char* wrong = check_affine_sample(call)) return wrong;
  const Tensor& y = call.tensors[0];
  const int64_t rows = y.shape[0] * y.shape[1], part = rows_per_part(y);
  work.parts[0] = rows > part ? (rows + part - 1) / part : 1;
  set_cost(call, rows * y.shape[2], work);
  return nullptr;
}

void run_affine_sample(const Call& call, int, int64_t begin, int64_t end, char*) {
  const Tensor& y = call.tensors[0];
  const int64_t rows = y.shape[0] * y.shape[1], part = rows_per_part(y);
  const int64_t first = begin * part, last = end * part < rows ? end * part : rows;
  y.dtype == DType::f32 ? sample<float>(call, first, last) : sample<double>(call, first, last);
}

const char* plan_affine_sample_grad(const Call& call, Work& work) {
  if (const char* wrong = check_affine_sample_grad(call)) return wrong;
  const Tensor &dx = call.tensors[0], &dy = call.tensors[1];
  work.parts[0] = dx.shape[0] > 0 ? dx.shape[0] : 1;
  set_cost(call, dy.shape[0] * dy.shape[1] * dy.shape[2], work);
  return nullptr;
}

void run_affine_sample_grad(const Call& call, int, int64_t begin, int64_t end, char*) {
  const Tensor& dx = call.tensors[0];
  const int64_t last = end < dx.shape[0] ? end : dx.shape[0];
  for (int64_t n = begin; n < last; ++n)
    dx.dtype == DType::f32 ? scatter<float>(call, n) : scatter<double>(call, n);
}

}  // namespace dl::DL_LEVEL
