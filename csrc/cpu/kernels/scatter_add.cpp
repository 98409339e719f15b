// scatter_add: out[v] = base[v] (or 0) + sum of rows[l] over the l with index[l] = v, added in
// order of l; out of range adds nothing. Where base is out, other rows are not touched.
//
// It is cut by rows of out: each thread reads the whole index and adds what falls into its rows, in
// order, without any sharing. The row kRowsAhead places on is prefetched while one is added to.
#include "cpu/kernels/indexed_rows.h"
#include "cpu/rows.h"

namespace dl::DL_LEVEL {

namespace {

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
      for (int64_t i = 0; i < m.shape[run]; ++i)
        p[i * m.to_stride[run]] = q[i * m.from_stride[run]];
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
      const T* ahead =
          h + kRowsAhead < hits ? out.as<T>() + target[h + kRowsAhead] * out.stride[0] : to;
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

int64_t scatter_rows_per_part(const Call& call) {
  const Tensor &out = call.tensors[0], &rows = call.tensors[1];
  const int64_t row_bytes = count(out, 1, out.rank) * size_of(out.dtype);
  const int64_t parts = (out.shape[0] + 3 * rows.shape[0]) * row_bytes / kRowPartBytes + 1;
  return out.shape[0] / parts + 1;
}

}  // namespace

const char* plan_scatter_add(const Call& call, Work& work) {
  if (const char* wrong = check_scatter_add(call)) return wrong;
  const Tensor &out = call.tensors[0], &rows = call.tensors[1];
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
