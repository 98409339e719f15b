// The cut of convolutions into boxes, cells, chunks and parts, which all follow from shapes.
#include "cpu/kernels/conv_plan.h"

#include "cpu/rows.h"

namespace dl::DL_LEVEL {

namespace {

constexpr int64_t kPixels = 256;           // of a box: enough for a panel of B in L1 to pay
constexpr int64_t kRunPixels = 1024;       // of a phase: then copying its filters is little work
constexpr int64_t kGradientBytes = 16384;  // of a panel of dy: it and the inputs stay in L1
constexpr int64_t kOneTapBytes = 96;  // of channels, where no taps make tiles of 3, 4, 6 rows full
constexpr int64_t kPackingRows = 48;  // filter elements for which copying dy pays
constexpr int64_t kSkippedProducts = 192;  // of a row of taps: shorter runs do not pay
constexpr int64_t kEdgeShare = 8;          // of the columns, that miss taps
constexpr int64_t kWindowBytes = 262144, kMostWindowBytes = 786432;  // L2, and scratch
constexpr int64_t kSumBytes = 262144;                                // that wait for an epilogue
constexpr int64_t kPartialBytes = 2600000;  // partial filter gradients, of all threads
constexpr double kMinPartFlops = 0.5e6;
constexpr int64_t kWinogradBytes = 393216;          // 16 matrices of inputs and of sums: L2
constexpr int64_t kMostTiles = 96, kFewTiles = 24;  // of a block
constexpr int64_t kLeastTiles = 9;   // for which a panel of filters is read from L2 or L3
constexpr int64_t kCellBytes = 256;  // of a row of a cell's sums, and of its channels
constexpr int64_t kMostParts = 32, kMostCells = 16;

// Columns whose pixels miss some taps.
int64_t edge_columns(const Conv& c) {
  const ConvAxis a = c.task == Task::input_grad ? gradient_phase(c.axis[2], 0).axis : c.axis[2];
  const int64_t full = a.in + a.pad - most(0, a.taps - 1) * a.dilation;
  const int64_t left = most(0, ceil_div(a.pad, a.stride)), right = a.out - ceil_div(full, a.stride);
  return least(a.out, left + most(0, right));
}

int64_t all_tiles(const Conv& c) { return c.batch * c.tile_rows * c.tile_cols; }

// Tiles of so many channels and columns whose 16 matrices fit L2.
int64_t tiles_in_cache(int64_t channels, int64_t cols, int64_t size) {
  const int64_t tiles = kWinogradBytes / (16 * (channels + cols) * size);
  return most(kFewTiles, least(tiles, kMostTiles));
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
    c.channel_step = most(1, kMostWindowBytes / (all_taps * c.width * kVectorBytes));
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
  c.channel_block = c.wide ? c.inner : most(1, ceil_div(c.channel_step, most(1, blocks)));
  if (blocks > 1 && taps(c) == 1 && !c.wide) c.channel_block = kOneTapBytes / size;
  const int64_t pixel = c.wide ? c.inner * c.group : c.channel_block;
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
    if (!c.wide && (c.channel_step > kLineBytes / size || (!fits && c.channel_step > 1))) {
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

}  // namespace

void cut_conv(Conv& c, int lanes, int64_t size) {
  const bool filter_grad = c.task == Task::filter_grad;
  if (c.depthwise && filter_grad) {
    choose_depthwise_cells(c, lanes, size);
  } else if (c.depthwise) {
    choose_depthwise_rows(c);
  } else if (c.winograd && filter_grad) {
    choose_winograd_cells(c, lanes, size);
  } else if (c.winograd) {
    choose_winograd_tiles(c, lanes, size);
  } else if (filter_grad) {
    choose_cells(c, lanes, size);
  } else {
    choose_forward_boxes(c, lanes, size);
  }
}

}  // namespace dl::DL_LEVEL
