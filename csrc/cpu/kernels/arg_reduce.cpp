// out = index of the largest (or smallest) element along the one reduced axis: the first of equals;
// NaN wins, as in NumPy. Rows that lie in memory are searched for their extreme value, then for its
// place; others are walked row by row, a block of columns at a time.
#include "common/reduce.h"
#include "cpu/kernels/expression.h"
#include "cpu/kernels/level.h"
#include "cpu/kernels/reducers.h"
#include "cpu/math.h"

namespace dl::DL_LEVEL {

constexpr int64_t kColumns = 512;  // outputs that are found together
constexpr int64_t kPartElements = 16 << 10;

struct ArgReduce {
  Loops kept, reduced;
  int64_t outputs, size, block, blocks, parts, blocks_per_part;
  bool along;
};

static const char* make(const Call& call, ArgReduce& p) {
  const Tensor *t = call.tensors, &out = t[0], &in = t[1];
  int axis = -1;
  if (const char* wrong = check_arg_reduce(call, axis)) return wrong;
  const Tensor both[2] = {in, out};
  p.kept.rank = p.reduced.rank = 0;
  add_loops(p.kept, both, 2, 0, [&](int d) { return d != axis; });
  add_loops(p.reduced, both, 1, 0, [&](int d) { return d == axis; });
  p.outputs = p.kept.size(0, p.kept.rank), p.size = p.reduced.size(0, p.reduced.rank);
  // A block: outputs of one innermost kept loop.
  const int64_t run = p.kept.rank ? p.kept.shape[p.kept.rank - 1] : 1;
  p.along = in.dtype <= DType::f64 && (p.reduced.rank == 0 || p.reduced.stride[0][0] == 1);
  const int64_t most = p.along && p.size > 64 ? 1 : p.kept.rank ? kColumns : 1;
  p.block = run < 1 ? 1 : run < most ? run : most;
  p.blocks = p.outputs == 0 ? 0 : p.outputs / run * ((run + p.block - 1) / p.block);
  const int64_t each = kPartElements / (p.block * p.size);
  p.blocks_per_part = each < 1 ? 1 : each;
  p.parts = (p.blocks + p.blocks_per_part - 1) / p.blocks_per_part;
  return nullptr;
}

static void store_index(const Tensor& out, int64_t offset, int64_t index) {
  if (out.dtype == DType::i32)
    out.as<int32_t>()[offset] = int32_t(index);
  else
    out.as<int64_t>()[offset] = index;
}

// First place of the extreme value in a run.
template <class T, class Kind>
static int64_t find(const T* x, int64_t n) {
  constexpr int L = kLanes<T>;
  if (n < 4 * L) {
    int64_t best = 0;
    for (int64_t i = 1; i < n && x[best] == x[best]; ++i)
      best = x[i] != x[i] || (Kind::identity < 0 ? x[i] > x[best] : x[i] < x[best]) ? i : best;
    return best;
  }
  const T extreme = reduce_run<T, Kind>(x, n, 1);
  const bool nan = extreme != extreme;
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    const Vec<T> v = load<T>(x + i);
    if (nan ? any(v != v) : any(v == extreme)) break;
  }
  while (i < n - 1 && !(nan ? x[i] != x[i] : x[i] == extreme)) ++i;
  return i;
}

// T is f32, or f64 for all other input types. Scratch: a row of columns, their best values and
// indices.
template <class T, class Kind>
static void run(const Call& call, const ArgReduce& p, int64_t begin, int64_t end, char* scratch) {
  const Tensor &out = call.tensors[0], &in = call.tensors[1];
  const int64_t bytes = size_of(in.dtype), run = p.kept.rank ? p.kept.shape[p.kept.rank - 1] : 1;
  const int64_t per_run = (run + p.block - 1) / p.block,
                step = p.reduced.rank ? p.reduced.stride[0][0] : 0;
  const int64_t across = p.kept.rank ? p.kept.stride[p.kept.rank - 1][0] : 0;
  constexpr DType type = sizeof(T) == 4 ? DType::f32 : DType::f64;
  T *row = reinterpret_cast<T*>(scratch), *best = row + kColumns;
  int64_t* index = reinterpret_cast<int64_t*>(best + kColumns);
  for (int64_t b = begin * p.blocks_per_part; b < end * p.blocks_per_part && b < p.blocks; ++b) {
    const int64_t c = b % per_run * p.block, first = b / per_run * run + c;
    const int64_t n = run - c < p.block ? run - c : p.block;
    const char* data = in.data + p.kept.offset(0, p.kept.rank, first) * bytes;
    const int64_t at = p.kept.offset(1, p.kept.rank, first),
                  out_step = p.kept.rank ? p.kept.stride[p.kept.rank - 1][1] : 0;
    if (p.along) {
      for (int64_t j = 0; j < n; ++j)
        store_index(out, at + j * out_step,
                    find<T, Kind>(reinterpret_cast<const T*>(data) + j * across, p.size));
      continue;
    }
    for (int64_t i = 0; i < p.size; ++i) {
      copy_block(1, n, {(char*)(i ? row : best), type, 0, 1},
                 {(char*)data + i * step * bytes, in.dtype, 0, across});
      for (int64_t j = 0; j < n; ++j) {
        const bool wins =
            i == 0 ||
            (best[j] == best[j] &&
             (row[j] != row[j] || (Kind::identity < 0 ? row[j] > best[j] : row[j] < best[j])));
        index[j] = wins ? i : index[j];
        best[j] = wins && i ? row[j] : best[j];
      }
    }
    for (int64_t j = 0; j < n; ++j) store_index(out, at + j * out_step, index[j]);
  }
}

const char* plan_arg_reduce(const Call& call, Work& work) {
  ArgReduce p;
  if (const char* wrong = make(call, p)) return wrong;
  work.parts[0] = p.parts;
  work.scratch_bytes = kColumns * 3 * 8;
  work.flops = 2 * double(p.outputs) * double(p.size);
  work.bytes = double(p.outputs) * double(p.size) * double(size_of(call.tensors[1].dtype));
  return nullptr;
}

void run_arg_reduce(const Call& call, int, int64_t begin, int64_t end, char* scratch) {
  ArgReduce p;
  make(call, p);
  const bool narrow = call.tensors[1].dtype == DType::f32, smallest = call.ints[0] == 1;
  if (narrow)
    smallest ? run<float, Min>(call, p, begin, end, scratch)
             : run<float, Max>(call, p, begin, end, scratch);
  else
    smallest ? run<double, Min>(call, p, begin, end, scratch)
             : run<double, Max>(call, p, begin, end, scratch);
}

}  // namespace dl::DL_LEVEL
