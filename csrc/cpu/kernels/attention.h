// Scaled dot-product attention in blocks (Dao et al. 2022, https://arxiv.org/abs/2205.14135): what
// the forward pass and the gradient share. The formulas are in attention.cpp.
//
// Scores are computed transposed, keys in rows and queries across the lanes: the maximum and the
// sum over keys are then vertical, and every product below takes its left operand by broadcasts
// from where it lies. Right operands are packed once per head into panels of kWide columns, rows of
// a panel one behind the other, padded with zeros: any strides and odd widths become one text, and
// rows that are a power of two apart do not share cache sets.
#pragma once

#include <type_traits>

#include "common/attention.h"
#include "cpu/kernels/gemm_pack.h"
#include "cpu/kernels/gemm_tile.h"
#include "cpu/kernels/level.h"
#include "cpu/math.h"
#include "cpu/philox_lanes.h"
#include "cpu/rows.h"

namespace dl::DL_LEVEL {

constexpr int kVectors = 2;  // of a panel
template <class T>
constexpr int64_t kWide = kVectors * kLanes<T>;
// A block of scores lies in L2 with what it is multiplied by; both sides divide by tiles.
template <class T>
constexpr int64_t kQueries = 384 / sizeof(T);
constexpr int64_t kKeys = 96;

// Pieces of a thread's scratch, one behind the other; without memory it only counts.
template <class T>
struct Pieces {
  T* memory;
  int64_t used = 0;
  T* take(int64_t n) {
    used += n;
    return memory ? memory + used - n : nullptr;
  }
};

template <class T>
constexpr T kInfinity = static_cast<T>(__builtin_inf());

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t at_least(int64_t low, int64_t x) { return x < low ? low : x; }
inline int64_t quotient_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class T>
constexpr int64_t padded(int64_t n) {
  return (n + kWide<T> - 1) / kWide<T> * kWide<T>;
}

// One matrix (rows, columns) of a tensor (B, T, N, H).
template <class T>
struct Head {
  Head(const Tensor& t, int64_t b, int64_t n)
      : data(t.as<T>() + b * t.stride[0] + n * t.stride[2]), row(t.stride[1]), col(t.stride[3]) {}
  T* data;
  int64_t row, col;
};

// to = x * scale, n elements of a row.
template <class T>
inline void scale_run(const T* x, int64_t x_col, int64_t n, T scale, T* to, int64_t to_col = 1) {
  const bool dense = x_col == 1 && to_col == 1;
  int64_t i = 0;
  for (; dense && i + kLanes<T> <= n; i += kLanes<T>) store(to + i, load(x + i) * scale);
  for (; i < n; ++i) to[i * to_col] = x[i * x_col] * scale;
}

// Panels across the columns: rows x columns as they are.
template <class T>
inline void pack_rows(const Head<T>& x, int64_t rows, int64_t columns, T scale, T* to) {
  for (int64_t c0 = 0; c0 < columns; c0 += kWide<T>) {
    const int64_t n = smaller(columns - c0, kWide<T>);
    for (int64_t r = 0; r < rows; ++r, to += kWide<T>) {
      const T* from = x.data + r * x.row + c0 * x.col;
      scale_run(from, x.col, n, scale, to);
      for (int64_t c = n; c < kWide<T>; ++c) to[c] = 0;
    }
  }
}

// Panels across the rows: the transposed matrix.
template <class T>
inline void pack_columns(const Head<T>& x, int64_t first, int64_t rows, int64_t columns, T scale,
                         T* to) {
  for (int64_t r0 = 0; r0 < rows; r0 += kWide<T>, to += columns * kWide<T>) {
    const int64_t n = smaller(rows - r0, kWide<T>);
    if (x.col == 1 && n == kWide<T>) {
      transpose(x.data + (first + r0) * x.row, x.row, n, columns, to, n);
      scale_run(to, 1, columns * n, scale, to);
      continue;
    }
    for (int64_t r = 0; r < kWide<T>; ++r) {
      const T* from = x.data + (first + r0 + r) * x.row;
      for (int64_t c = 0; c < columns; ++c)
        to[c * kWide<T> + r] = r < n ? from[c * x.col] * scale : T(0);
    }
  }
}

// What a tile of some rows needs: panels from `panel` on, and which part of the inner dimension.
struct Part {
  int64_t panel, first, last;
};

// c (rows x panels) = or += a @ b, b in panels of b_rows rows; part(row, height) says what counts.
template <class T, class F>
inline void product(T* c, int64_t c_row, int64_t rows, int64_t panels, const T* a, int64_t a_row,
                    int64_t a_col, const T* b, int64_t b_rows, bool accumulate, F part) {
  constexpr int tallest = max_height(kVectors);
  const EvenStrips strips(rows, tallest);
  int64_t r = 0;
  for (int64_t i = 0; i < strips.count; ++i) {
    const int h = static_cast<int>(strips.extent(i));
    const Part p = part(r, h);
    const TileFunction<T> run = find_tile<T>(kVectors, h);
    for (int64_t j = p.panel; j < panels; ++j) {
      const T* panel = b + (j * b_rows + p.first) * kWide<T>;
      run({a + r * a_row + p.first * a_col,
           a_row,
           a_col,
           {panel, panel},
           {kWide<T>, kWide<T>},
           {p.last - p.first, 0},
           c + r * c_row + j * kWide<T>,
           c_row,
           accumulate,
           Store::plain,
           nullptr,
           0});
    }
    r += h;
  }
}

// A block of scores: keys [s0, s0 + ns) in rows, queries [q0, q0 + nq) across, in rows of kQueries.
// `diagonal`: some of its keys come after some of its queries.
struct Block {
  int64_t q0, nq, s0, ns;
  bool diagonal;

  // Keys from 0 that the query `q` of the block, counted from q0, sees.
  int64_t seen(int64_t q) const {
    return diagonal ? smaller(ns, at_least(0, q0 + q + 1 - s0)) : ns;
  }
  // The first query that sees the key `s`.
  int64_t first_query(int64_t s) const { return diagonal ? at_least(0, s0 + s - q0) : 0; }
};

inline Block block_at(const Attention& a, int64_t q0, int64_t s0, int64_t most_queries) {
  const int64_t nq = smaller(most_queries, a.queries - q0), ns = smaller(kKeys, a.keys - s0);
  return {q0, nq, s0, ns, a.causal && s0 + ns > q0 + 1};
}

// scores (keys x queries) = k @ q, q in transposed panels; only panels that see a tile's keys.
template <class T>
inline void multiply_keys(const Block& b, const Head<T>& k, int64_t width, const T* q, T* scores) {
  product(scores, kQueries<T>, b.ns, quotient_up(b.nq, kWide<T>), k.data + b.s0 * k.row, k.row,
          k.col, q, width, false,
          [&](int64_t r, int64_t) { return Part{b.first_query(r) / kWide<T>, 0, width}; });
}

// c (queries x columns) = or += scores^T @ x, x in panels of all keys.
template <class T>
inline void add_over_keys(const Block& b, const T* scores, const T* x, int64_t keys, int64_t panels,
                          bool accumulate, T* c, int64_t c_row) {
  product(c, c_row, b.nq, panels, scores, int64_t(1), kQueries<T>, x + b.s0 * kWide<T>, keys,
          accumulate, [&](int64_t r, int64_t h) { return Part{0, 0, b.seen(r + h - 1)}; });
}

// Adds the bias to a block of scores and puts -inf where the mask is 0.
template <class T>
inline void restrict_scores(const Attention& a, const Block& b, int64_t batch, int64_t head,
                            T* scores) {
  const auto at = [&](const Tensor* t) {
    return batch * t->stride[0] + head * t->stride[1] + b.q0 * t->stride[2] + b.s0 * t->stride[3];
  };
  for (int64_t s = 0; s < b.ns; ++s) {
    T* row = scores + s * kQueries<T>;
    if (a.bias) {
      const T* x = a.bias->as<T>() + at(a.bias) + s * a.bias->stride[3];
      for (int64_t q = 0; q < b.nq; ++q) row[q] += x[q * a.bias->stride[2]];
    }
    if (!a.mask) continue;
    const uint8_t* seen = a.mask->as<uint8_t>() + at(a.mask) + s * a.mask->stride[3];
    const int64_t step = a.mask->stride[2];
    if (step == 0 && *seen) continue;  // padding: the same for all queries
    for (int64_t q = 0; q < b.nq; ++q) row[q] = seen[q * step] ? row[q] : -kInfinity<T>;
  }
}

// -inf where a query of the vector at `q` comes before a key. Returns how many keys from 0 the last
// query of the vector sees; the scores of others are not to be read.
template <class T>
inline int64_t hide_later_keys(const Block& b, int64_t q, T* scores) {
  const int64_t seen = b.seen(q + kLanes<T> - 1);
  Vec<T> lane;
  for (int i = 0; i < kLanes<T>; ++i) lane[i] = T(i);
  for (int64_t s = b.seen(q); s < seen; ++s) {
    T* x = scores + s * kQueries<T> + q;
    store(x, lane < T(b.first_query(s) - q) ? broadcast(-kInfinity<T>) : load(x));
  }
  return seen;
}

// Dropout of the weights of a head: Attention says how.
template <class T>
struct Dropout {
  Dropout(const Attention& a, int64_t batch, int64_t head)
      : seed(a.seed),
        stream(a.stream),
        step(a.counter ? static_cast<uint32_t>(*a.counter->as<int64_t>()) : 0),
        kept(a.kept()),
        runs(a.runs()),
        first((batch * a.heads + head) * a.queries * runs),
        scale(static_cast<T>(0x1p16 / kept)) {}

  uint64_t seed;
  uint32_t stream, step, kept;
  int64_t runs, first;  // Philox blocks of a query, and before the head
  T scale;

  // For a vector of queries, at `q` of the block, and its keys below `seen`: factors[key], 0 or
  // `scale`.
  void draw(const Block& b, int64_t q, int64_t seen, T* factors) const {
    constexpr int n = kLanes<uint64_t>, kChains = kLanes<T> / n;
    Vec<uint64_t> lane;
    for (int i = 0; i < n; ++i) lane[i] = i;
    for (int64_t s = 0; s < seen; s += 8) {
      Vec<uint64_t> c[kChains][4];
      for (int j = 0; j < kChains; ++j) {
        const uint64_t start = first + (b.q0 + q + j * n) * runs + (b.s0 + s) / 8;
        const Vec<uint64_t> at = lane * static_cast<uint64_t>(runs) + start;
        c[j][0] = at & 0xFFFFFFFF, c[j][1] = at >> 32;
        c[j][2] = broadcast<uint64_t>(stream), c[j][3] = broadcast<uint64_t>(step);
      }
      philox_rounds<PhiloxLanes>(c, seed);
      for (int k = 0; k < 4; ++k) put(c, k, factors + (s + 2 * k) * kLanes<T>);
    }
  }

 private:
  // Two keys from the words k.
  template <int kChains>
  void put(const Vec<uint64_t> (&c)[kChains][4], int k, T* factors) const {
    using Word = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
    Vec<Word> word;
    if constexpr (kChains == 1) {
      word = reinterpret_cast<Vec<Word>>(c[0][k] & 0xFFFFFFFF);
    } else {
      for (int j = 0; j < kChains; ++j)
        store_words(reinterpret_cast<uint32_t*>(&word) + j * kLanes<uint64_t>, c[j][k]);
    }
    const Vec<Word> halves[] = {word & 0xFFFF, word >> 16 & 0xFFFF};
    for (int i = 0; i < 2; ++i)
      store(factors + i * kLanes<T>,
            halves[i] < static_cast<Word>(kept) ? broadcast(scale) : Vec<T>{});
  }
};

}  // namespace dl::DL_LEVEL
