// Elements in memory: of any dtype, in packs of neighbours, along axes of any strides.
#pragma once

#include "cuda/half.cuh"

#include "common/tensors.h"

namespace dl::cuda {

// V elements that one thread works on.
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T v[V];
};

// An element of any dtype as T.
template <class T>
__device__ inline T load_element(const char* data, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::f32:
      return static_cast<T>(reinterpret_cast<const float*>(data)[i]);
    case DType::f64:
      return static_cast<T>(reinterpret_cast<const double*>(data)[i]);
    case DType::i32:
      return static_cast<T>(reinterpret_cast<const int32_t*>(data)[i]);
    case DType::i64:
      return static_cast<T>(reinterpret_cast<const int64_t*>(data)[i]);
    case DType::b8:
      return static_cast<T>(reinterpret_cast<const uint8_t*>(data)[i] != 0);
    case DType::bf16:
      return static_cast<T>(reinterpret_cast<const Bf16*>(data)[i]);
    case DType::f16:
      return static_cast<T>(reinterpret_cast<const F16*>(data)[i]);
    default:
      return static_cast<T>(reinterpret_cast<const uint8_t*>(data)[i]);
  }
}

// Integers truncate, b8 tests against 0.
template <class T>
__device__ inline void store_element(char* data, DType dtype, int64_t i, T x) {
  switch (dtype) {
    case DType::f32:
      reinterpret_cast<float*>(data)[i] = static_cast<float>(x);
      break;
    case DType::f64:
      reinterpret_cast<double*>(data)[i] = static_cast<double>(x);
      break;
    case DType::i32:
      reinterpret_cast<int32_t*>(data)[i] = static_cast<int32_t>(x);
      break;
    case DType::i64:
      reinterpret_cast<int64_t*>(data)[i] = static_cast<int64_t>(x);
      break;
    case DType::b8:
      reinterpret_cast<uint8_t*>(data)[i] = x != T(0);
      break;
    case DType::bf16:
      reinterpret_cast<Bf16*>(data)[i] = Bf16(static_cast<float>(x));
      break;
    case DType::f16:
      reinterpret_cast<F16*>(data)[i] = F16(static_cast<float>(x));
      break;
    default:
      reinterpret_cast<uint8_t*>(data)[i] = static_cast<uint8_t>(static_cast<int64_t>(x));
  }
}

// The same of types that hold real numbers alone.
template <class T>
__device__ inline T load_real(const char* data, DType dtype, int64_t i) {
  if (dtype == DType::f32) return static_cast<T>(reinterpret_cast<const float*>(data)[i]);
  if (dtype == DType::f64) return static_cast<T>(reinterpret_cast<const double*>(data)[i]);
  if (dtype == DType::bf16) return static_cast<T>(reinterpret_cast<const Bf16*>(data)[i]);
  return static_cast<T>(reinterpret_cast<const F16*>(data)[i]);
}

template <class T>
__device__ inline void store_real(char* data, DType dtype, int64_t i, T x) {
  if (dtype == DType::f32) {
    reinterpret_cast<float*>(data)[i] = static_cast<float>(x);
  } else if (dtype == DType::f64) {
    reinterpret_cast<double*>(data)[i] = static_cast<double>(x);
  } else if (dtype == DType::bf16) {
    reinterpret_cast<Bf16*>(data)[i] = Bf16(static_cast<float>(x));
  } else {
    reinterpret_cast<F16*>(data)[i] = F16(static_cast<float>(x));
  }
}

// V neighbours that lie whole and aligned, stored as E.
template <int V, class E>
__device__ inline Pack<Computed<E>, V> load_stored(const E* from) {
  const Pack<E, V> stored = *reinterpret_cast<const Pack<E, V>*>(from);
  Pack<Computed<E>, V> x;
#pragma unroll
  for (int v = 0; v < V; ++v) x.v[v] = stored.v[v];
  return x;
}

template <int V, class E>
__device__ inline void store_stored(E* to, const Pack<Computed<E>, V>& x) {
  Pack<E, V> stored;
#pragma unroll
  for (int v = 0; v < V; ++v) stored.v[v] = E(x.v[v]);
  *reinterpret_cast<Pack<E, V>*>(to) = stored;
}

// f(x) with an x of the type that elements of `dtype`, computed as T, are stored as.
template <class T, class F>
auto with_storage(DType dtype, F&& f) {
  if constexpr (sizeof(T) == 4) {
    if (dtype == DType::bf16) return f(Bf16());
    if (dtype == DType::f16) return f(F16());
  }
  return f(T());
}

// Whether packs of T may be loaded from, and stored to, neighbours of dtype t at once.
template <class T>
constexpr bool is_packable(DType t) {
  return t == (sizeof(T) == 8 ? DType::f64 : DType::f32) || (sizeof(T) == 4 && is_half(t));
}

// V neighbours that lie whole and aligned, of a dtype that is_packable<T>.
template <class T, int V>
__device__ inline Pack<T, V> load_neighbours(const char* data, DType dtype, int64_t i) {
  if constexpr (sizeof(T) == 4) {
    const auto convert = [](const auto& x) {
      Pack<T, V> y;
#pragma unroll
      for (int v = 0; v < V; ++v) y.v[v] = static_cast<T>(x.v[v]);
      return y;
    };
    if (dtype == DType::bf16)
      return convert(*reinterpret_cast<const Pack<Bf16, V>*>(data + i * sizeof(Bf16)));
    if (dtype == DType::f16)
      return convert(*reinterpret_cast<const Pack<F16, V>*>(data + i * sizeof(F16)));
  }
  return *reinterpret_cast<const Pack<T, V>*>(data + i * sizeof(T));
}

template <class T, int V>
__device__ inline void store_neighbours(char* data, DType dtype, int64_t i, const Pack<T, V>& x) {
  if constexpr (sizeof(T) == 4) {
    const auto convert = [&](auto* to) {
      std::remove_pointer_t<decltype(to)> y;
#pragma unroll
      for (int v = 0; v < V; ++v) y.v[v] = std::remove_reference_t<decltype(y.v[v])>(x.v[v]);
      *to = y;
    };
    if (dtype == DType::bf16)
      return convert(reinterpret_cast<Pack<Bf16, V>*>(data + i * sizeof(Bf16)));
    if (dtype == DType::f16)
      return convert(reinterpret_cast<Pack<F16, V>*>(data + i * sizeof(F16)));
  }
  *reinterpret_cast<Pack<T, V>*>(data + i * sizeof(T)) = x;
}

// Axes of a tensor, neighbours merged where memory allows, as an argument of a kernel.
struct Layout {
  int rank;
  int64_t shape[kMaxRank], stride[kMaxRank];

  // Where element i, in row-major order, lies.
  __device__ int64_t offset(int64_t i) const {
    if (rank == 1) return i * stride[0];
    int64_t at = 0;
    for (int a = rank - 1; a > 0; --a) {
      const int64_t q = i / shape[a];
      at += (i - q * shape[a]) * stride[a];
      i = q;
    }
    return at + i * stride[0];
  }
};

// The axes [first, last); rank is at least 1.
inline Layout layout_of(const Tensor& t, int first, int last) {
  Layout m{};
  for (int a = first; a < last; ++a) {
    if (t.shape[a] == 1) continue;
    const int end = m.rank - 1;
    if (m.rank > 0 && m.stride[end] == t.shape[a] * t.stride[a]) {
      m.shape[end] *= t.shape[a];
      m.stride[end] = t.stride[a];
    } else {
      m.shape[m.rank] = t.shape[a];
      m.stride[m.rank++] = t.stride[a];
    }
  }
  if (m.rank == 0) m.rank = 1, m.shape[0] = 1;
  return m;
}

inline bool is_aligned(const void* p, size_t bytes = 16) {
  return reinterpret_cast<uintptr_t>(p) % bytes == 0;
}

}  // namespace dl::cuda
