// Decisions of gemm: orientation, register tile, blocks, packing and the cut into parts. All follow
// from shapes, strides and types; none changes a bit of the result, since every output is one chain
// over k.
#include "cpu/kernels/gemm_plan.h"

#include "common/gemm.h"

namespace dl::DL_LEVEL {

namespace {

// Rows this many bytes apart, or a multiple of it, meet in few sets of the caches.
constexpr int64_t kPage = 4096;
constexpr int64_t kFarRow =
    kVectorRegisters == 32 ? kPage : 2048;  // for B; low tiles read it more often
constexpr int64_t kGroupBytes =
    512;  // a row of the column group: one k block of B's group stays in L2
constexpr int64_t kWideGroupBytes =
    4096;  // when A is packed too: B's group in L3, a panel of it in L1
constexpr int64_t kGroupPart = int64_t{1} << 18;  // of L2: B's group may be wider while k is small
constexpr int64_t kManyRows = 96;                 // rows of A that are worth a copy of B
constexpr int64_t kSomeRows = 16;  // the same, where a B in place is more than half of L2 keeps
constexpr int64_t kPackedRows = 32768;  // elements of packed A: a block of its rows stays in L2
constexpr int64_t kHeldSums = 262144;   // sums that wait in scratch between blocks of k
constexpr int64_t kStreamBytes = int64_t{1} << 22;  // a B that no L2 holds
constexpr double kMinPartFlops = 0.25e6, kMaxPartFlops = 4e6;
constexpr double kMinPartBytes = 65536;

// Large enough for copies to cost little: each element then serves many tiles.
bool is_large(const Product& p) { return p.n >= 768 && p.k >= 256 && p.m >= 256; }

// A gradient of weights, x^T dy: each k is a row of x and one of dy, and the rows between those
// that a tile reads push them out of L1. Copied they lie side by side (a fifth faster with k in the
// thousands).
bool is_long(const Product& p) {
  return kVectorRegisters == 16 && p.a_row == 1 && p.a_col != 1 && p.k >= 512 && p.m >= 64 &&
         p.n >= 64;
}

// Copying takes about a third of a cycle an element, which then serves n / lanes multiply-adds.
// With 32 registers a multiply-add is so cheap beside it, and tiles so tall, that A in place is
// better even when large.
bool pays_to_pack_a(const Product& p, int lanes, int64_t size) {
  if (p.k < 16 || p.m < 4) return false;
  if (p.a_row != 1 && p.a_col != 1) return p.n > 2 * lanes;
  if (kVectorRegisters == 32) return false;
  const bool far_rows = p.a_col == 1 && p.a_row * size % kPage == 0;
  const bool far_cols = p.a_row == 1 && p.a_col * size % kFarRow == 0;
  return is_large(p) || is_long(p) || ((far_rows || far_cols) && p.n >= 8 * lanes);
}

bool is_unit(int64_t stride, int64_t size) { return stride == 1 || size <= 1; }

// Leading axes over which b is constant are more rows of a, wherever all strides continue.
void read_axes(const Call& call, Product& p) {
  const Tensor& out = call.tensors[0];
  p.row_axis = out.rank - 2;
  p.m = out.shape[out.rank - 2];
  p.n = out.shape[out.rank - 1];
  p.k = p.a->shape[out.rank - 1];
  int d = p.row_axis - 1;
  for (; d >= 0 && (p.b->stride[d] == 0 || out.shape[d] == 1); --d) {
    bool continues = true;
    for (int t = 0; t < call.n_tensors && continues && p.m != 1; ++t) {
      const Tensor& x = call.tensors[t];
      continues = &x == p.b || out.shape[d] == 1 || x.stride[d] == x.stride[p.row_axis] * p.m;
    }
    if (!continues) break;
    if (p.m == 1) p.row_axis = d;
    p.m *= out.shape[d];
  }
  p.batch_axes = d + 1;
  p.batches = 1;
  for (d = 0; d < p.batch_axes; ++d) p.batches *= out.shape[d];
}

// Cycles of moving what has to be transposed or gathered, and of the multiply-adds with n in the
// lanes.
double orientation_cost(double m, double n, double k, bool b_unit, bool c_unit, int lanes) {
  constexpr double kMove = 0.3;
  const double vectors = static_cast<double>(ceil_div(static_cast<int64_t>(n), lanes));
  return (b_unit ? 0 : kMove * k * n) + (c_unit ? 0 : kMove * m * n) + 0.5 * m * k * vectors;
}

void orient(const Call& call, Product& p, int lanes) {
  const Tensor& out = call.tensors[0];
  const int row = out.rank - 2, col = row + 1;
  p.a_row = p.a->stride[p.row_axis], p.a_col = p.a->stride[col];
  p.b_row = p.b->stride[row], p.b_col = p.b->stride[col];
  p.c_row = out.stride[p.row_axis], p.c_col = out.stride[col];
  const bool plain = is_unit(p.b_col, p.n) && is_unit(p.c_col, p.n);
  p.swap = !(plain && p.n >= lanes / 2) &&
           orientation_cost(p.n, p.m, p.k, is_unit(p.a_row, p.m), is_unit(p.c_row, p.m), lanes) <
               orientation_cost(p.m, p.n, p.k, is_unit(p.b_col, p.n), is_unit(p.c_col, p.n), lanes);
  if (p.swap) {
    const Tensor* a = p.a;
    p.a = p.b, p.b = a;
    const Product q = p;
    p.m = q.n, p.n = q.m;
    p.a_row = q.b_col, p.a_col = q.b_row, p.b_row = q.a_col, p.b_col = q.a_row;
    p.c_row = q.c_col, p.c_col = q.c_row;
  }
  if (p.n <= 1) p.b_col = p.c_col = 1;
  if (p.m <= 1) p.a_row = p.c_row = 1;
}

// Many rows are worth copying B for: panels of four vectors then stay in L1, whatever the distance
// of B's rows, and take the fewest instructions a multiply-add (measured on Zen 3: 1.2 x as fast as
// panels of two in place).
bool packs_wide_panels(const Product& p, int64_t size) {
  const int64_t rows = p.n * p.k * size > kGroupPart ? kSomeRows : kManyRows;
  return kVectorRegisters == 16 && !p.pack_a && p.m >= rows;
}

// The tile with the least modelled cycles per k: multiply-adds at 2 a cycle, their latency, loads
// at 2 a cycle.
void choose_tile(Product& p, int lanes, int64_t size) {
  const int64_t vectors = ceil_div(p.n, lanes);
  // Rows of A a multiple of a page apart meet in one set of L1, which has room for about 8 of them.
  const int cap = p.a_row * size % kPage == 0 && !p.pack_a && p.m > 8 ? 8 : kTallest;
  double best = 0;
  p.width = 0;
  // Of equals the first.
  const int preferred = packs_wide_panels(p, size) ? 4 : 2;
  const int widths[] = {preferred, 3, 6 - preferred, 8, 1};
  for (const int w : widths) {
    if (w > vectors || (w == 1 && p.width)) continue;
    const int h = static_cast<int>(least(max_height(w), cap));
    const double strips = static_cast<double>(ceil_div(p.m, h)),
                 mean = static_cast<double>(p.m) / strips;
    auto cycles = [&](double v) {
      double c = mean * v * 0.5;
      if (c < 4) c = 4;
      return strips * (c < (mean + v) * 0.5 ? (mean + v) * 0.5 : c);
    };
    double cost = static_cast<double>(vectors / w) * cycles(w);
    if (vectors % w) cost += cycles(static_cast<double>(vectors % w));
    if (!p.width || cost < best * 0.999) best = cost, p.width = w, p.height = h;
  }
  if (!p.width) p.width = 1, p.height = 1;
}

void choose_blocks(Product& p, int lanes, int64_t size) {
  const int64_t row_bytes = (p.b_row < 0 ? -p.b_row : p.b_row) * size;
  const int64_t tile = p.width * lanes;
  const bool by_width = p.width == 4 && packs_wide_panels(p, size);
  p.pack_b = p.b_col != 1 || by_width || is_large(p) || is_long(p) ||
             ((row_bytes >= kPage || row_bytes % kFarRow == 0) && p.m > 4 * p.height);
  // A copy apart takes a tenth of the time of 32 rows, and none to speak of beside many.
  p.copies = p.pack_b && !p.pack_a && p.b_col == 1 && p.m < kManyRows;
  const bool both = p.pack_a && p.pack_b;
  p.by_panels = p.pack_a || by_width;
  const int64_t k_most = (both ? 1536 : 4096) / size;
  p.k_step = p.k <= k_most ? most(p.k, 1) : ceil_div(p.k, ceil_div(p.k, k_most * 2 / 3));
  // The epilogue, as an optimizer's update, reads and writes rows of the group: the longer, the
  // better (the gradient of weights with Adam, batch 32: 1.25 x as fast as in rows of 512 bytes).
  int64_t row = both ? kWideGroupBytes : kGroupBytes;
  if (p.by_panels && !both) row = most(row, least(kWideGroupBytes, kGroupPart / p.k_step));
  p.group = most(1, row / size / tile) * tile;
  p.packed_rows = most(1, kPackedRows / p.k_step / p.height) * p.height;
  if (p.width == 8 && p.b_col == 1 && p.n >= 2 * tile && p.n * p.k * size >= kStreamBytes) {
    // A few rows against a large B: memory is the limit, so B is read in long runs, a few rows at a
    // time.
    p.streams = p.m == 1;
    p.k_step = least(p.k, kStreamRows);
    p.group = least(round_up(p.n, tile), 4096 / tile * tile);
  }
}

// An add of a row, with relu or not, and the mask of relu's gradient are applied in registers.
void recognise(const Call& call, Product& p) {
  const Tensor& out = call.tensors[0];
  p.evaluates = true;
  if (p.swap || !p.direct) return;
  const Epilogue e = match_epilogue(p.expression);
  if (!e.input) return;
  const int index = p.n_out + 1 + e.input;
  const Tensor& t = call.tensors[index];
  if (t.dtype != p.dtype || !is_unit(t.stride[t.rank - 1], p.n)) return;
  if (e.store != Store::relu_grad && p.m > 1 && t.stride[p.row_axis] != 0) return;
  if (p.k > p.k_step && t.data == out.data) return;  // in place: y must outlive the sums
  p.store = e.store;
  p.extra = index;
  p.evaluates = false;
}

void choose_sums(const Call& call, Product& p) {
  const Tensor& out = call.tensors[0];
  p.direct = out.dtype == p.dtype && p.c_col == 1;
  p.store = Store::plain;
  p.extra = 0;
  p.evaluates = false;
  if (p.has_expression) recognise(call, p);
  p.sums_in_c = p.direct;
  for (int t = 1; t < call.n_tensors; ++t) {
    if (p.evaluates && t != p.n_out && t != p.n_out + 1 && call.tensors[t].data == out.data)
      p.sums_in_c = false;
  }
  if (p.evaluates) p.direct = false;
  p.row_limit = INT64_MAX;
  if (p.k > p.k_step && !p.sums_in_c)
    p.row_limit = most(p.height, kHeldSums / p.group / p.height * p.height);
}

// `wanted` parts of the panels or somewhat more: a number that divides them, else an even one. The
// two halves of 5 parts of 32 panels would be 15.5 and 16.5 panels.
int64_t equal_parts(int64_t panels, int64_t wanted) {
  for (int64_t parts = wanted; parts < 2 * wanted && parts <= panels; ++parts)
    if (panels % parts == 0) return parts;
  return least(panels, wanted + wanted % 2);
}

// Parts are many and small, and equal within a tile; a thread joins its neighbouring parts into one
// rectangle again.
void cut(const Call& call, Product& p, int lanes) {
  constexpr double kRowsOfRead = 8;  // reading B costs as much as multiplying it by so many rows
  const double rows =
      static_cast<double>(p.m) < kRowsOfRead ? kRowsOfRead : static_cast<double>(p.m);
  const double each = 2.0 * rows * static_cast<double>(p.n) * static_cast<double>(p.k);
  const double total = each * static_cast<double>(p.batches);
  p.batch_step = p.batch_parts = p.col_parts = p.row_parts = 1;
  if (p.m == 0 || p.n == 0 || p.batches == 0) {
    p.batch_parts = 0;
    return;
  }
  p.batch_step = p.batches;
  // Of results and what an epilogue reads beside them.
  const double bytes = static_cast<double>(p.m) * static_cast<double>(p.n) *
                       static_cast<double>((call.n_tensors - 2) * size_of(p.dtype));
  const bool by_bytes = total < 2 * kMinPartFlops;
  if (by_bytes && (p.batches > 1 || bytes < 2 * kMinPartBytes)) return;
  p.batch_step = 1;
  double part = total / 64;
  part = part < kMinPartFlops ? kMinPartFlops : part > kMaxPartFlops ? kMaxPartFlops : part;
  if (part < total / 256) part = total / 256;
  if (each < part) p.batch_step = least(p.batches, static_cast<int64_t>(part / (each + 1)) + 1);
  p.batch_parts = ceil_div(p.batches, p.batch_step);
  int64_t wanted = static_cast<int64_t>(by_bytes ? bytes / kMinPartBytes : each / part);
  if (wanted <= 1 || p.batch_step > 1) return;
  wanted += wanted % 2;
  const int64_t panels = ceil_div(p.n, p.width * lanes);
  p.col_parts = least(ceil_div(p.n, p.group), wanted);
  const int64_t tall = p.m / (4 * p.height);
  while (p.row_parts * 2 <= tall && p.row_parts * p.col_parts < wanted) p.row_parts *= 2;
  if (p.row_parts * p.col_parts < wanted)
    p.col_parts = equal_parts(panels, least(panels, ceil_div(wanted, p.row_parts)));
  if (p.row_parts * p.col_parts % 2 && p.m >= 2 * p.height) p.row_parts *= 2;
  // An update reads and writes whole rows: halves of each would have the prefetchers of one core
  // take lines that the other has just written (512x512 with Adam, batch 32: 1.5 x as fast).
  p.by_rows = p.evaluates && !p.swap && p.n <= p.group && 2 * p.m >= p.n;
}

}  // namespace

void read_gemm(const Call& call, Product& p) {
  p.has_expression = call.n_ints > 0;
  p.n_out = 1;
  if (p.has_expression) {
    decode(call.ints, call.n_ints, call.floats, call.n_floats, p.expression);
    p.n_out = p.expression.n_out;
  }
  p.a = &call.tensors[p.n_out];
  p.b = p.a + 1;
  p.dtype = p.a->dtype;
  const int64_t size = size_of(p.dtype);
  const int lanes = static_cast<int>(kVectorBytes / size);
  read_axes(call, p);
  orient(call, p, lanes);
  p.pack_a = pays_to_pack_a(p, lanes, size);
  choose_tile(p, lanes, size);
  choose_blocks(p, lanes, size);
  choose_sums(call, p);
  cut(call, p, lanes);
}

}  // namespace dl::DL_LEVEL
