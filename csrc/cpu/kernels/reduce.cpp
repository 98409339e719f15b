// out = sum, max, min or product of an expression over any axes, in one of two forms:
//   along   the innermost loop is reduced: each output is the sum of runs, taken by vectors
//   across  the innermost loop is kept: rows are added to a row of accumulators
// The work of one output is cut into chunks by its shape alone; the chunks' partial results
// (double) meet in a second phase in their order. So bits depend neither on threads nor, along
// rows, on the number of rows.
#include "cpu/kernels/expression.h"
#include "cpu/kernels/level.h"
#include "common/reduce.h"
#include "cpu/kernels/reducers.h"

namespace dl::DL_LEVEL {

constexpr int64_t kChunk = 32 << 10;     // elements of a chunk, and about of a part
constexpr int64_t kInPlaceBlock = 8192;  // elements of a block that needs no registers
constexpr int64_t kRegisterBlock = 2048;
constexpr int64_t kRun = 256;  // outputs of a part of the second phase
constexpr int64_t kAcross =
    1024;  // columns accumulated at a time; narrow rows are taken several at once

struct Reduce {
  Expression e;
  int kind, kept;  // the first `kept` loops are kept, the others reduced
  Loops loops;
  bool across;
  int64_t rows, cols;     // innermost kept and reduced loops: rows x cols blocks
  int64_t outputs, size;  // numbers of outputs and of elements of each
  int64_t chunk, chunks;  // along: columns, or whole runs, of a chunk; across: rows
  int64_t block_rows, block_cols, fold;
  int64_t parts, part;  // along: `part` row blocks a part
};

static int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static void make_loops(const Call& call, Reduce& p) {
  const ReduceAxes axes = reduce_axes(call);
  p.loops = axes.loops, p.kept = axes.kept, p.across = axes.across;
  const Loops& l = p.loops;
  const bool has_kept = p.kept > 0, has_reduced = l.rank > p.kept;
  p.outputs = l.size(0, p.kept), p.size = l.size(p.kept, l.rank);
  const int64_t kept = has_kept ? l.shape[p.kept - 1] : 1,
                run = has_reduced ? l.shape[l.rank - 1] : 1;
  p.rows = p.across ? run : kept, p.cols = p.across ? kept : run;
}

static void cut(Reduce& p, bool in_place) {
  const int64_t block = in_place ? kInPlaceBlock : kRegisterBlock;
  if (p.across) {
    p.fold = larger(smaller(kAcross / p.cols, p.size / 4), 1);
    p.block_cols = smaller(p.cols, kAcross);
    p.chunk = larger(kChunk / (p.block_cols * p.fold), 1) * p.fold;
    p.chunks = ceil_divide(p.size, p.chunk);
    p.block_rows = smaller(larger(block / (p.block_cols * p.fold), 1) * p.fold, p.chunk);
    p.part = 1;
    p.parts = p.outputs / p.cols * p.chunks * ceil_divide(p.cols, p.block_cols);
  } else {
    p.fold = 1;
    p.block_cols = smaller(p.cols, block);
    const int64_t runs = p.size / p.cols;
    p.chunk = p.cols > kChunk ? kChunk : smaller(kChunk / p.cols, runs) * p.cols;
    p.chunks = p.cols > kChunk ? runs * ceil_divide(p.cols, kChunk) : ceil_divide(p.size, p.chunk);
    p.block_rows = p.chunks > 1 ? 1 : smaller(p.rows, larger(block / p.block_cols, 1));
    p.part = larger(kChunk / (p.block_rows * smaller(p.size, p.chunk)), 1);
    p.parts =
        ceil_divide(p.outputs / p.rows * ceil_divide(p.rows, p.block_rows) * p.chunks, p.part);
  }
}

static const char* make(const Call& call, Reduce& p) {
  if (const char* wrong = check_reduce(call, p.e)) return wrong;
  p.kind = int(call.ints[0]);
  make_loops(call, p);
  if (p.outputs * p.size == 0) {
    p.parts = p.outputs != 0, p.chunks = 1, p.block_rows = p.block_cols = p.fold = 1;
    return nullptr;
  }
  const int inner = p.across ? p.kept - 1 : p.loops.rank - 1;
  bool in_place = p.e.n_ops == 0;
  for (int t = 1; t < call.n_tensors; ++t)
    in_place &=
        call.tensors[t].dtype == DType(p.e.compute) && (inner < 0 || p.loops.stride[inner][t] == 1);
  cut(p, in_place);
  return nullptr;
}

// n outputs of the innermost kept loop; a float32 result is rounded as such before it is converted.
static void store(const Call& call, const Reduce& p, int64_t output, int64_t n, double* x) {
  const Tensor& out = call.tensors[0];
  const int64_t stride = p.kept ? p.loops.stride[p.kept - 1][0] : 1;
  char* data = out.data + p.loops.offset(0, p.kept, output) * size_of(out.dtype);
  if (!p.e.compute)
    for (int64_t i = 0; i < n; ++i) x[i] = float(x[i]);
  copy_block(1, n, {data, out.dtype, 0, n == 1 ? 1 : stride},
             {reinterpret_cast<char*>(x), DType::f64, 0, 1});
}

template <class T, class Kind>
struct Runner {
  const Call& call;
  const Reduce& p;
  T* registers;
  T* accumulators;
  double* results;  // of the rows of a block, or of the columns

  // Operands of the block at a kept index and a flat reduced index, which begins a row or lies
  // within one.
  View<T> block(int64_t kept_index, int64_t reduced_index, int64_t rows, int64_t cols) const {
    const Loops& l = p.loops;
    Operand in[kMaxTensors];
    const int kept = p.kept, inner_kept = kept - 1, inner_reduced = l.rank - 1;
    for (int t = 1; t < call.n_tensors; ++t) {
      int64_t offset = l.offset(t, kept, kept_index), rest = reduced_index;
      for (int d = inner_reduced; d >= kept; rest /= l.shape[d], --d)
        offset += rest % l.shape[d] * l.stride[d][t];
      const int64_t across = kept > 0 ? l.stride[inner_kept][t] : 0,
                    along = l.rank > kept ? l.stride[inner_reduced][t] : 0;
      const DType dtype = call.tensors[t].dtype;
      in[t - 1] = {call.tensors[t].data + offset * size_of(dtype), dtype, p.across ? along : across,
                   p.across ? across : along};
    }
    return evaluate_view<T>(p.e, rows, cols, in, registers);
  }

  void along(int64_t unit) const {
    const int64_t chunk = unit % p.chunks, blocks = ceil_divide(p.rows, p.block_rows),
                  at = unit / p.chunks;
    const int64_t row = at % blocks * p.block_rows, first = at / blocks * p.rows + row;
    const int64_t rows = smaller(p.rows - row, p.block_rows);
    int64_t begin, end;  // of the flat reduced index
    if (p.cols > kChunk) {
      const int64_t per_run = ceil_divide(p.cols, kChunk), run = chunk / per_run;
      begin = run * p.cols + chunk % per_run * kChunk;
      end = smaller(begin + kChunk, (run + 1) * p.cols);
    } else {
      begin = chunk * p.chunk, end = smaller(begin + p.chunk, p.size);
    }
    for (int64_t r = 0; r < rows; ++r) results[r] = Kind::identity;
    while (begin < end) {
      const int64_t cols = smaller(smaller(p.block_cols, p.cols - begin % p.cols), end - begin);
      const View<T> x = block(first, begin, rows, cols);
      for (int64_t r = 0; r < rows; ++r)
        results[r] = Kind::template combine<double>(
            results[r], reduce_run<T, Kind>(x.data + r * x.row_stride, cols, x.col_stride));
      begin += cols;
    }
    if (p.chunks > 1)
      reinterpret_cast<double*>(call.shared)[first * p.chunks + chunk] = results[0];
    else
      store(call, p, first, rows, results);
  }

  void across(int64_t unit) const {
    const int64_t col_blocks = ceil_divide(p.cols, p.block_cols);
    const int64_t col = unit % col_blocks * p.block_cols,
                  cols = smaller(p.block_cols, p.cols - col);
    const int64_t chunk = unit / col_blocks % p.chunks, outer = unit / col_blocks / p.chunks;
    const int64_t wide = cols * p.fold;
    fill<T>(accumulators, wide, T(Kind::identity));
    for (int64_t row = chunk * p.chunk, end = smaller(row + p.chunk, p.size); row < end;) {
      const int64_t rows = smaller(smaller(p.block_rows, p.rows - row % p.rows), end - row);
      add_rows<T, Kind>(accumulators, block(outer * p.cols + col, row, rows, cols), rows, cols,
                        p.fold);
      row += rows;
    }
    double* y = p.chunks > 1 ? reinterpret_cast<double*>(call.shared) +
                                   (outer * p.chunks + chunk) * p.cols + col
                             : results;
    for (int64_t c = 0; c < cols; ++c) y[c] = accumulators[c];
    for (int64_t group = cols; group < wide; group += cols)
      for (int64_t c = 0; c < cols; ++c)
        y[c] = Kind::template combine<double>(y[c], accumulators[group + c]);
    if (p.chunks == 1) store(call, p, outer * p.cols + col, cols, results);
  }

  void first_phase(int64_t begin, int64_t end) const {
    prepare<T>(p.e, p.block_rows, p.block_cols, registers);
    if (p.across) {
      for (int64_t unit = begin; unit < end; ++unit) across(unit);
    } else {
      const int64_t units = p.outputs / p.rows * ceil_divide(p.rows, p.block_rows) * p.chunks;
      for (int64_t unit = begin * p.part; unit < smaller(end * p.part, units); ++unit) along(unit);
    }
  }

  void second_phase(int64_t begin, int64_t end) const {
    const int64_t width = p.across ? p.cols : 1, inner = p.across ? p.cols : p.rows,
                  last = smaller(end * kRun, p.outputs);
    for (int64_t o = begin * kRun; o < last;) {
      const int64_t n = smaller(smaller(kRun, inner - o % inner), last - o);
      const double* x =
          reinterpret_cast<const double*>(call.shared) + o / width * p.chunks * width + o % width;
      if (p.across) {
        for (int64_t i = 0; i < n; ++i) results[i] = x[i];
        for (int64_t chunk = 1; chunk < p.chunks; ++chunk)
          for (int64_t i = 0; i < n; ++i)
            results[i] = Kind::template combine<double>(results[i], x[chunk * width + i]);
      } else {
        for (int64_t i = 0; i < n; ++i) {
          results[i] = x[i * p.chunks];
          for (int64_t k = 1; k < p.chunks; ++k)
            results[i] = Kind::template combine<double>(results[i], x[i * p.chunks + k]);
        }
      }
      store(call, p, o, n, results);
      o += n;
    }
  }

  void empty() const {
    for (int64_t o = 0; o < p.outputs; ++o) {
      double y = Kind::identity;
      store(call, p, o, 1, &y);
    }
  }
};

// Scratch: registers, accumulators, results, each on a line of its own.
template <class T>
static int64_t register_bytes(const Reduce& p) {
  return ceil_divide(register_elements<T>(p.e, p.block_rows, p.block_cols) * int64_t(sizeof(T)),
                     64) *
         64;
}

static int64_t accumulator_bytes(const Reduce& p) {
  return ceil_divide(p.block_cols * p.fold * 8, 64) * 64;
}

const char* plan_reduce(const Call& call, Work& work) {
  Reduce p;
  if (const char* wrong = make(call, p)) return wrong;
  work.parts[0] = p.parts;
  work.prepared_bytes = sizeof p;
  if (call.prepared) std::memcpy(call.prepared, &p, sizeof p);
  work.scratch_bytes = (p.e.compute ? register_bytes<double>(p) : register_bytes<float>(p)) +
                       accumulator_bytes(p) + larger(larger(p.block_rows, p.block_cols), kRun) * 8;
  if (p.chunks > 1) {
    work.phases = 2;
    work.parts[1] = ceil_divide(p.outputs, kRun);
    work.shared_bytes = p.outputs * p.chunks * 8;
  }
  work.flops = double(p.outputs) * double(p.size) * (cost(p.e) + 1);
  work.bytes = double(p.outputs) * double(size_of(call.tensors[0].dtype));
  for (int t = 1; t < call.n_tensors; ++t) {
    double elements = 1;
    for (int d = 0; d < p.loops.rank; ++d)
      elements *= p.loops.stride[d][t] ? double(p.loops.shape[d]) : 1;
    work.bytes += elements * double(size_of(call.tensors[t].dtype));
  }
  return nullptr;
}

template <class T, class Kind>
static void run(const Call& call, const Reduce& p, int phase, int64_t begin, int64_t end,
                char* scratch) {
  char* accumulators = scratch + register_bytes<T>(p);
  const Runner<T, Kind> runner{call, p, reinterpret_cast<T*>(scratch),
                               reinterpret_cast<T*>(accumulators),
                               reinterpret_cast<double*>(accumulators + accumulator_bytes(p))};
  if (begin >= end) return;
  if (p.size == 0) return runner.empty();
  phase == 0 ? runner.first_phase(begin, end) : runner.second_phase(begin, end);
}

template <class T>
static void run_kind(const Call& call, const Reduce& p, int phase, int64_t begin, int64_t end,
                     char* scratch) {
  switch (p.kind) {
    case 0:
      return run<T, Sum>(call, p, phase, begin, end, scratch);
    case 1:
      return run<T, Max>(call, p, phase, begin, end, scratch);
    case 2:
      return run<T, Min>(call, p, phase, begin, end, scratch);
    default:
      return run<T, Product>(call, p, phase, begin, end, scratch);
  }
}

void run_reduce(const Call& call, int phase, int64_t begin, int64_t end, char* scratch) {
  Reduce fresh;
  if (!call.prepared && make(call, fresh)) return;
  const Reduce& p = call.prepared ? *static_cast<const Reduce*>(call.prepared) : fresh;
  p.e.compute ? run_kind<double>(call, p, phase, begin, end, scratch)
              : run_kind<float>(call, p, phase, begin, end, scratch);
}

}  // namespace dl::DL_LEVEL
