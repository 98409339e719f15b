// What a convolution call asks for and how it is cut.
#pragma once

#include "common/conv_call.h"
#include "cpu/kernels/conv_tile.h"
#include "cpu/kernels/gemm_plan.h"
#include "kernel.h"

namespace dl::DL_LEVEL {

// Element strides of an image (batch, up to 3 axes, channels) or filter (-, axes, C, K).
struct Strides {
  int64_t n, axis[3], c, k;
};

// A box of output pixels: neighbouring images (whole ones if several), one slice of the first axis,
// rows, columns.
struct Box {
  int64_t n, images, o, p, rows, q, cols;
};

struct Conv {
  Expression expression;
  bool has_expression;
  int n_out;
  DType dtype;
  Task task;

  ConvAxis axis[3];  // of the forward convolution
  int64_t batch, groups;

  // C = columns of one group: filters, or channels in the input gradient. Each tap adds `inner`
  // products.
  int64_t cols, inner;
  // Groups of few columns are one: a lane has inputs of its own, column j those of channels
  // [j / repeat * inner, .. + inner).
  bool wide;
  int64_t repeat;
  int64_t phases[3];
  int64_t box_images, box_rows, box_cols;  // largest box
  int64_t boxes[4];                        // along images, first axis, rows, columns
  int64_t run;                             // boxes of a phase before those of the next

  // What a box reads is copied with its padding, channel_step of `inner` at a time.
  bool windowed;
  int64_t channel_step;
  int64_t window;  // elements

  bool skips;      // products with the padding are left out where they are many
  bool dots;       // few columns: lanes are products (conv_tile.h)
  bool packed;     // w (in filter gradients dy) is copied to panels
  bool is_panel;   // it is one where it lies
  int width;       // vectors of a panel
  int64_t group;   // columns at a time
  int64_t k_step;  // products between visits of a sum: a panel of B stays in L1
  int64_t k_most;  // products of a sum, or of a channel step of it

  // By minimal filtering (conv_winograd.h): 2 x 2 outputs are a tile, `tiles` of them a block;
  // its columns are cut into parts where there are few tiles.
  bool winograd;
  int64_t tile_rows, tile_cols;  // of an image
  int64_t tiles, column_parts;

  // Every channel alone, whole vectors of them (conv_depthwise.h).
  bool depthwise;

  Store store;
  int extra;       // operand of the register epilogue, in Call::tensors
  bool direct;     // sums go straight from registers into the result
  bool evaluates;  // the expression runs over blocks of sums

  // Filter gradient: partial sums of `chunks` parts of the batch; cells of channel_step channels,
  // `channel_block` of them copied at a time.
  int64_t chunks, channel_parts, channel_block;
};

// For a call that check_conv (common/conv_call.h) accepts.
void read_conv(const Call& call, Task task, Conv& c);

Strides image_strides(const Tensor& t);
Strides filter_strides(const Tensor& t);

// Elements of the window of the largest box, and output pixels of that box.
int64_t window_elements(const Conv& c, int64_t pixel);
inline int64_t box_pixels(const Conv& c) { return c.box_images * c.box_rows * c.box_cols; }
inline int64_t box_count(const Conv& c) {
  return c.boxes[0] * c.boxes[1] * c.boxes[2] * c.boxes[3];
}

// Ranges of columns and channels, and phases: each is worked on box by box.
inline int64_t conv_cells(const Conv& c) {
  return c.groups * ceil_div(c.cols, c.group) * c.channel_parts * c.phases[0] * c.phases[1] *
         c.phases[2];
}

inline double real(int64_t x) { return static_cast<double>(x); }

// Taps of the largest phase.
int64_t taps(const Conv& c);
double flops_of(const Conv& c);

// Boxes, cells, chunks and channel steps, once the way and the columns are chosen.
void cut_conv(Conv& c, int lanes, int64_t size);

constexpr int64_t kLineBytes = 64;
constexpr int64_t kPanelBytes = 524288;  // of copied filters

// Scratch as arrays, each from a line on.
struct Room {
  int64_t bytes = 0;

  template <class E>
  int64_t take(int64_t elements) {
    const int64_t start = bytes;
    bytes += round_up(elements * int64_t{sizeof(E)}, kLineBytes);
    return start;
  }
};

// Of so many columns an expression takes as many rows of sums at a time, and registers.
inline int64_t evaluated_rows(int64_t cols) { return most(1, kBlockSums / cols); }
template <class T>
int64_t register_elements(const Conv& c, int64_t cols) {
  return c.evaluates ? register_elements<T>(c.expression, evaluated_rows(cols), cols) : 0;
}

// Parts of the forward pass and the input gradient are numbered by columns, run of boxes, phase,
// box: phases read the same dy, while it is in the caches, and the shares of threads have the same
// of each, whose taps differ in number.
struct ConvPart {
  int64_t cell, box;
};

inline ConvPart find_part(const Conv& c, int64_t index) {
  const int64_t boxes = box_count(c), phases = c.phases[0] * c.phases[1] * c.phases[2];
  const int64_t columns = index / (boxes * phases), i = index % (boxes * phases);
  const int64_t first = i / (c.run * phases) * c.run, run = least(c.run, boxes - first);
  const int64_t phase = (i - first * phases) / run, box = first + (i - first * phases) % run;
  return {phase * (conv_cells(c) / phases) + columns, box};
}

// Fills flops and bytes.
void count_cost(const Call& call, const Conv& c, Work& work);

// The geometry whose outputs are cut into boxes, at its largest.
ConvAxis largest_phase(const Conv& c, int d);

}  // namespace dl::DL_LEVEL
