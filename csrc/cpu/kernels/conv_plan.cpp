// Decisions of convolutions: boxes, columns, copies and the cut into parts. All follow from shapes,
// strides and types; none changes a bit of y or dx, since each of their elements is one chain over
// taps and channels.
#include "cpu/kernels/conv_plan.h"

#include "cpu/rows.h"

namespace dl::DL_LEVEL {

namespace {

constexpr int64_t kPixels = 256;        // of a box: enough for a panel of B in L1 to pay
constexpr int64_t kRunPixels = 1024;    // of a phase: then copying its filters is little work
constexpr int64_t kGradientBytes = 16384;  // of a panel of dy: it and the inputs stay in L1
constexpr int64_t kOneTapBytes = 96;  // of channels, where no taps make tiles of 3, 4, 6 rows full
constexpr int64_t kPackingRows = 48;    // filter elements for which copying dy pays
constexpr int64_t kSkippedProducts = 192;  // of a row of taps: shorter runs do not pay
constexpr int64_t kEdgeShare = 8;         // of the columns, that miss taps
constexpr int64_t kLowRows = 128;  // filter elements so few that dy is best read once
constexpr int64_t kLineBytes = 64;
constexpr int64_t kProducts = 320;      // between two visits of a sum: that panel fits L1
constexpr int64_t kGroupBytes = 512;    // a row of the columns that are worked on together
constexpr int64_t kWindowBytes = 262144, kMostWindowBytes = 786432;  // L2, and scratch
constexpr int64_t kPanelBytes = 524288;   // of copied filters
constexpr int64_t kSumBytes = 262144;     // that wait for an epilogue
constexpr int64_t kPartialBytes = 2600000;  // partial filter gradients, of all threads
constexpr int64_t kFarRow = 1024;  // bytes: rows of a panel in place then meet in few sets of L1
constexpr double kMinPartFlops = 0.5e6;
constexpr int64_t kWinogradPixels = 36;      // of an image: fewer do not pay the filters' transform
constexpr int64_t kWinogradBytes = 393216;   // 16 matrices of inputs and of sums: L2
constexpr int64_t kMostTiles = 96, kFewTiles = 24;  // of a block
constexpr int64_t kLeastTiles = 9;  // for which a panel of filters is read from L2 or L3
constexpr int64_t kCellBytes = 256;          // of a row of a cell's sums, and of its channels
constexpr int64_t kMostWinogradRow = 4096;   // bytes of a tile's channels: scratch
constexpr int64_t kMostParts = 32, kMostCells = 16;

double real(int64_t x) { return static_cast<double>(x); }

void read_geometry(const Call& call, Conv& c) {
  const ConvOperands t = conv_operands(call, c.task, c.n_out);
  const int d = static_cast<int>(call.ints[0]);
  const int64_t* v = call.ints + 2;
  for (int i = 0; i < 3; ++i) {
    const int s = i - (3 - d);  // spatial axis, aligned to the last
    c.axis[i] = s < 0 ? ConvAxis{1, 1, 1, 1, 1, 0}
                      : ConvAxis{t.x.shape[s + 1], t.y.shape[s + 1], t.w.shape[s], v[s], v[d + s],
                                 v[2 * d + s]};
  }
  c.batch = t.x.shape[0];
  c.groups = call.ints[1];
  c.channels = t.w.shape[d];
  c.filters = t.w.shape[d + 1] / c.groups;
  c.multiplier = c.filters;
  c.wide = c.channels == 1 && c.groups > 1;
  if (c.wide) c.channels = c.groups, c.filters *= c.groups, c.groups = 1;
  const bool back = c.task == Task::input_grad;
  c.cols = back ? c.channels : c.filters;
  c.inner = c.wide ? (back ? c.multiplier : 1) : back ? c.filters : c.channels;
  c.channel_parts = c.chunks = 1;
  for (int i = 0; i < 3; ++i) c.phases[i] = back ? gradient_phases(c.axis[i]) : 1;
}

bool reads_outside(const ConvAxis& a) {
  return a.out > 0 && a.taps > 0 &&
         (a.pad > 0 || (a.out - 1) * a.stride - a.pad + (a.taps - 1) * a.dilation >= a.in);
}

// Columns whose pixels miss some taps.
int64_t edge_columns(const Conv& c) {
  const ConvAxis a =
      c.task == Task::input_grad ? gradient_phase(c.axis[2], 0).axis : c.axis[2];
  const int64_t full = a.in + a.pad - most(0, a.taps - 1) * a.dilation;
  const int64_t left = most(0, ceil_div(a.pad, a.stride)), right = a.out - ceil_div(full, a.stride);
  return least(a.out, left + most(0, right));
}

// Any phase would do; the loop ends at the first that does.
bool needs_window(const Call& call, const Conv& c, int lanes) {
  const ConvOperands t = conv_operands(call, c.task, c.n_out);
  const Tensor& in = c.task == Task::input_grad ? t.y : t.x;
  const bool unit = in.stride[in.rank - 1] == 1 || in.shape[in.rank - 1] == 1;
  if (!unit || (c.wide && (c.multiplier > 1 || c.cols % lanes))) return true;
  for (int d = 0; d < 3; ++d) {
    for (int64_t i = 0; i < c.phases[d]; ++i) {
      if (reads_outside(c.task == Task::input_grad ? gradient_phase(c.axis[d], i).axis : c.axis[d]))
        return true;
    }
  }
  return false;
}

int64_t taps(const Conv& c) {
  int64_t n = 1;
  for (int d = 0; d < 3; ++d) n *= largest_phase(c, d).taps;
  return n;
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
  int64_t group = kGroupBytes / size;
  if (c.task == Task::filter_grad && taps(c) * c.inner <= kLowRows) group *= 2;
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
  if (!c.wide || c.multiplier != 1) return false;
  if (depth.in != 1 || depth.out != 1 || depth.taps != 1 || depth.pad != 0) return false;
  for (int t = c.n_out; t < c.n_out + 2; ++t) {
    if (call.tensors[t].stride[call.tensors[t].rank - 1] != 1) return false;
  }
  return true;
}

int64_t all_tiles(const Conv& c) { return c.batch * c.tile_rows * c.tile_cols; }

// Tiles of so many channels and columns whose 16 matrices fit L2.
int64_t tiles_in_cache(int64_t channels, int64_t cols, int64_t size) {
  const int64_t tiles = kWinogradBytes / (16 * (channels + cols) * size);
  return most(kFewTiles, least(tiles, kMostTiles));
}

double flops_of(const Conv& c) {
  if (c.winograd) return 32 * real(all_tiles(c)) * real(c.inner * c.cols);
  double n = 2 * real(c.batch) * real(c.cols) * real(c.groups) * real(c.inner);
  for (const ConvAxis& a : c.axis) n *= real(a.out) * real(a.taps);
  return n;
}

void balance(int64_t size, int64_t wanted, int64_t& box, int64_t& boxes) {
  boxes = ceil_div(size, most(1, wanted));
  box = boxes ? ceil_div(size, boxes) : 1;
}

void choose_boxes(Conv& c, int64_t wanted) {
  const int64_t P = largest_phase(c, 1).out, Q = largest_phase(c, 2).out;
  c.boxes[1] = largest_phase(c, 0).out;
  balance(Q, wanted, c.box_cols, c.boxes[3]);
  balance(P, wanted / most(1, c.box_cols), c.box_rows, c.boxes[2]);
  const bool whole = c.boxes[1] == 1 && c.boxes[2] == 1 && c.boxes[3] == 1;
  balance(c.batch, whole ? wanted / most(1, P * Q) : 1, c.box_images, c.boxes[0]);
}

// Boxes of about `wanted` pixels, fewer where what they read would leave L2.
void fit_boxes(Conv& c, int64_t wanted, int64_t pixel, int64_t size) {
  choose_boxes(c, wanted);
  if (!c.windowed) return;
  while (wanted > kMostRows && window_elements(c, pixel) > kWindowBytes / size) {
    wanted = most(kMostRows, wanted * 3 / 4);
    choose_boxes(c, wanted);
  }
  while (wanted > 1 && window_elements(c, pixel) > kMostWindowBytes / size) {
    wanted /= 2;
    choose_boxes(c, wanted);
  }
}

void choose_forward_boxes(Conv& c, int lanes, int64_t size) {
  const double flops = flops_of(c);
  const double column_parts =
      real(c.groups * ceil_div(c.cols, c.group) * c.phases[0] * c.phases[1] * c.phases[2]);
  double parts = flops / kMinPartFlops;
  parts = (parts < kMostParts ? parts : kMostParts) / column_parts;
  double wanted = real(c.batch);
  for (int d = 0; d < 3; ++d) wanted *= real(largest_phase(c, d).out);
  if (parts > 1) wanted /= parts;
  const int64_t most_pixels = least(kPixels, most(kMostRows, kSumBytes / size / c.group));
  const int64_t pixels = wanted < real(most_pixels) ? static_cast<int64_t>(wanted) : most_pixels;
  c.channel_step = c.inner;
  const int64_t all_taps = taps(c);
  if (!c.wide && all_taps * c.inner * c.width * kVectorBytes > kMostWindowBytes) {
    c.channel_step =
        most(1, kMostWindowBytes / (all_taps * c.width * kVectorBytes));
    c.packed = true;
  }
  for (;; c.channel_step = (c.channel_step + 1) / 2) {
    const int64_t pixel = c.wide ? c.inner * c.group : c.channel_step;
    fit_boxes(c, most(kMostRows, pixels), pixel, size);
    c.window = c.windowed ? window_elements(c, pixel) : 0;
    if (c.wide || c.channel_step == 1 || c.window <= kMostWindowBytes / size) break;
    c.packed = true;
  }
  c.k_most = all_taps * c.channel_step;
  c.dots = !c.wide && c.cols <= kMostDots && 2 * c.cols <= lanes && c.inner % lanes == 0 &&
           c.channel_step == c.inner && c.inner > 0;
  if (c.dots) c.packed = true, c.k_step = most(1, c.k_most);
  c.run = most(1, kRunPixels / most(1, box_pixels(c)));
  const ConvAxis row = largest_phase(c, 2);
  c.skips = c.windowed && !c.wide && !c.dots && kEdgeShare * edge_columns(c) >= row.out &&
            row.taps * c.channel_step >= kSkippedProducts;
}

// Few channels at a time, so that what all their taps read of a box stays in L1.
void choose_channel_block(Conv& c, int64_t size) {
  const int64_t bytes = taps(c) == 1 ? kOneTapBytes : kLineBytes;
  const int64_t blocks = ceil_div(c.channel_step, bytes / size);
  c.channel_block = c.wide ? 1 : most(1, ceil_div(c.channel_step, most(1, blocks)));
  if (blocks > 1 && taps(c) == 1) c.channel_block = kOneTapBytes / size;
  const int64_t pixel = c.wide ? c.group : c.channel_block;
  fit_boxes(c, kGradientBytes / (c.width * kVectorBytes), pixel, size);
  c.window = c.windowed ? window_elements(c, pixel) : 0;
}

void choose_cells(Conv& c, int lanes, int64_t size) {
  const double parts = flops_of(c) / kMinPartFlops;
  int64_t wanted = 1;
  while (wanted < kMostCells && real(wanted * 2) <= parts) wanted *= 2;
  const int64_t tap_rows = taps(c), channels = c.inner;
  const int64_t panel = c.width * lanes, padded = round_up(c.cols, panel);
  c.windowed = c.windowed || (!c.wide && channels > kLineBytes / size);
  c.packed = c.packed || (!c.is_panel && tap_rows * channels >= kPackingRows);
  c.chunks = 1;
  while (c.chunks * 2 <= wanted &&
         c.groups * padded * tap_rows * channels * size * c.chunks * 2 <= kPartialBytes)
    c.chunks *= 2;
  for (;;) {
    c.channel_step = ceil_div(channels, c.channel_parts);
    choose_channel_block(c, size);
    const int64_t windows = c.window * ceil_div(c.channel_step, c.channel_block);
    const bool fits = windows <= kMostWindowBytes / size &&
                      (c.chunks > 1 || tap_rows * c.channel_step * c.group * size <= kPanelBytes);
    const int64_t cells = c.groups * ceil_div(c.cols, c.group) * c.channel_parts;
    if (fits && cells * c.chunks >= wanted) break;
    if (c.channel_step > kLineBytes / size || (!fits && c.channel_step > 1)) {
      c.channel_parts *= 2;
    } else if (c.group > panel) {
      c.group = round_up(c.group / 2, panel);
    } else {
      break;
    }
  }
  c.chunks = most(1, least(c.chunks, box_count(c)));
  c.k_most = tap_rows * c.channel_block;
}

void choose_winograd_tiles(Conv& c, int lanes, int64_t size) {
  const double parts = flops_of(c) / kMinPartFlops;
  const int64_t wanted = static_cast<int64_t>(parts < kMostParts ? parts : kMostParts);
  const int64_t tiles = least(tiles_in_cache(c.inner, c.width * lanes, size),
                              most(kLeastTiles, ceil_div(all_tiles(c), most(1, wanted))));
  c.tiles = round_up(tiles, max_height(c.width));
  const int64_t blocks = most(1, ceil_div(all_tiles(c), c.tiles));
  c.column_parts = most(1, least(ceil_div(c.cols, c.width * lanes), wanted / blocks));
}

// Cells whose 16 matrices of sums fit L2, cut over the batch as others are.
void choose_winograd_cells(Conv& c, int lanes, int64_t size) {
  const int64_t panel = c.width * lanes, panels = ceil_div(c.cols, panel);
  c.group = ceil_div(panels, ceil_div(c.cols * size, kCellBytes)) * panel;
  c.channel_step = round_up(ceil_div(c.inner, ceil_div(c.inner * size, kCellBytes)), lanes);
  c.channel_block = c.channel_step;
  c.channel_parts = ceil_div(c.inner, c.channel_step);
  c.k_most = 9 * c.channel_step;
  c.windowed = c.packed = false;
  const int64_t cells = ceil_div(c.cols, c.group) * c.channel_parts;
  c.tiles = tiles_in_cache(c.channel_step, panel, size);
  while (cells * c.chunks < kMostCells && c.chunks * 2 * kFewTiles <= all_tiles(c) &&
         9 * cells * c.channel_step * c.group * size * c.chunks * 2 <= kPartialBytes &&
         flops_of(c) >= real(cells * c.chunks * 2) * kMinPartFlops)
    c.chunks *= 2;
}

void choose_depthwise_rows(Conv& c) {
  const double parts = flops_of(c) / kMinPartFlops / real(conv_cells(c));
  const int64_t wanted = static_cast<int64_t>(parts < kMostParts ? parts : kMostParts);
  c.boxes[2] = least(c.batch * largest_phase(c, 1).out, most(1, wanted));
}

void choose_depthwise_cells(Conv& c, int lanes, int64_t size) {
  c.width = static_cast<int>(c.group / lanes);
  c.channel_step = c.channel_block = 1;
  c.k_most = taps(c);
  c.windowed = c.packed = false;
  const int64_t cells = conv_cells(c);
  while (cells * c.chunks < kMostCells && c.chunks * 2 <= c.batch * c.axis[1].out &&
         cells * c.group * c.k_most * size * c.chunks * 2 <= kPartialBytes &&
         flops_of(c) >= real(cells * c.chunks * 2) * kMinPartFlops)
    c.chunks *= 2;
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
  read_geometry(call, c);
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
  if (c.depthwise && task == Task::filter_grad) {
    choose_depthwise_cells(c, lanes, size);
  } else if (c.depthwise) {
    choose_depthwise_rows(c);
  } else if (c.winograd && task == Task::filter_grad) {
    choose_winograd_cells(c, lanes, size);
  } else if (c.winograd) {
    choose_winograd_tiles(c, lanes, size);
  } else if (task == Task::filter_grad) {
    choose_cells(c, lanes, size);
  } else {
    choose_forward_boxes(c, lanes, size);
    const Tensor& out = call.tensors[0];
    const int last = out.rank - 1;
    if (c.dots) c.direct = !c.has_expression && (out.stride[last] == 1 || out.shape[last] == 1);
  }
}

}  // namespace dl::DL_LEVEL
