// out... = expression(in...), element by element, over any layout. Loops are merged as far as
// strides allow; the two innermost are the rows and columns of blocks that the evaluator works on,
// and a part is a run of blocks. Where short rows meet one vector, as images meet a bias, some rows
// are one wide row that meets the vector as many times.
#include "cpu/kernels/expression.h"
#include "cpu/kernels/level.h"
#include "common/loops.h"

namespace dl::DL_LEVEL {

constexpr int64_t kPartElements = 16 << 10;
constexpr int64_t kRegisterBytes =
    24 << 10;  // all registers of a block together, of an L1 cache of 32 or 48 KiB
constexpr int64_t kOneBlock = 256;  // elements that are one block in any case
constexpr int64_t kTransposeCols =
    64;  // columns of a block where an input lies the other way round

constexpr int64_t kPastCaches =
    32 << 20;  // bytes of an output that will not be found in a cache anyway

constexpr int64_t kWideRow = 512;  // elements that short rows are joined to

struct Pointwise {
  Expression e;
  Loops loops;
  int64_t rows, cols, outer;  // the innermost two loops, and all others
  int64_t block_rows, block_cols;
  int64_t row_blocks, col_blocks, blocks_per_part, parts;
  int64_t fold;       // rows that are one wide row
  uint64_t repeated;  // inputs that every row meets alike, if fold > 1
  bool stream;  // one dense output too large for the caches: blocks are made in scratch and stored
                // past them
};

// Moves the loop along which an input is contiguous next to the innermost, if some input lies
// across the output.
static bool find_transposed(const Expression& e, Loops& loops) {
  const int inner = loops.rank - 1;
  for (int t = e.n_out; t < loops.n_tensors; ++t) {
    if (loops.rank < 2 || magnitude(loops.stride[inner][t]) <= 1) continue;
    for (int d = 0; d < inner; ++d) {
      if (loops.stride[d][t] != 1) continue;
      const Loops old = loops;
      for (int k = d; k < inner; ++k) {
        const int from = k == inner - 1 ? d : k + 1;
        loops.shape[k] = old.shape[from];
        for (int i = 0; i < loops.n_tensors; ++i) loops.stride[k][i] = old.stride[from][i];
      }
      return true;
    }
  }
  return false;
}

// Which inputs are vectors that all rows meet; the rest must lie in one run, or be one number.
static void find_fold(const Call& call, Pointwise& p) {
  const int rank = p.loops.rank;
  p.fold = 1, p.repeated = 0;
  if (rank < 2 || p.cols > kWideRow / 2) return;
  const int64_t *row = p.loops.stride[rank - 2], *col = p.loops.stride[rank - 1];
  for (int t = 0; t < call.n_tensors; ++t) {
    if (col[t] == 1 && row[t] == p.cols) continue;
    if (t < p.e.n_out || row[t] != 0 || col[t] > 1 || col[t] < 0) return;
    if (col[t] == 0) continue;
    if (call.tensors[t].dtype != DType(p.e.compute)) return;
    p.repeated |= uint64_t(1) << (t - p.e.n_out);
  }
  p.fold = p.repeated ? kWideRow / p.cols : 1;
  p.fold = p.fold > p.rows ? p.rows : p.fold;
}

static int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

static void choose_blocks(Pointwise& p, bool transposed, int element_bytes, int n_registers) {
  if (p.rows * p.outer == 1 &&
      p.cols <= kOneBlock) {  // no divisions: they would be most of a small call
    p.block_rows = p.row_blocks = p.col_blocks = p.blocks_per_part = p.parts = p.fold = 1;
    p.block_cols = p.cols;
    return;
  }
  int64_t most = kPartElements;  // nothing but operands: as long as it gets
  if (n_registers > 0) {
    most = kRegisterBytes / (n_registers * element_bytes) / 64 * 64;
    most = most < 256 ? 256 : most > 2048 ? 2048 : most;
  }
  p.block_cols = p.cols < most ? p.cols : most;
  if (transposed && p.block_cols > kTransposeCols)
    p.block_cols = kTransposeCols, most = most < 2048 ? most : 2048;
  p.block_rows = most / p.block_cols;
  p.block_rows = p.block_rows < 1 ? 1 : p.block_rows > p.rows ? p.rows : p.block_rows;
  if (p.fold > p.block_rows) p.fold = p.block_rows;
  p.block_rows -= p.block_rows % p.fold;
  p.row_blocks = ceil_divide(p.rows, p.block_rows);
  p.col_blocks = ceil_divide(p.cols, p.block_cols);
  const int64_t blocks = p.outer * p.row_blocks * p.col_blocks,
                part = kPartElements / (p.block_rows * p.block_cols);
  p.blocks_per_part = part < 1 ? 1 : part;
  p.parts = ceil_divide(blocks, p.blocks_per_part);
}

static const char* make(const Call& call, Pointwise& p) {
  if (const char* wrong = decode(call.ints, call.n_ints, call.floats, call.n_floats, p.e))
    return wrong;
  if (const char* wrong = check_pointwise(call, p.e)) return wrong;
  const Tensor* t = call.tensors;
  p.loops.rank = 0;
  add_loops(p.loops, t, call.n_tensors, 0, [](int) { return true; });
  const bool transposed = find_transposed(p.e, p.loops);
  const int rank = p.loops.rank;
  p.cols = rank > 0 ? p.loops.shape[rank - 1] : 1;
  p.rows = rank > 1 ? p.loops.shape[rank - 2] : 1;
  p.outer = rank > 2 ? p.loops.size(0, rank - 2) : 1;
  if (p.cols * p.rows * p.outer == 0) {
    p.parts = 0, p.block_rows = p.block_cols = p.fold = 1, p.stream = false;
    return nullptr;
  }
  find_fold(call, p);
  int n_registers = p.e.n_temp;
  for (int i = 0; i < p.e.n_in; ++i) {
    const Tensor& x = t[p.e.n_out + i];
    const int64_t stride = rank ? p.loops.stride[rank - 1][p.e.n_out + i] : 0;
    n_registers +=
        (p.e.read >> i & 1) && stride != 0 && (stride != 1 || x.dtype != DType(p.e.compute));
  }
  for (int o = 0; o < p.e.n_out; ++o)  // written in place
    n_registers -= p.e.made_by[o] >= 0 && t[o].dtype == DType(p.e.compute) && n_registers > 0;
  const int bytes = p.e.compute ? 8 : 4;
  p.stream = p.e.n_out == 1 && t[0].dtype == DType(p.e.compute) && rank == 1 &&
             p.loops.stride[0][0] == 1 && p.cols * bytes >= kPastCaches;
  choose_blocks(p, transposed, bytes, n_registers + p.stream);
  return nullptr;
}

static int64_t repeated_elements(const Pointwise& p) {
  return p.fold > 1 ? __builtin_popcountll(p.repeated) * p.fold * p.cols : 0;
}

// One block with `fold` rows at a time; `vectors` has room for what they meet.
template <class T>
static void evaluate_folded(const Pointwise& p, int64_t rows, Operand* operands, T* vectors,
                            const char** known, T* registers) {
  Operand wide[kMaxTensors];
  const int64_t cols = p.cols * p.fold, wide_rows = rows / p.fold;
  for (int t = 0; t < p.loops.n_tensors; ++t) {
    wide[t] = operands[t];
    if (wide[t].row_stride) wide[t].row_stride = cols;
    const int i = t - p.e.n_out;
    if (i < 0 || !(p.repeated >> i & 1)) continue;
    const T* x = reinterpret_cast<const T*>(operands[t].data);
    if (known[i] != operands[t].data)
      for (int64_t c = 0; c < cols; ++c) vectors[c] = c < p.cols ? x[c] : vectors[c - p.cols];
    known[i] = operands[t].data;
    wide[t].data = reinterpret_cast<char*>(vectors);
    vectors += cols;
  }
  evaluate<T>(p.e, wide_rows, cols, wide, wide + p.e.n_out, registers);
  if (wide_rows * p.fold == rows) return;
  for (int t = 0; t < p.loops.n_tensors; ++t)
    operands[t].data += wide_rows * p.fold * operands[t].row_stride * size_of(operands[t].dtype);
  evaluate<T>(p.e, rows - wide_rows * p.fold, p.cols, operands, operands + p.e.n_out, registers);
}

// Of the expression's registers, and of the block that goes past the caches.
template <class T>
static int64_t register_elements(const Pointwise& p) {
  const int64_t n = register_elements<T>(p.e, p.block_rows, p.block_cols);
  return (n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

template <class T>
static void copy_past_caches(T* out, const T* x, int64_t n) {
  constexpr int64_t L = kLanes<T>;
  int64_t i = 0;
  while (i < n && reinterpret_cast<uintptr_t>(out + i) % kVectorBytes) out[i] = x[i], ++i;
  for (; i + L <= n; i += L) store_past_caches<T>(out + i, load<T>(x + i));
  for (; i < n; ++i) out[i] = x[i];
}

template <class T>
static void run(const Call& call, const Pointwise& p, int64_t begin, int64_t end, T* registers) {
  const Loops& l = p.loops;
  const int rank = l.rank, n = call.n_tensors;
  Operand operands[kMaxTensors];
  for (int i = 0; i < n; ++i)
    operands[i] = {nullptr, call.tensors[i].dtype, rank > 1 ? l.stride[rank - 2][i] : 0,
                   rank > 0 ? l.stride[rank - 1][i] : 0};
  prepare<T>(p.e, p.block_rows, p.block_cols, registers);
  T* past = registers + register_elements<T>(p);  // room that only one of the two needs
  T* vectors = past;
  const char* known[kMaxValues] = {};  // whose repetitions lie there
  bool stream = p.stream;              // not over an input, whose lines are in the cache already
  for (int i = p.e.n_out; i < n; ++i) stream &= call.tensors[i].data != call.tensors[0].data;
  const int64_t blocks = p.outer * p.row_blocks * p.col_blocks;
  const int64_t first = begin * p.blocks_per_part, last = end * p.blocks_per_part;
  for (int64_t b = first; b < last && b < blocks; ++b) {
    const int64_t plane = b / p.col_blocks;
    const int64_t c = b % p.col_blocks * p.block_cols, r = plane % p.row_blocks * p.block_rows;
    const int64_t cols = p.cols - c < p.block_cols ? p.cols - c : p.block_cols;
    const int64_t rows = p.rows - r < p.block_rows ? p.rows - r : p.block_rows;
    for (int i = 0; i < n; ++i) {
      int64_t offset = r * operands[i].row_stride + c * operands[i].col_stride;
      if (rank > 2) offset += l.offset(i, rank - 2, plane / p.row_blocks);
      operands[i].data = call.tensors[i].data + offset * size_of(operands[i].dtype);
    }
    char* const data = operands[0].data;
    if (stream) operands[0].data = reinterpret_cast<char*>(past);
    if (p.fold > 1)
      evaluate_folded<T>(p, rows, operands, vectors, known, registers);
    else
      evaluate<T>(p.e, rows, cols, operands, operands + p.e.n_out, registers);
    if (stream) copy_past_caches<T>(reinterpret_cast<T*>(data), past, cols);
  }
  if (stream) fence();
}

const char* plan_pointwise(const Call& call, Work& work) {
  Pointwise p;
  if (const char* wrong = make(call, p)) return wrong;
  work.outputs = p.e.n_out;
  work.prepared_bytes = sizeof p;
  if (call.prepared) std::memcpy(call.prepared, &p, sizeof p);
  work.parts[0] = p.parts;
  const int64_t past = p.stream ? p.block_rows * p.block_cols : repeated_elements(p);
  work.scratch_bytes = p.e.compute ? (register_elements<double>(p) + past) * 8
                                   : (register_elements<float>(p) + past) * 4;
  work.flops = cost(p.e) * double(p.parts ? p.rows * p.cols * p.outer : 0);
  work.bytes = 0;
  for (int i = 0; i < call.n_tensors; ++i) {
    double elements = 1;
    for (int d = 0; d < p.loops.rank; ++d)
      elements *= p.loops.stride[d][i] ? double(p.loops.shape[d]) : 1;
    work.bytes += elements * double(size_of(call.tensors[i].dtype));
  }
  return nullptr;
}

void run_pointwise(const Call& call, int, int64_t begin, int64_t end, char* scratch) {
  Pointwise fresh;
  if (!call.prepared) make(call, fresh);
  const Pointwise& p = call.prepared ? *static_cast<const Pointwise*>(call.prepared) : fresh;
  if (p.e.compute)
    run<double>(call, p, begin, end, reinterpret_cast<double*>(scratch));
  else
    run<float>(call, p, begin, end, reinterpret_cast<float*>(scratch));
}

}  // namespace dl::DL_LEVEL
