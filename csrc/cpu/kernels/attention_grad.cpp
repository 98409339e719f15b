// The gradient of attention, with p = exp(scores - lse), recomputed block by block:
//
//   dv = p^T dy     ds = p (dy v^T - rowsum(dy y))     dq = scale ds k     dk = scale ds^T q
//
// With dropout, f = 0 or 1 / keep: dv = (f p)^T dy and ds = p (f dy v^T - rowsum(dy y)). Shapes are
// those of attention.cpp; nothing flows to lse, bias and mask. A part is a head of keys with the
// query heads that share it: dq, dk and dv are summed in its scratch, in the order of the blocks,
// whoever computes it.
#include "cpu/kernels/attention.h"

namespace dl::DL_LEVEL {

namespace {

template <class T>
struct Scratch {
  T* k;                       // panels across the columns; q and dy below too
  T *q, *dy;                  // q is scaled
  T *q_columns, *dy_columns;  // panels across the rows
  T *weights, *ds;            // of a block
  T *lse, *inner;             // inner = rowsum(dy y)
  T* factors;                 // of dropout
  T *dq, *dk, *dv;

  Scratch(const Attention& a, Pieces<T>& pieces) {
    const int64_t width = padded<T>(a.width), value_width = padded<T>(a.value_width);
    const int64_t queries = quotient_up(a.queries, kQueries<T>) * kQueries<T>;
    k = pieces.take(a.keys * width);
    q = pieces.take(a.queries * width), dy = pieces.take(a.queries * value_width);
    q_columns = pieces.take(queries * a.width);
    dy_columns = pieces.take(queries * a.value_width);
    weights = pieces.take(kKeys * kQueries<T>), ds = pieces.take(kKeys * kQueries<T>);
    lse = pieces.take(queries), inner = pieces.take(queries);
    factors = pieces.take(a.counter ? kKeys * kLanes<T> : 0);
    dq = pieces.take(a.queries * width);
    dk = pieces.take(a.keys * width), dv = pieces.take(a.keys * value_width);
  }
};

template <class T>
void clear(T* x, int64_t n) {
  std::memset(x, 0, n * sizeof(T));
}

// Of the rows t of two matrices; four chains, as one would wait for each sum.
template <class T>
T dot(const Head<T>& a, const Head<T>& b, int64_t t, int64_t columns) {
  const T *x = a.data + t * a.row, *y = b.data + t * b.row;
  T sums[4] = {};
  int64_t c = 0;
  for (; c + 4 <= columns; c += 4) {
    for (int i = 0; i < 4; ++i) sums[i] += x[(c + i) * a.col] * y[(c + i) * b.col];
  }
  for (; c < columns; ++c) sums[0] += x[c * a.col] * y[c * b.col];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// What the blocks of a query head need.
template <class T>
void prepare(const Call& call, const Attention& a, int64_t batch, int64_t head,
             const Scratch<T>& x) {
  const Head<T> q(*a.q, batch, head), dy(call.tensors[3], batch, head),
      y(call.tensors[4], batch, head);
  const Tensor& lse = call.tensors[5];
  const T scale = static_cast<T>(a.scale);
  pack_rows(q, a.queries, a.width, scale, x.q);
  pack_rows(dy, a.queries, a.value_width, T(1), x.dy);
  pack_columns(q, 0, a.queries, a.width, scale, x.q_columns);
  pack_columns(dy, 0, a.queries, a.value_width, T(1), x.dy_columns);
  for (int64_t t = 0; t < quotient_up(a.queries, kQueries<T>) * kQueries<T>; ++t) {
    const bool inside = t < a.queries;
    x.inner[t] = inside ? dot(dy, y, t, a.value_width) : T(0);
    x.lse[t] = inside
                   ? lse.as<T>()[batch * lse.stride[0] + head * lse.stride[1] + t * lse.stride[2]]
                   : kInfinity<T>;
  }
  clear(x.dq, a.queries * padded<T>(a.width));
}

// One vector of queries: scores become weights p, and dy v^T becomes ds.
template <bool kDrops, class T>
void differentiate(const Block& b, int64_t q, [[maybe_unused]] const Dropout<T>& dropout,
                   const Scratch<T>& x) {
  constexpr int64_t step = kQueries<T>;
  const int64_t seen = hide_later_keys(b, q, x.weights);
  const Vec<T> lse = load(x.lse + b.q0 + q), inner = load(x.inner + b.q0 + q);
  T *weights = x.weights + q, *ds = x.ds + q;
  if constexpr (kDrops) dropout.draw(b, q, seen, x.factors);
  for (int64_t s = 0; s < seen; ++s) {
    const Vec<T> p = exp_nonpositive<T>(load(weights + s * step) - lse);
    Vec<T> kept = p, dw = load(ds + s * step);
    if constexpr (kDrops) {
      const Vec<T> factor = load(x.factors + s * kLanes<T>);
      kept *= factor, dw *= factor;
    }
    store(weights + s * step, kept);
    store(ds + s * step, p * (dw - inner));
  }
  for (int64_t s = seen; s < b.ns; ++s) {
    store(weights + s * step, Vec<T>{});
    store(ds + s * step, Vec<T>{});
  }
}

// c (keys x columns) += scores @ x, x in panels of all queries.
template <class T>
void add_over_queries(const Block& b, const T* scores, const T* x, int64_t queries, int64_t columns,
                      T* c) {
  product(c + b.s0 * columns, columns, b.ns, columns / kWide<T>, scores, kQueries<T>, int64_t(1),
          x + b.q0 * kWide<T>, queries, true,
          [&](int64_t r, int64_t) { return Part{0, smaller(b.nq, b.first_query(r)), b.nq}; });
}

template <class T>
void add_block(const Attention& a, const Block& b, int64_t batch, int64_t head,
               const Scratch<T>& x) {
  const int64_t group = head / a.shared();
  multiply_keys(b, Head<T>(*a.k, batch, group), a.width, x.q_columns + b.q0 * a.width, x.weights);
  if (a.bias || a.mask) restrict_scores(a, b, batch, head, x.weights);
  multiply_keys(b, Head<T>(*a.v, batch, group), a.value_width, x.dy_columns + b.q0 * a.value_width,
                x.ds);
  const Dropout<T> dropout(a, batch, head);
  for (int64_t q = 0; q < b.nq; q += kLanes<T>)
    a.counter ? differentiate<true>(b, q, dropout, x) : differentiate<false>(b, q, dropout, x);
  const int64_t width = padded<T>(a.width), value_width = padded<T>(a.value_width);
  add_over_queries(b, x.weights, x.dy, a.queries, value_width, x.dv);
  add_over_queries(b, x.ds, x.q, a.queries, width, x.dk);
  add_over_keys(b, x.ds, x.k, a.keys, width / kWide<T>, true, x.dq + b.q0 * width, width);
}

template <class T>
void write(const Head<T>& to, int64_t rows, int64_t columns, const T* from, T scale) {
  for (int64_t r = 0; r < rows; ++r, from += padded<T>(columns)) {
    scale_run(from, 1, columns, scale, to.data + r * to.row, to.col);
  }
}

template <class T>
void run_group(const Call& call, const Attention& a, int64_t batch, int64_t group,
               const Scratch<T>& x) {
  pack_rows(Head<T>(*a.k, batch, group), a.keys, a.width, T(1), x.k);
  clear(x.dk, a.keys * padded<T>(a.width)), clear(x.dv, a.keys * padded<T>(a.value_width));
  for (int64_t head = group * a.shared(); head < (group + 1) * a.shared(); ++head) {
    prepare(call, a, batch, head, x);
    for (int64_t s0 = 0; s0 < a.keys; s0 += kKeys) {
      const int64_t first = a.causal ? s0 / kQueries<T> * kQueries<T> : 0;
      for (int64_t q0 = first; q0 < a.queries; q0 += kQueries<T>)
        add_block(a, block_at(a, q0, s0, kQueries<T>), batch, head, x);
    }
    write(Head<T>(call.tensors[0], batch, head), a.queries, a.width, x.dq, static_cast<T>(a.scale));
  }
  write(Head<T>(call.tensors[1], batch, group), a.keys, a.width, x.dk, T(1));
  write(Head<T>(call.tensors[2], batch, group), a.keys, a.value_width, x.dv, T(1));
}

template <class T>
void run_parts(const Call& call, int64_t begin, int64_t end, char* scratch) {
  const Attention a = attention_of(call, 6);
  Pieces<T> pieces{reinterpret_cast<T*>(scratch)};
  const Scratch<T> x(a, pieces);
  if (a.batch * a.groups == 0) return;
  for (int64_t part = begin; part < end; ++part)
    run_group(call, a, part / a.groups, part % a.groups, x);
}

template <class T>
int64_t scratch_size(const Attention& a) {
  Pieces<T> pieces{nullptr};
  Scratch<T>(a, pieces);
  return pieces.used * sizeof(T);
}

}  // namespace

const char* plan_attention_grad(const Call& call, Work& work) {
  if (const char* wrong = check_attention_grad(call)) return wrong;
  const Attention a = attention_of(call, 6);
  const DType type = a.q->dtype;
  work.outputs = 3;
  work.parts[0] = at_least(1, a.batch * a.groups);
  work.scratch_bytes = type == DType::f32 ? scratch_size<float>(a) : scratch_size<double>(a);
  const double scores = double(a.batch) * a.heads * a.queries * a.keys / (a.causal ? 2 : 1);
  work.flops = scores * (6.0 * a.width + 4.0 * a.value_width + (a.counter ? 65 : 25));
  work.bytes =
      2.0 * size_of(type) * a.batch * (a.queries + a.keys) * a.heads * (a.width + a.value_width);
  return nullptr;
}

void run_attention_grad(const Call& call, int, int64_t begin, int64_t end, char* scratch) {
  if (call.tensors[0].dtype == DType::f32) return run_parts<float>(call, begin, end, scratch);
  run_parts<double>(call, begin, end, scratch);
}

}  // namespace dl::DL_LEVEL
