// Decisions of convolutions: the way, columns, copies and epilogue. All follow from shapes, strides
// and types; none changes a bit of y or dx, since each of their elements is one chain over taps and
// channels.
#include "cpu/kernels/conv_plan.h"

#include "cpu/rows.h"

namespace dl::DL_LEVEL {

namespace {

constexpr int64_t kLowRows = 128;     // filter elements so few that dy is best read once
constexpr int64_t kProducts = 320;    // between two visits of a sum: that panel fits L1
constexpr int64_t kGroupBytes = 512;  // a row of the columns that are worked on together
constexpr int64_t kMostWide = 16;     // products of a tap: each has a copy of its own
constexpr int64_t kWideBytes = 256;   // of copies of a pixel: those of three rows stay in L1
constexpr int64_t kFarRow = 1024;     // bytes: rows of a panel in place then meet in few sets of L1
constexpr int64_t kWinogradPixels = 36;     // of an image: fewer do not pay the filters' transform
constexpr int64_t kMostWinogradRow = 4096;  // bytes of a tile's channels: scratch

void read_geometry(const Call& call, Conv& c, int lanes) {
  const ConvOperands t = conv_operands(call, c.task, c.n_out);
  const int d = static_cast<int>(call.ints[0]);
  const int64_t* v = call.ints + 2;
  for (int i = 0; i < 3; ++i) {
    const int s = i - (3 - d);  // spatial axis, aligned to the last
    c.axis[i] = s < 0 ? ConvAxis{1, 1, 1, 1, 1, 0}
                      : ConvAxis{t.x.shape[s + 1], t.y.shape[s + 1], t.w.shape[s], v[s],
                                 v[d + s],         v[2 * d + s]};
  }
  c.batch = t.x.shape[0];
  c.groups = call.ints[1];
  const bool back = c.task == Task::input_grad;
  const int64_t channels = t.w.shape[d], filters = t.w.shape[d + 1] / c.groups;
  c.cols = back ? channels : filters;
  c.inner = back ? filters : channels;
  c.wide = c.groups > 1 && (channels == 1 || (c.cols < lanes && c.inner <= kMostWide));
  c.repeat = c.cols;
  if (c.wide) c.cols *= c.groups, c.groups = 1;
  c.channel_parts = c.chunks = 1;
  for (int i = 0; i < 3; ++i) c.phases[i] = back ? gradient_phases(c.axis[i]) : 1;
}

bool reads_outside(const ConvAxis& a) {
  return a.out > 0 && a.taps > 0 &&
         (a.pad > 0 || (a.out - 1) * a.stride - a.pad + (a.taps - 1) * a.dilation >= a.in);
}

// Any phase would do; the loop ends at the first that does.
bool needs_window(const Call& call, const Conv& c, int lanes) {
  const ConvOperands t = conv_operands(call, c.task, c.n_out);
  const Tensor& in = c.task == Task::input_grad ? t.y : t.x;
  const bool unit = in.stride[in.rank - 1] == 1 || in.shape[in.rank - 1] == 1;
  if (!unit || (c.wide && (c.repeat > 1 || c.inner > 1 || c.cols % lanes))) return true;
  for (int d = 0; d < 3; ++d) {
    for (int64_t i = 0; i < c.phases[d]; ++i) {
      if (reads_outside(c.task == Task::input_grad ? gradient_phase(c.axis[d], i).axis : c.axis[d]))
        return true;
    }
  }
  return false;
}

// Rows of w in place: one stride through taps and channels.
bool filters_in_place(const Call& call, const Conv& c, int lanes) {
  const Tensor& w = call.tensors[c.n_out + 1];
  const int last = w.rank - 1;
  if (c.task != Task::forward || c.cols % lanes || w.stride[last] != 1) return false;
  int64_t rows = 1;
  const int64_t row = w.shape[last - 1] > 1 ? w.stride[last - 1] : w.shape[last];
  for (int d = last - 1; d >= 0; --d) {
    if (w.shape[d] != 1 && w.stride[d] != row * rows) return false;
    rows *= w.shape[d];
  }
  return true;
}

// The pixels of dy in place, one after the other, are a panel of `width` elements.
bool gradient_is_panel(const Call& call, const Conv& c, int64_t width) {
  const Tensor& dy = call.tensors[c.n_out + 1];
  return c.task == Task::filter_grad && !c.wide && c.groups == 1 && c.cols == width &&
         dy.stride[dy.rank - 2] == width;
}

// Rows of dy in place: one stride through the pixels of any box.
bool gradient_in_place(const Call& call, const Conv& c, int lanes) {
  const Tensor& dy = call.tensors[c.n_out + 1];
  const int last = dy.rank - 1;
  if (c.cols % lanes || dy.stride[last] != 1) return false;
  int64_t rows = 1;
  const int64_t row = dy.stride[last - 1];
  for (int d = last - 1; d >= 0; --d) {
    if (dy.shape[d] != 1 && dy.stride[d] != row * rows) return false;
    rows *= dy.shape[d];
  }
  return true;
}

void choose_columns(const Call& call, Conv& c, int lanes, int64_t size) {
  const int64_t panels = ceil_div(c.cols, lanes);
  c.width = panels % 2 == 1 && panels % 3 == 0 ? 3 : static_cast<int>(least(panels, 2));
  if (panels % 4 == 0 && kVectorRegisters == 16 && !c.wide) c.width = 4;
  const bool in_place = c.task == Task::filter_grad ? gradient_in_place(call, c, lanes)
                                                    : filters_in_place(call, c, lanes);
  // Panels of four vectors are copied, to stay in L1 whatever the distance of rows: see
  // gemm_plan.cpp.
  const int64_t panel = c.width * lanes;
  c.is_panel = in_place && gradient_is_panel(call, c, panel);
  c.packed = !c.is_panel && (!in_place || c.width == 4 || c.cols * c.groups * size >= kFarRow);
  int64_t group = (c.wide && c.inner > 1 ? kWideBytes / c.inner : kGroupBytes) / size;
  if (c.task == Task::filter_grad && !c.wide && taps(c) * c.inner <= kLowRows) group *= 2;
  if (c.packed && c.task != Task::filter_grad)
    group = least(group, kPanelBytes / size / most(1, taps(c) * c.inner));
  group = most(1, group / panel) * panel;
  const int64_t parts = most(1, ceil_div(c.cols, group));
  c.group = most(1, ceil_div(ceil_div(c.cols, panel), parts)) * panel;
}

// Stride 1, 3 x 3, whole lines of channels and columns.
bool suits_winograd(const Call& call, const Conv& c, int64_t size) {
  const Tensor &x = call.tensors[c.n_out], &w = call.tensors[c.n_out + 1];  // or dy
  const auto whole_lines = [size](int64_t n) { return n > 0 && n * size % kLineBytes == 0; };
  const ConvAxis& depth = c.axis[0];
  if (depth.in != 1 || depth.out != 1 || depth.taps != 1 || depth.pad != 0) return false;
  for (int d = 1; d < 3; ++d) {
    const ConvAxis& a = c.axis[d];
    if (a.taps != 3 || a.stride != 1 || a.dilation != 1) return false;
  }
  return c.groups == 1 && !c.wide && whole_lines(c.inner) && whole_lines(c.cols) &&
         c.inner * size <= kMostWinogradRow && x.stride[x.rank - 1] == 1 && c.batch > 0 &&
         (c.task != Task::filter_grad || w.stride[w.rank - 1] == 1) &&
         largest_phase(c, 1).out * largest_phase(c, 2).out >= kWinogradPixels;
}

// A filter for each channel of images, whose channels are neighbours everywhere.
bool is_depthwise(const Call& call, const Conv& c) {
  const ConvAxis& depth = c.axis[0];
  if (!c.wide || c.repeat > 1 || c.inner > 1) return false;
  if (depth.in != 1 || depth.out != 1 || depth.taps != 1 || depth.pad != 0) return false;
  for (int t = c.n_out; t < c.n_out + 2; ++t) {
    if (call.tensors[t].stride[call.tensors[t].rank - 1] != 1) return false;
  }
  return true;
}

void choose_epilogue(const Call& call, Conv& c, int lanes) {
  const Tensor& out = call.tensors[0];
  const int last = out.rank - 1;
  c.direct = out.dtype == c.dtype && (out.stride[last] == 1 || out.shape[last] == 1) &&
             (c.cols % lanes == 0 || is_depthwise(call, c)) && c.task != Task::filter_grad;
  c.evaluates = c.has_expression;
  if (!c.has_expression || !c.direct) {
    if (c.evaluates) c.direct = false;
    return;
  }
  c.direct = false;
  const Epilogue e = match_epilogue(c.expression);
  if (!e.input) return;
  const int index = c.n_out + 1 + e.input;
  const Tensor& x = call.tensors[index];
  if (x.dtype != c.dtype || (x.stride[last] != 1 && x.shape[last] != 1)) return;
  for (int d = 0; d < last && e.store != Store::relu_grad; ++d) {
    if (x.shape[d] > 1 && x.stride[d] != 0) return;
  }
  c.store = e.store;
  c.extra = index;
  c.direct = true;
  c.evaluates = false;
}

}  // namespace

int64_t taps(const Conv& c) {
  int64_t n = 1;
  for (int d = 0; d < 3; ++d) n *= largest_phase(c, d).taps;
  return n;
}

double flops_of(const Conv& c) {
  if (c.winograd) return 32 * real(c.batch * c.tile_rows * c.tile_cols) * real(c.inner * c.cols);
  double n = 2 * real(c.batch) * real(c.cols) * real(c.groups) * real(c.inner);
  for (const ConvAxis& a : c.axis) n *= real(a.out) * real(a.taps);
  return n;
}

Strides image_strides(const Tensor& t) {
  Strides s{};
  s.n = t.stride[0];
  for (int d = 1; d < t.rank - 1; ++d) s.axis[d + 4 - t.rank] = t.stride[d];
  s.c = t.stride[t.rank - 1];
  return s;
}

Strides filter_strides(const Tensor& t) {
  Strides s{};
  for (int d = 0; d < t.rank - 2; ++d) s.axis[d + 5 - t.rank] = t.stride[d];
  s.c = t.stride[t.rank - 2];
  s.k = t.stride[t.rank - 1];
  return s;
}

ConvAxis largest_phase(const Conv& c, int d) {
  const ConvAxis& a = c.axis[d];
  if (c.task != Task::input_grad) return a;
  const int64_t g = common_divisor(a.stride, a.dilation);
  return {a.out, ceil_div(a.in, a.stride), ceil_div(a.taps, a.stride / g), 1, a.dilation / g, 0};
}

int64_t window_elements(const Conv& c, int64_t pixel) {
  constexpr int64_t kHuge = int64_t{1} << 55;  // more would overflow
  const int64_t outputs[3] = {1, c.box_rows, c.box_cols};
  int64_t n = c.box_images * pixel;
  for (int d = 0; d < 3; ++d) {
    const ConvAxis a = largest_phase(c, d);
    const int64_t extent =
        outputs[d] == 1 ? a.taps : (outputs[d] - 1) * a.stride + (a.taps - 1) * a.dilation + 1;
    n = extent > 0 && n > kHuge / extent ? kHuge : n * extent;
  }
  return n;
}

void count_cost(const Call& call, const Conv& c, Work& work) {
  double outputs = 1;
  const Tensor& out = call.tensors[0];
  for (int d = 0; d < out.rank; ++d) outputs *= real(out.shape[d]);
  work.flops = flops_of(c) + (c.has_expression ? outputs * cost(c.expression) : 0);
  work.bytes = 0;
  for (int t = 0; t < call.n_tensors; ++t) {
    const Tensor& x = call.tensors[t];
    double bytes = real(size_of(x.dtype));
    for (int d = 0; d < x.rank; ++d) bytes *= x.stride[d] ? real(x.shape[d]) : 1.0;
    work.bytes += bytes;
  }
}

void read_conv(const Call& call, Task task, Conv& c) {
  c.task = task;
  c.n_out = 1;
  const int used = 2 + 3 * static_cast<int>(call.ints[0]);
  c.has_expression = call.n_ints > used;
  if (c.has_expression) {
    decode(call.ints + used, call.n_ints - used, call.floats, call.n_floats, c.expression);
    c.n_out = c.expression.n_out;
  }
  c.dtype = call.tensors[c.n_out].dtype;
  const int64_t size = size_of(c.dtype);
  const int lanes = static_cast<int>(kVectorBytes / size);
  read_geometry(call, c, lanes);
  choose_columns(call, c, lanes, size);
  c.windowed = needs_window(call, c, lanes);
  c.k_step = kProducts;
  c.winograd = suits_winograd(call, c, size);
  c.tile_rows = ceil_div(largest_phase(c, 1).out, 2);
  c.tile_cols = ceil_div(largest_phase(c, 2).out, 2);
  choose_epilogue(call, c, lanes);
  // Only what registers write may end within a vector: lines of few channels are short for the
  // rest.
  const bool whole = c.cols % lanes == 0 && (task == Task::filter_grad || c.evaluates);
  c.depthwise = is_depthwise(call, c) && (whole || c.direct);
  cut_conv(c, lanes, size);
  if (c.dots) {
    const Tensor& out = call.tensors[0];
    const int last = out.rank - 1;
    c.direct = !c.has_expression && (out.stride[last] == 1 || out.shape[last] == 1);
  }
}

}  // namespace dl::DL_LEVEL
