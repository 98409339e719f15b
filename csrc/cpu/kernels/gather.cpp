// gather       out[l] = table[index[l]], converted to out's dtype as NumPy's astype does;
//              0 where index[l] is out of range
// scatter_add  out[v] = base[v] (or 0) + sum of rows[l] over the l with index[l] = v, added in order
//              of l; out of range adds nothing. Where base is out, other rows are not touched.
//
// Gathering random rows waits for memory, so the row kAhead places on is prefetched while one is
// copied. scatter_add is cut by rows of out: each thread reads the whole index and adds what falls
// into its rows, in order, without any sharing.
#include "cpu/kernels/level.h"
#include "cpu/rows.h"

namespace dl::DL_LEVEL {

namespace {

constexpr int64_t kAhead = 3;
constexpr int64_t kLineBytes = 64;
constexpr int64_t kPartBytes = 32 * 1024;  // about 2 to 10 us of work
constexpr int kDTypes = 6;

// The axes of a row of two tensors of one shape, neighbours merged where both allow it; the last
// one is the run.
struct RowAxes {
  int rank;
  int64_t shape[kMaxRank], to_stride[kMaxRank], from_stride[kMaxRank];
};

RowAxes merge_axes(const Tensor& to, const Tensor& from) {
  RowAxes m{1, {1}, {1}, {1}};
  for (int a = 1; a < to.rank; ++a) {
    if (to.shape[a] == 1) continue;
    const int last = m.rank - 1;
    const int64_t n = to.shape[a], ts = to.stride[a], fs = from.stride[a];
    const bool joins = m.to_stride[last] == n * ts && m.from_stride[last] == n * fs;
    const bool first = m.rank == 1 && m.shape[0] == 1;
    const int at = joins || first ? last : m.rank++;
    m.shape[at] = joins && !first ? m.shape[at] * n : n;
    m.to_stride[at] = ts;
    m.from_stride[at] = fs;
  }
  return m;
}

// f(offset in to, offset in from) for every run of a row.
template <class F>
inline void each_run(const RowAxes& m, F&& f) {
  int64_t runs = 1;
  for (int a = 0; a < m.rank - 1; ++a) runs *= m.shape[a];
  for (int64_t r = 0; r < runs; ++r) {
    int64_t to = 0, from = 0, rest = r;
    for (int a = m.rank - 2; a >= 0; --a) {
      const int64_t i = rest % m.shape[a];
      rest /= m.shape[a];
      to += i * m.to_stride[a];
      from += i * m.from_stride[a];
    }
    f(to, from);
  }
}

inline int64_t index_at(const Tensor& index, int64_t i) {
  const int64_t at = i * index.stride[0];
  return index.dtype == DType::i32 ? index.as<int32_t>()[at] : index.as<int64_t>()[at];
}

inline bool in_range(int64_t i, int64_t n) {
  return static_cast<uint64_t>(i) < static_cast<uint64_t>(n);
}

template <DType t>
struct Stored {
  using type = uint8_t;  // u8 and b8
};
template <>
struct Stored<DType::f32> {
  using type = float;
};
template <>
struct Stored<DType::f64> {
  using type = double;
};
template <>
struct Stored<DType::i32> {
  using type = int32_t;
};
template <>
struct Stored<DType::i64> {
  using type = int64_t;
};

template <DType to, DType from>
inline typename Stored<to>::type convert(typename Stored<from>::type x) {
  if constexpr (to == from) return x;
  if constexpr (to == DType::b8) return x != 0;
  if constexpr (to == DType::u8 && is_float(from))
    return static_cast<uint8_t>(static_cast<int32_t>(x));
  return static_cast<typename Stored<to>::type>(x);
}

// A run of n elements. One cache line of `ahead`, the run to be copied kAhead rows later, is
// prefetched into L2 with each line copied: all of them at once would wait for free line buffers.
template <DType to_type, DType from_type>
void convert_run(char* to_bytes, int64_t to_stride, const char* from_bytes, int64_t from_stride,
                 int64_t n, const char* ahead) {
  using From = typename Stored<from_type>::type;
  auto* __restrict to = reinterpret_cast<typename Stored<to_type>::type*>(to_bytes);
  const auto* __restrict from = reinterpret_cast<const From*>(from_bytes);
  if (to_stride != 1 || from_stride != 1) {
    for (int64_t i = 0; i < n; ++i)
      to[i * to_stride] = convert<to_type, from_type>(from[i * from_stride]);
    return;
  }
  constexpr int64_t line = kLineBytes / sizeof(From);
  int64_t i = 0;
  for (; i + line <= n; i += line) {
    __builtin_prefetch(ahead + i * sizeof(From), 0, 2);
    if constexpr (to_type == from_type) {
      std::memcpy(to + i, from + i, kLineBytes);
    } else {
      for (int64_t k = i; k < i + line; ++k) to[k] = convert<to_type, from_type>(from[k]);
    }
  }
  if (i == n) return;
  __builtin_prefetch(ahead + i * sizeof(From), 0, 2);
  if constexpr (to_type == from_type) {
    std::memcpy(to + i, from + i, (n - i) * sizeof *to);
  } else {
    for (; i < n; ++i) to[i] = convert<to_type, from_type>(from[i]);
  }
}

// Rows of one element, such as labels: rows [begin, end) of out.
template <DType to_type, DType from_type>
void gather_elements(const Call& call, int64_t begin, int64_t end) {
  const Tensor &out = call.tensors[0], &table = call.tensors[1], &index = call.tensors[2];
  auto* to = out.as<typename Stored<to_type>::type>();
  const auto* from = table.as<typename Stored<from_type>::type>();
  for (int64_t l = begin; l < end; ++l) {
    const int64_t v = index_at(index, l);
    typename Stored<to_type>::type x = 0;
    if (in_range(v, table.shape[0])) x = convert<to_type, from_type>(from[v * table.stride[0]]);
    to[l * out.stride[0]] = x;
  }
}

struct Conversion {
  void (*run)(char* to, int64_t to_stride, const char* from, int64_t from_stride, int64_t n,
              const char* ahead);
  void (*elements)(const Call&, int64_t begin, int64_t end);
};

#define DL_CONVERSION(to, from) \
  { convert_run<DType::to, DType::from>, gather_elements<DType::to, DType::from> }
#define DL_CONVERSIONS(to)                                                   \
  {                                                                          \
    DL_CONVERSION(to, f32), DL_CONVERSION(to, f64), DL_CONVERSION(to, i32),  \
        DL_CONVERSION(to, i64), DL_CONVERSION(to, u8), DL_CONVERSION(to, b8) \
  }
constexpr Conversion kConversions[kDTypes][kDTypes] = {DL_CONVERSIONS(f32), DL_CONVERSIONS(f64),
                                                       DL_CONVERSIONS(i32), DL_CONVERSIONS(i64),
                                                       DL_CONVERSIONS(u8),  DL_CONVERSIONS(b8)};
#undef DL_CONVERSIONS
#undef DL_CONVERSION

template <class T>
void clear_rows(const Tensor& out, const RowAxes& m, int64_t begin, int64_t end) {
  const int run = m.rank - 1;
  if (is_dense(out, 0, out.rank)) {
    const int64_t row = count(out, 1, out.rank);
    std::memset(out.as<T>() + begin * row, 0, (end - begin) * row * sizeof(T));
    return;
  }
  for (int64_t v = begin; v < end; ++v) {
    each_run(m, [&](int64_t to, int64_t) {
      T* p = out.as<T>() + v * out.stride[0] + to;
      for (int64_t i = 0; i < m.shape[run]; ++i) p[i * m.to_stride[run]] = 0;
    });
  }
}

template <class T>
void copy_rows(const Tensor& out, const Tensor& base, int64_t begin, int64_t end) {
  const RowAxes m = merge_axes(out, base);
  const int run = m.rank - 1;
  for (int64_t v = begin; v < end; ++v) {
    each_run(m, [&](int64_t to, int64_t from) {
      T* p = out.as<T>() + v * out.stride[0] + to;
      const T* q = base.as<T>() + v * base.stride[0] + from;
      for (int64_t i = 0; i < m.shape[run]; ++i) p[i * m.to_stride[run]] = q[i * m.from_stride[run]];
    });
  }
}

template <class T>
inline void add_run(T* to, int64_t to_stride, const T* from, int64_t from_stride, int64_t n,
                    const T* ahead) {
  if (to_stride != 1 || from_stride != 1) {
    for (int64_t i = 0; i < n; ++i) to[i * to_stride] += from[i * from_stride];
    return;
  }
  constexpr int64_t line = kLineBytes / sizeof(T);
  int64_t i = 0;
  for (; i + line <= n; i += line) {
    __builtin_prefetch(ahead + i, 1, 3);
    for (int64_t k = i; k < i + line; k += kLanes<T>)
      store<T>(to + k, load(to + k) + load(from + k));
  }
  if (i < n) __builtin_prefetch(ahead + i, 1, 3);
  for (; i < n; ++i) to[i] += from[i];
}

// Rows [begin, end) of out. The l that fall into them are listed first, a block at a time and
// without a branch: one that is taken at random costs more than the copy.
template <class T>
void scatter_rows(const Call& call, int64_t begin, int64_t end) {
  const Tensor &out = call.tensors[0], &rows = call.tensors[1], &index = call.tensors[2];
  const RowAxes m = merge_axes(out, rows);
  const int run = m.rank - 1;
  const bool elements = m.rank == 1 && m.shape[0] == 1;
  constexpr int64_t kBlock = 512;
  int64_t hit[kBlock], target[kBlock];
  if (call.n_tensors == 3) {
    clear_rows<T>(out, m, begin, end);
  } else if (call.tensors[3].data != out.data) {
    copy_rows<T>(out, call.tensors[3], begin, end);
  }
  for (int64_t first = 0; first < index.shape[0]; first += kBlock) {
    const int64_t n = index.shape[0] - first < kBlock ? index.shape[0] - first : kBlock;
    int64_t hits = 0;
    for (int64_t l = first; l < first + n; ++l) {
      hit[hits] = l;
      target[hits] = index_at(index, l);
      hits += static_cast<uint64_t>(target[hits]) - begin < static_cast<uint64_t>(end - begin);
    }
    for (int64_t h = 0; h < hits; ++h) {
      T* to = out.as<T>() + target[h] * out.stride[0];
      const T* ahead = h + kAhead < hits ? out.as<T>() + target[h + kAhead] * out.stride[0] : to;
      const T* from = rows.as<T>() + hit[h] * rows.stride[0];
      if (elements) {
        *to += *from;
        continue;
      }
      each_run(m, [&](int64_t to_at, int64_t from_at) {
        add_run(to + to_at, m.to_stride[run], from + from_at, m.from_stride[run], m.shape[run],
                ahead + to_at);
      });
    }
  }
}

int64_t rows_per_part(int64_t row_bytes) {
  return row_bytes >= kPartBytes ? 1 : kPartBytes / (row_bytes ? row_bytes : 1);
}

int64_t scatter_rows_per_part(const Call& call) {
  const Tensor &out = call.tensors[0], &rows = call.tensors[1];
  const int64_t row_bytes = count(out, 1, out.rank) * size_of(out.dtype);
  const int64_t parts = (out.shape[0] + 3 * rows.shape[0]) * row_bytes / kPartBytes + 1;
  return out.shape[0] / parts + 1;
}

bool is_index(const Tensor& t) {
  return t.rank == 1 && (t.dtype == DType::i32 || t.dtype == DType::i64);
}

}  // namespace

const char* plan_gather(const Call& call, Work& work) {
  if (call.n_tensors != 3) return "gather: expected out, table and index";
  const Tensor &out = call.tensors[0], &table = call.tensors[1], &index = call.tensors[2];
  if (!is_index(index)) return "gather: expected an int32 or int64 index of rank 1";
  if (out.rank < 1 || !same_shape(out, 1, table, 1) || out.shape[0] != index.shape[0])
    return "gather: expected out (L, rest...), table (V, rest...) and index (L)";
  const int64_t row = count(out, 1, out.rank), rows = out.shape[0];
  const int64_t per_part = rows_per_part(row * size_of(out.dtype));
  work.parts[0] = rows <= per_part ? 1 : (rows + per_part - 1) / per_part;
  work.bytes = static_cast<double>(rows) *
               (row * (size_of(out.dtype) + size_of(table.dtype)) + size_of(index.dtype));
  return nullptr;
}

void run_gather(const Call& call, int, int64_t begin, int64_t end, char*) {
  const Tensor &out = call.tensors[0], &table = call.tensors[1], &index = call.tensors[2];
  const int64_t to_size = size_of(out.dtype), from_size = size_of(table.dtype),
                row = count(out, 1, out.rank);
  const int64_t per_part = rows_per_part(row * to_size), first = begin * per_part;
  const int64_t last = end * per_part < out.shape[0] ? end * per_part : out.shape[0];
  const Conversion& c = kConversions[static_cast<int>(out.dtype)][static_cast<int>(table.dtype)];
  if (row == 0) return;
  if (row == 1) return c.elements(call, first, last);
  const RowAxes m = merge_axes(out, table);
  const int run = m.rank - 1;
  const auto source = [&](int64_t l) -> const char* {
    const int64_t v = index_at(index, l);
    if (!in_range(v, table.shape[0])) return nullptr;
    return table.data + v * table.stride[0] * from_size;
  };
  for (int64_t l = first; l < last; ++l) {
    char* to = out.data + l * out.stride[0] * to_size;
    const char *from = source(l), *next = l + kAhead < last ? source(l + kAhead) : nullptr;
    const char* ahead = next ? next : from;
    each_run(m, [&](int64_t to_at, int64_t from_at) {
      char* p = to + to_at * to_size;
      const int64_t at = from_at * from_size, zero = 0;
      if (from)
        c.run(p, m.to_stride[run], from + at, m.from_stride[run], m.shape[run], ahead + at);
      else  // one zero, again and again
        c.run(p, m.to_stride[run], reinterpret_cast<const char*>(&zero), 0, m.shape[run], nullptr);
    });
  }
}

const char* plan_scatter_add(const Call& call, Work& work) {
  if (call.n_tensors != 3 && call.n_tensors != 4)
    return "scatter_add: expected out, rows, index and perhaps base";
  const Tensor &out = call.tensors[0], &rows = call.tensors[1], &index = call.tensors[2];
  if (!is_index(index)) return "scatter_add: expected an int32 or int64 index of rank 1";
  if (out.dtype != rows.dtype || !is_float(out.dtype))
    return "scatter_add: expected out and rows both float32 or both float64";
  if (out.rank < 1 || !same_shape(out, 1, rows, 1) || rows.shape[0] != index.shape[0])
    return "scatter_add: expected out (V, rest...), rows (L, rest...) and index (L)";
  if (call.n_tensors == 4 &&
      (call.tensors[3].dtype != out.dtype || !same_shape(out, 0, call.tensors[3], 0)))
    return "scatter_add: expected a base of out's shape and dtype";
  const bool in_place = call.n_tensors == 4 && call.tensors[3].data == out.data;
  const double row = static_cast<double>(count(out, 1, out.rank)) * size_of(out.dtype);
  const int64_t per_part = scatter_rows_per_part(call);
  work.parts[0] = out.shape[0] <= per_part ? 1 : (out.shape[0] + per_part - 1) / per_part;
  work.bytes = row * ((in_place ? 0 : out.shape[0]) + 3.0 * rows.shape[0]) + rows.shape[0] * 8.0;
  work.flops = row / size_of(out.dtype) * rows.shape[0];
  return nullptr;
}

void run_scatter_add(const Call& call, int, int64_t begin, int64_t end, char*) {
  const int64_t per_part = scatter_rows_per_part(call), rows = call.tensors[0].shape[0];
  const int64_t first = begin * per_part, last = end * per_part < rows ? end * per_part : rows;
  if (count(call.tensors[0], 0, call.tensors[0].rank) == 0) return;
  if (call.tensors[0].dtype == DType::f32) return scatter_rows<float>(call, first, last);
  scatter_rows<double>(call, first, last);
}

}  // namespace dl::DL_LEVEL
