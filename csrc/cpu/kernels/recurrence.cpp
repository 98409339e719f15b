// A recurrence over T steps:  for t = 0 .. T-1 (or backwards)
//   for each stage:  s = a[t] @ m  (or nothing);  out[t].. = expression(slices of s, in[t]..)
//
// Simple RNN, LSTM and GRU, forward and backward in time, and their gradients, are stages whose
// expressions the graph compiler writes. Rows of the batch do not touch each other, so a thread
// takes some rows through all steps without meeting the others, and any cut gives the same bits. m
// is packed into panels once, where there are steps enough to pay for it.
//
// What a call looks like: common/recurrence.h.
#include "common/recurrence.h"
#include "cpu/kernels/expression.h"
#include "cpu/kernels/gemm_pack.h"
#include "cpu/kernels/gemm_plan.h"
#include "cpu/kernels/gemm_tile.h"
#include "cpu/kernels/level.h"

namespace dl::DL_LEVEL {

namespace {

constexpr int64_t kBlock = 2048;      // elements of an expression's block: it stays in L1
constexpr int64_t kSums = 16384;      // of a block of rows: they stay in L2 beside a panel of m
constexpr int64_t kLeastRows = 16;    // of a block: they share each passage of m
constexpr int64_t kStepsToPack = 16;  // rows times steps that one packing of m serves

struct Layout : Recurrence {
  int tile_width;
  int64_t block_rows;
  bool pack[kMaxStages];
  int64_t panels[kMaxStages], registers[kMaxStages], sums, total;  // scratch, in elements
};

// Vectors of a panel of m. With 16 registers tiles of 4 x 3 take the fewest loads a multiply-add,
// and batches are often a multiple of 4 (measured on Zen 3, 16 rows: 1.03 x as fast as two vectors,
// 1.07 with 512 units, and 1.05 as four).
int choose_width(int64_t rows) {
  if (rows < 4) return rows < 2 ? 8 : 4;
  return kVectorRegisters == 16 ? 3 : 2;
}

// Tile, block of rows and scratch.
template <class T>
void lay_out(const Call& call, Layout& r) {
  constexpr int L = kLanes<T>;
  r.tile_width = choose_width(r.rows);
  int64_t widest = 1;
  for (int i = 0; i < r.n_stages; ++i) widest = most(widest, r.stages[i].n);
  const int64_t fitting = most(kLeastRows, least(64, kSums / widest));
  r.block_rows = least(r.rows, round_up(fitting, max_height(r.tile_width)));
  r.total = 0;
  auto take = [&r](int64_t elements) {
    const int64_t at = r.total;
    r.total += round_up(elements, 64 / sizeof(T));
    return at;
  };
  r.sums = take(r.block_rows * round_up(widest, L));
  for (int i = 0; i < r.n_stages; ++i) {
    Stage& s = r.stages[i];
    const bool in_place =
        s.k > 0 && !s.transposed && call.tensors[s.m].stride[1] == 1 && s.n % L == 0;
    r.pack[i] = s.k > 0 && !(in_place && r.steps * r.rows < kStepsToPack);
    r.panels[i] = take(r.pack[i] ? s.k * round_up(s.n, L) : 0);
    const int64_t cols = least(r.width, kBlock);
    r.registers[i] = take(register_elements<T>(s.expression, most(1, kBlock / cols), cols));
  }
}

template <class T>
class Runner {
 public:
  Runner(const Call& call, const Layout& r, char* scratch)
      : call_(call), r_(r), base_(reinterpret_cast<T*>(scratch)) {
    const int64_t cols = least(r.width, kBlock);
    for (int i = 0; i < r.n_stages; ++i) {
      if (r.pack[i]) pack(i);
      prepare(r.stages[i].expression, most(1, kBlock / cols), cols, base_ + r.registers[i]);
    }
  }

  // Rows [b0, b1) through all steps.
  void rows(int64_t b0, int64_t b1) {
    start(b0, b1);
    for (int64_t step = 0; step < r_.steps; ++step) {
      const int64_t t = r_.backwards ? r_.steps - 1 - step : step;
      for (int i = 0; i < r_.n_stages; ++i) {
        if (r_.stages[i].k > 0) product(i, t, b0, b1);
        pointwise(i, t, b0, b1);
      }
    }
  }

 private:
  static constexpr int64_t L = kLanes<T>;

  static int64_t row_stride(const Tensor& t) { return t.shape[1] == 1 ? 0 : t.stride[1]; }

  // Element (t + shift, b, slice * H) of a sequence.
  char* place(const Value& v, int64_t t, int64_t b) const {
    const Tensor& x = call_.tensors[v.tensor];
    const int64_t time = x.shape[0] == 1 && r_.steps != 1 ? 0 : t + v.shift;
    const int64_t at = time * x.stride[0] + b * row_stride(x) + v.slice * r_.width * x.stride[2];
    return x.data + at * size_of(x.dtype);
  }

  void start(int64_t b0, int64_t b1) {
    for (int h = 0; h < r_.n_histories; ++h) {
      T* y = reinterpret_cast<T*>(place({h, 0, 0}, r_.backwards ? r_.steps : 0, b0));
      const int64_t y_row = row_stride(call_.tensors[h]);
      const Tensor* x = r_.first[h] < 0 ? nullptr : &call_.tensors[r_.first[h]];
      for (int64_t b = b0; b < b1; ++b, y += y_row) {
        for (int64_t j = 0; j < r_.width; ++j)
          y[j] = x ? x->as<T>()[b * x->stride[0] + j * x->stride[1]] : T{0};
      }
    }
  }

  void pack(int i) {
    const Stage& s = r_.stages[i];
    const Tensor& m = call_.tensors[s.m];
    const int64_t row = m.stride[s.transposed ? 1 : 0], col = m.stride[s.transposed ? 0 : 1];
    for (int64_t j = 0; j < s.n;) {
      const int64_t w = width(ceil_div(s.n - j, L)) * L;
      pack_panel(m.as<const T>() + j * col, row, col, s.k, least(w, s.n - j),
                 base_ + r_.panels[i] + j * s.k, w);
      j += w;
    }
  }

  // A last panel of one vector would fill no tile.
  int width(int64_t left) const {
    if (left != 4 && left >= r_.tile_width) return r_.tile_width;
    return left < 4 ? static_cast<int>(left) : 4;
  }

  // sums = a[t] @ m for rows [b0, b1): a panel of m in L1 passes by all of them.
  void product(int i, int64_t t, int64_t b0, int64_t b1) {
    const Stage& s = r_.stages[i];
    const Tensor& m = call_.tensors[s.m];
    const int64_t c_row = round_up(s.n, L), rows = b1 - b0;
    Tile<T> tile{};
    tile.a_row = row_stride(call_.tensors[s.a]), tile.a_col = 1;
    tile.c_row = c_row;
    tile.store = Store::plain;
    const T* a = reinterpret_cast<const T*>(place({s.a, s.shift, s.slice}, t, b0));
    for (int64_t j = 0; j < s.n;) {
      const int w = width(ceil_div(s.n - j, L));
      tile.b[0] = r_.pack[i] ? base_ + r_.panels[i] + j * s.k : m.as<const T>() + j;
      tile.b_row[0] = r_.pack[i] ? w * L : m.stride[0];
      tile.k[0] = s.k;
      tile.a = a;
      tile.c = base_ + r_.sums + j;
      const EvenStrips strips(rows, max_height(w));
      for (int64_t strip = 0; strip < strips.count; ++strip) {
        const int64_t h = strips.extent(strip);
        find_tile<T>(w, static_cast<int>(h))(tile);
        tile.a += h * tile.a_row, tile.c += h * c_row;
      }
      j += w * L;
    }
  }

  Operand operand(const Stage& s, const Value& v, int64_t t, int64_t b0, int64_t b,
                  int64_t j) const {
    if (v.tensor < 0) {
      const int64_t row = round_up(s.n, L);
      T* at = base_ + r_.sums + (b - b0) * row + v.slice * r_.width + j;
      return {reinterpret_cast<char*>(at), sizeof(T) == 4 ? DType::f32 : DType::f64, row, 1};
    }
    const Tensor& x = call_.tensors[v.tensor];
    const bool spread = (x.shape[2] == 1 && r_.width > 1) || x.stride[2] == 0;
    return {place(v, t, b) + (spread ? 0 : j * size_of(x.dtype)), x.dtype, row_stride(x),
            spread ? 0 : 1};
  }

  void pointwise(int i, int64_t t, int64_t b0, int64_t b1) {
    const Stage& s = r_.stages[i];
    const int64_t cols = least(r_.width, kBlock), step = most(1, kBlock / cols);
    Operand in[kMaxValues], out[kMaxOutputs];
    for (int64_t b = b0; b < b1; b += step) {
      for (int64_t j = 0; j < r_.width; j += cols) {
        for (int x = 0; x < s.n_in; ++x) in[x] = operand(s, s.in[x], t, b0, b, j);
        for (int x = 0; x < s.n_out; ++x) out[x] = operand(s, s.out[x], t, b0, b, j);
        evaluate(s.expression, least(step, b1 - b), least(cols, r_.width - j), out, in,
                 base_ + r_.registers[i]);
      }
    }
  }

  const Call& call_;
  const Layout& r_;
  T* base_;
};

template <class T>
void run(const Call& call, const Layout& r, int64_t begin, int64_t end, char* scratch) {
  Runner<T> runner(call, r, scratch);
  const int64_t blocks = ceil_div(end - begin, r.block_rows);
  for (int64_t i = 0; i < blocks; ++i) {
    runner.rows(begin + (end - begin) * i / blocks, begin + (end - begin) * (i + 1) / blocks);
  }
}

}  // namespace

const char* plan_recurrence(const Call& call, Work& work) {
  if (call.n_tensors < 1) return kMalformed;
  Layout r{};
  if (const char* wrong = read_recurrence(call, r)) return wrong;
  const bool wide = call.tensors[0].dtype == DType::f64;
  if (wide) {
    lay_out<double>(call, r);
  } else {
    lay_out<float>(call, r);
  }
  work.outputs = static_cast<int>(call.ints[3]);
  work.prepared_bytes = sizeof r;
  if (call.prepared) std::memcpy(call.prepared, &r, sizeof r);
  work.parts[0] = r.rows;
  work.scratch_bytes = r.total * (wide ? 8 : 4);
  double each = 0, read = 0;
  for (int i = 0; i < r.n_stages; ++i) {
    const Stage& s = r.stages[i];
    each += 2.0 * static_cast<double>(s.k) * static_cast<double>(s.n) +
            cost(s.expression) * static_cast<double>(r.width);
    read += static_cast<double>(s.n_in + s.n_out) * static_cast<double>(r.width);
  }
  const double uses = static_cast<double>(r.steps) * static_cast<double>(r.rows);
  work.flops = uses * each;
  work.bytes = uses * read * (wide ? 8 : 4);
  return nullptr;
}

void run_recurrence(const Call& call, int, int64_t begin, int64_t end, char* scratch) {
  Layout local{};
  const Layout* r = static_cast<const Layout*>(call.prepared);
  const bool wide = call.tensors[0].dtype == DType::f64;
  if (!r) {
    read_recurrence(call, local);
    if (wide) {
      lay_out<double>(call, local);
    } else {
      lay_out<float>(call, local);
    }
    r = &local;
  }
  if (wide) {
    run<double>(call, *r, begin, end, scratch);
  } else {
    run<float>(call, *r, begin, end, scratch);
  }
}

}  // namespace dl::DL_LEVEL
