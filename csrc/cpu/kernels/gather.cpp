// gather: out[l] = table[index[l]], converted to out's dtype as NumPy's astype does; 0 where
// index[l] is out of range.
//
// Gathering random rows waits for memory, so the row kRowsAhead places on is prefetched while one
// is copied.
#include "cpu/kernels/indexed_rows.h"
#include "cpu/rows.h"

namespace dl::DL_LEVEL {

namespace {

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

// A run of n elements. One cache line of `ahead`, the run to be copied kRowsAhead rows later, is
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
  {convert_run<DType::to, DType::from>, gather_elements<DType::to, DType::from>}
#define DL_CONVERSIONS(to)                                                 \
  {DL_CONVERSION(to, f32), DL_CONVERSION(to, f64), DL_CONVERSION(to, i32), \
   DL_CONVERSION(to, i64), DL_CONVERSION(to, u8),  DL_CONVERSION(to, b8)}
constexpr Conversion kConversions[kArrayDTypes][kArrayDTypes] = {
    DL_CONVERSIONS(f32), DL_CONVERSIONS(f64), DL_CONVERSIONS(i32),
    DL_CONVERSIONS(i64), DL_CONVERSIONS(u8),  DL_CONVERSIONS(b8)};
#undef DL_CONVERSIONS
#undef DL_CONVERSION

int64_t rows_per_part(int64_t row_bytes) {
  return row_bytes >= kRowPartBytes ? 1 : kRowPartBytes / (row_bytes ? row_bytes : 1);
}

}  // namespace

const char* plan_gather(const Call& call, Work& work) {
  if (const char* wrong = check_gather(call)) return wrong;
  const Tensor &out = call.tensors[0], &table = call.tensors[1], &index = call.tensors[2];
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
    const char *from = source(l), *next = l + kRowsAhead < last ? source(l + kRowsAhead) : nullptr;
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

}  // namespace dl::DL_LEVEL
