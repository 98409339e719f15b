// attention        y = softmax(scale q k^T + bias, where mask and causal allow) v, for each head
//                  lse = log sum exp of a row of the scores, for the gradient
//
//   q (B, T, N, H)  k (B, S, K, H)  v (B, S, K, D)  y (B, T, N, D)  lse (B, N, T)
//   bias, mask (B, N, T, S), of any strides; query heads [i N/K, (i+1) N/K) share key head i
//   with dropout weights of the softmax become 0 or are divided by the probability to be kept
//
// A block of queries goes over the blocks of keys once. m, the largest score so far, and l, the sum
// of exp(score - m), follow along; when m grows, l and the sum in y shrink by exp(m_old - m). Work
// is cut by heads and blocks of queries. A query that sees no key gets y = 0 and lse = inf.
#include "cpu/kernels/attention.h"

namespace dl::DL_LEVEL {

namespace {

constexpr int64_t kEnoughParts = 32;

template <class T>
struct Scratch {
  T *v, *q, *scores, *y, *top, *sum, *shrink, *factors;

  Scratch(const Attention& a, Pieces<T>& pieces) {
    v = pieces.take(a.keys * padded<T>(a.value_width));
    q = pieces.take(kQueries<T> * a.width);
    scores = pieces.take(kKeys * kQueries<T>);
    y = pieces.take(kQueries<T> * padded<T>(a.value_width));
    top = pieces.take(kQueries<T>), sum = pieces.take(kQueries<T>);
    shrink = pieces.take(kQueries<T>);
    factors = pieces.take(a.counter ? kKeys * kLanes<T> : 0);
  }
};

// One vector of queries: scores become exp(score - top), and 0 where a query does not see the key.
template <bool kDrops, class T>
void weigh(const Block& b, int64_t q, [[maybe_unused]] const Dropout<T>& dropout,
           const Scratch<T>& x) {
  constexpr int64_t step = kQueries<T>;
  const int64_t seen = hide_later_keys(b, q, x.scores);
  T* p = x.scores + q;
  const Vec<T> old = load(x.top + q);
  Vec<T> top = old;
  for (int64_t s = 0; s < seen; ++s) {
    const Vec<T> score = load(p + s * step);
    top = score > top ? score : top;
  }
  const Vec<T> shift = top == -kInfinity<T> ? Vec<T>{} : top;
  const Vec<T> shrink = exp_nonpositive<T>(old - shift);
  Vec<T> sum = load(x.sum + q) * shrink;
  if constexpr (kDrops) dropout.draw(b, q, seen, x.factors);
  for (int64_t s = 0; s < seen; ++s) {
    const Vec<T> weight = exp_nonpositive<T>(load(p + s * step) - shift);
    store(p + s * step, kDrops ? weight * load(x.factors + s * kLanes<T>) : weight);
    sum += weight;
  }
  for (int64_t s = seen; s < b.ns; ++s) store(p + s * step, Vec<T>{});
  store(x.top + q, top), store(x.sum + q, sum), store(x.shrink + q, shrink);
}

template <class T>
void shrink_rows(const Block& b, int64_t columns, const Scratch<T>& x) {
  for (int64_t q = 0; q < b.nq; ++q) {
    const Vec<T> by = broadcast(x.shrink[q]);
    T* y = x.y + q * columns;
    for (int64_t c = 0; c < columns; c += kLanes<T>) store(y + c, load(y + c) * by);
  }
}

template <class T>
void write(const Call& call, const Attention& a, const Block& b, int64_t batch, int64_t head,
           const Scratch<T>& x) {
  const Head<T> y(call.tensors[0], batch, head);
  const Tensor* lse = call.tensors + 1 == a.q ? nullptr : call.tensors + 1;
  for (int64_t q = 0; q < kQueries<T>; q += kLanes<T>) {
    const Vec<T> sum = load(x.sum + q);
    store(x.shrink + q, sum == T(0) ? Vec<T>{} : T(1) / sum);
    store(x.sum + q, sum == T(0) ? broadcast(kInfinity<T>) : log<T>(sum) + load(x.top + q));
  }
  for (int64_t q = 0; q < b.nq; ++q) {
    const T* from = x.y + q * padded<T>(a.value_width);
    scale_run(from, 1, a.value_width, x.shrink[q], y.data + (b.q0 + q) * y.row, y.col);
    if (lse)
      lse->as<T>()[batch * lse->stride[0] + head * lse->stride[1] + (b.q0 + q) * lse->stride[2]] =
          x.sum[q];
  }
}

// Queries from q0 on, against all keys that they see.
template <class T>
void attend(const Call& call, const Attention& a, int64_t batch, int64_t head, int64_t q0,
            const Scratch<T>& x) {
  const Head<T> k(*a.k, batch, head / a.shared()), q(*a.q, batch, head);
  const int64_t nq = smaller(kQueries<T>, a.queries - q0), columns = padded<T>(a.value_width);
  const int64_t keys = a.causal ? smaller(a.keys, q0 + nq) : a.keys;
  const Dropout<T> dropout(a, batch, head);
  pack_columns(q, q0, nq, a.width, static_cast<T>(a.scale), x.q);
  for (int64_t i = 0; i < kQueries<T>; ++i) x.top[i] = -kInfinity<T>, x.sum[i] = 0;
  for (int64_t s0 = 0; s0 < keys; s0 += kKeys) {
    const Block b = block_at(a, q0, s0, kQueries<T>);
    multiply_keys(b, k, a.width, x.q, x.scores);
    if (a.bias || a.mask) restrict_scores(a, b, batch, head, x.scores);
    for (int64_t i = 0; i < nq; i += kLanes<T>)
      a.counter ? weigh<true>(b, i, dropout, x) : weigh<false>(b, i, dropout, x);
    if (s0 > 0) shrink_rows(b, columns, x);
    add_over_keys(b, x.scores, x.v, a.keys, columns / kWide<T>, s0 > 0, x.y, columns);
  }
  write(call, a, block_at(a, q0, 0, kQueries<T>), batch, head, x);
}

// How a head's queries are cut where there are few heads.
template <class T>
int64_t cuts(const Attention& a) {
  const int64_t heads = a.batch * a.heads, blocks = quotient_up(a.queries, kQueries<T>);
  return heads == 0 ? 1 : at_least(1, smaller(blocks, quotient_up(kEnoughParts, heads)));
}

template <class T>
void run_parts(const Call& call, int64_t begin, int64_t end, char* scratch) {
  const Attention a = attention_of(call, call.n_tensors - attention_inputs(call));
  Pieces<T> pieces{reinterpret_cast<T*>(scratch)};
  const Scratch<T> x(a, pieces);
  if (a.batch * a.heads == 0) return;
  const int64_t n = cuts<T>(a), per_cut = quotient_up(quotient_up(a.queries, kQueries<T>), n);
  for (int64_t part = begin; part < end; ++part) {
    const int64_t batch = part / n / a.heads, head = part / n % a.heads;
    const int64_t first = part % n * per_cut * kQueries<T>;
    const int64_t last = smaller(a.queries, first + per_cut * kQueries<T>);
    if (first >= last) continue;
    pack_rows(Head<T>(*a.v, batch, head / a.shared()), a.keys, a.value_width, T(1), x.v);
    for (int64_t q0 = first; q0 < last; q0 += kQueries<T>) attend(call, a, batch, head, q0, x);
  }
}

template <class T>
void plan_parts(const Attention& a, Work& work) {
  work.parts[0] = at_least(1, a.batch * a.heads * cuts<T>(a));
  Pieces<T> pieces{nullptr};
  Scratch<T>(a, pieces);
  work.scratch_bytes = pieces.used * sizeof(T);
  const double scores = double(a.batch) * a.heads * a.queries * a.keys / (a.causal ? 2 : 1);
  work.flops = scores * (2.0 * (a.width + a.value_width) + (a.counter ? 60 : 20));
  work.bytes =
      sizeof(T) * double(a.batch) * (a.queries + a.keys) * a.heads * (a.width + a.value_width);
}

}  // namespace

const char* plan_attention(const Call& call, Work& work) {
  int first;
  if (const char* wrong = check_attention(call, first)) return wrong;
  const Attention a = attention_of(call, first);
  work.outputs = first;
  if (a.q->dtype == DType::f32)
    plan_parts<float>(a, work);
  else
    plan_parts<double>(a, work);
  return nullptr;
}

void run_attention(const Call& call, int, int64_t begin, int64_t end, char* scratch) {
  if (call.tensors[0].dtype == DType::f32) return run_parts<float>(call, begin, end, scratch);
  run_parts<double>(call, begin, end, scratch);
}

}  // namespace dl::DL_LEVEL
