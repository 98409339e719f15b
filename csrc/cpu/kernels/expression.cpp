// The block evaluator: walks the code of an expression and decides where each value lies: in place
// in an operand, in a register (a block of scratch small enough for the L1 cache), or as a scalar
// per row or per block.
#include "cpu/kernels/expression.h"

#include "cpu/kernels/operations.h"

namespace dl::DL_LEVEL {

constexpr int kMostSources = 8;

// ---- registers: constants, then one scalar a row and one for all rows of each value, then one
// block of each value and spare ones ----

template <class T>
static int64_t whole_vectors(int64_t n) {
  return (n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

template <class T>
static int64_t block_size(int64_t rows, int64_t cols) {
  return whole_vectors<T>(rows * cols) +
         64 / sizeof(T);  // a line more, so that blocks do not fall on the same sets
}

template <class T>
int64_t register_elements(const Expression& e, int64_t rows, int64_t cols) {
  return whole_vectors<T>(e.n_const) + e.values() * whole_vectors<T>(rows + 1) +
         (e.values() + e.most_sources) * block_size<T>(rows, cols);
}

template <class T>
void prepare(const Expression& e, int64_t, int64_t, T* registers) {
  for (int i = 0; i < e.n_const; ++i) registers[i] = T(e.constants[i]);
}

template <class T>
constexpr DType kType = sizeof(T) == 4 ? DType::f32 : DType::f64;

template <class T>
struct Evaluator {
  const Expression& e;
  int64_t rows, cols;
  const Operand *out, *in;  // null: a view of the first result is wanted
  T* registers;
  int64_t run_rows,
      run_cols;       // the block as operations see it: one run where all operands are dense
  uint64_t in_place;  // outputs that operations may write directly
  Place<T> values[kMaxValues];  // set as they come to be known

  Evaluator(const Expression& e, int64_t rows, int64_t cols, const Operand* out, const Operand* in,
            T* registers)
      : e(e), rows(rows), cols(cols), out(out), in(in), registers(registers) {}

  T* scalars(int id) const {
    return registers + whole_vectors<T>(e.n_const) + id * whole_vectors<T>(rows + 1);
  }
  T* block(int id) const { return scalars(e.values()) + id * block_size<T>(rows, cols); }

  static Operand dense(T* data, int64_t row_stride) {
    return {reinterpret_cast<char*>(data), kType<T>, row_stride, 1};
  }

  bool is_row(const Operand& x) const {
    return x.dtype == kType<T> && (x.col_stride == 1 || cols == 1);
  }
  bool is_run(const Operand& x) const { return is_row(x) && (x.row_stride == cols || rows == 1); }

  // Rows shorter than this are gathered into one run, so that no loop is about rows of a few
  // elements.
  bool short_rows() const { return rows > 1 && cols < 2 * kLanes<T>; }

  void place_input(int i) {
    const Operand& x = in[i];
    T* data = reinterpret_cast<T*>(x.data);
    const bool uniform = (x.row_stride == 0 || rows == 1) && (x.col_stride == 0 || cols == 1);
    if (uniform || (x.col_stride == 0 && !short_rows())) {
      const int64_t n = uniform ? 1 : rows;
      run_rows = uniform ? run_rows : rows;
      values[i] = {data, uniform ? 0 : x.row_stride, true};
      if (x.dtype == kType<T>) return;
      copy_block(n, 1, dense(scalars(i), 1), x);
      values[i] = {scalars(i), uniform ? 0 : 1, true};
    } else if (is_run(x) || (is_row(x) && !short_rows())) {
      if (!is_run(x)) run_rows = rows;
      values[i] = {data, x.row_stride, false};
    } else {
      copy_block(rows, cols, dense(block(i), cols), x);
      values[i] = {block(i), cols, false};
    }
  }

  void place() {
    run_rows = 1;
    in_place = 0;
    uint64_t used = e.read;
    if (!out && e.results[0] < e.n_in) used |= uint64_t(1) << e.results[0];
    for (int i = 0; i < e.n_in; ++i)
      if (used >> i & 1) place_input(i);
    for (int i = 0; i < e.n_const; ++i) values[e.n_in + i] = {registers + i, 0, true};
    for (int o = 0; out && o < e.n_out; ++o) {
      if (e.made_by[o] < 0 || !is_row(out[o]) || (short_rows() && !is_run(out[o]))) continue;
      bool read_later = false;  // an input in the same place
      for (int i = 0; i < e.n_in; ++i)
        read_later |= (e.read_after[o] >> i & 1) && in[i].data == out[o].data;
      if (read_later) continue;
      in_place |= uint64_t(1) << o;
      if (!is_run(out[o])) run_rows = rows;
    }
    run_cols = run_rows == 1 ? rows * cols : cols;
  }

  Place<T> destination(int op, int64_t id) {
    for (int o = 0; o < e.n_out; ++o)
      if (e.made_by[o] == op && e.results[o] == id && (in_place >> o & 1))
        return {reinterpret_cast<T*>(out[o].data), out[o].row_stride, false};
    return {block(int(id)), cols, false};
  }

  // A source that is a scalar where the operation has only a form for dense ones
  void spread(Place<T>& x, int spare) {
    T* data = block(e.values() + spare);
    for (int64_t r = 0; r < run_rows; ++r)
      for (int64_t c = 0; c < run_cols; ++c) data[r * run_cols + c] = x.data[r * x.row_stride];
    x = {data, run_cols, false};
  }

  void operation(int op, const int64_t* code) {
    const auto [n_in, n_out] = kOps[*code];
    const auto& form = kRun<T>[*code].run;
    const int64_t *dst_id = code + 1, *src_id = dst_id + n_out;
    Place<T> src[kMostSources], dst[3];
    unsigned scalar = 0;
    bool by_row = false;
    for (int i = 0; i < n_in; ++i) {
      src[i] = values[src_id[i]];
      scalar |= unsigned(src[i].scalar) << i;
      by_row |= src[i].scalar && src[i].row_stride != 0;
    }
    if (scalar + 1 == 1u << n_in) {
      for (int i = 0; i < n_out; ++i)
        dst[i] = {scalars(int(dst_id[i])) + (by_row ? 0 : rows), by_row, true};
      form[0](by_row ? rows : 1, 1, dst, src);
    } else {
      int index = n_in <= 3 ? int(scalar) : scalar == kUpdateScalars[n_in > 5];
      if (!form[index]) index = 0;
      if (index == 0)
        for (int i = 0; i < n_in; ++i)
          if (scalar >> i & 1) spread(src[i], i);
      for (int i = 0; i < n_out; ++i) dst[i] = destination(op, dst_id[i]);
      form[index](run_rows, run_cols, dst, src);
    }
    for (int i = 0; i < n_out; ++i) values[dst_id[i]] = dst[i];
  }

  void operations() {
    const int64_t* p = e.code;
    for (int op = 0; op < e.n_ops; ++op) {
      operation(op, p);
      p += 1 + kOps[*p].n_in + kOps[*p].n_out;
    }
  }

  // Inputs named as results go first, before a store can reach the input's memory.
  void store_results() {
    for (int o = 0; o < e.n_out; ++o)
      if (e.results[o] < e.n_in) copy_block(rows, cols, out[o], in[e.results[o]]);
    for (int o = 0; o < e.n_out; ++o)
      if (e.results[o] >= e.n_in) store_value(o, values[e.results[o]]);
  }

  void store_value(int o, const Place<T>& v) {
    if (v.data == reinterpret_cast<T*>(out[o].data) && !v.scalar) return;
    copy_block(rows, cols, out[o],
               {reinterpret_cast<char*>(v.data), kType<T>, v.row_stride, v.scalar ? 0 : 1});
  }
};

template <class T>
void evaluate(const Expression& e, int64_t rows, int64_t cols, const Operand* out,
              const Operand* in, T* registers) {
  if (rows <= 0 || cols <= 0) return;
  Evaluator<T> block(e, rows, cols, out, in, registers);
  block.place();
  block.operations();
  block.store_results();
}

template <class T>
View<T> evaluate_view(const Expression& e, int64_t rows, int64_t cols, const Operand* in,
                      T* registers) {
  Evaluator<T> block(e, rows, cols, nullptr, in, registers);
  block.place();
  block.operations();
  const Place<T>& v = block.values[e.results[0]];
  return {v.data, v.row_stride, v.scalar ? 0 : 1};
}

#define DL_INSTANTIATE(T)                                                                        \
  template int64_t register_elements<T>(const Expression&, int64_t, int64_t);                    \
  template void prepare<T>(const Expression&, int64_t, int64_t, T*);                             \
  template void evaluate<T>(const Expression&, int64_t, int64_t, const Operand*, const Operand*, \
                            T*);                                                                 \
  template View<T> evaluate_view<T>(const Expression&, int64_t, int64_t, const Operand*, T*);
DL_INSTANTIATE(float)
DL_INSTANTIATE(double)

}  // namespace dl::DL_LEVEL
