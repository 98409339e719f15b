// The only file that knows lane counts: vectors of the widest register of DL_LEVEL, on GCC/Clang
// vector types.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

namespace dl::DL_LEVEL {

// A build may force a width (the 16-lane code is tested on machines without AVX-512 that way).
#if defined(DL_VECTOR_BYTES)
constexpr int kVectorBytes = DL_VECTOR_BYTES;
#elif defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T>
constexpr int kLanes = kVectorBytes / sizeof(T);

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vec = typename VectorOf<T>::type;

template <class T>
inline Vec<T> load(const T* p) {  // any alignment
  Vec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
inline void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof v);
}

template <class T>
inline Vec<T> broadcast(T x) {
  return x - Vec<T>{};
}

// sum += x * y with all three in registers. Of the operator GCC makes forms that overwrite x or
// read y again from memory, and a tile of all registers then waits for copies and loads.
template <class T>
inline void add_product(Vec<T>& sum, Vec<T> x, Vec<T> y) {
#if defined(__FMA__) && !defined(DL_VECTOR_BYTES)
#if defined(__AVX512F__)
#define DL_REGISTER "v"
#else
#define DL_REGISTER "x"
#endif
  if constexpr (sizeof(T) == 4) {
    asm("vfmadd231ps %2, %1, %0" : "+" DL_REGISTER(sum) : DL_REGISTER(x), DL_REGISTER(y));
  } else {
    asm("vfmadd231pd %2, %1, %0" : "+" DL_REGISTER(sum) : DL_REGISTER(x), DL_REGISTER(y));
  }
#undef DL_REGISTER
#else
  sum += x * y;
#endif
}

// Minimum and maximum, masked and non-temporal access are built-in functions of GCC and Clang: to
// parse immintrin.h takes longer than to compile most files.
#if defined(__AVX512F__) && defined(__clang__)
#define DL_WIDE(function, a, b) __builtin_ia32_##function##512(a, b, 4)
#elif defined(__AVX512F__)
#define DL_WIDE(function, a, b) __builtin_ia32_##function##512_mask(a, b, a, -1, 4)
#endif

// x, but no less than `low`; NaN stays NaN. The machine's maximum gives its second operand if one
// is NaN; compilers make a comparison and a choice of it.
template <class T>
inline Vec<T> at_least(Vec<T> x, T low) {
#if defined(__AVX512F__)
  if constexpr (kVectorBytes == 64 && sizeof(T) == 4) return DL_WIDE(maxps, broadcast<T>(low), x);
  if constexpr (kVectorBytes == 64 && sizeof(T) == 8) return DL_WIDE(maxpd, broadcast<T>(low), x);
#elif defined(__AVX2__)
  if constexpr (kVectorBytes == 32 && sizeof(T) == 4)
    return __builtin_ia32_maxps256(broadcast<T>(low), x);
  if constexpr (kVectorBytes == 32 && sizeof(T) == 8)
    return __builtin_ia32_maxpd256(broadcast<T>(low), x);
#endif
  return x < low ? broadcast<T>(low) : x;
}

// x, but no more than `high`; NaN stays NaN.
template <class T>
inline Vec<T> at_most(Vec<T> x, T high) {
#if defined(__AVX512F__)
  if constexpr (kVectorBytes == 64 && sizeof(T) == 4) return DL_WIDE(minps, broadcast<T>(high), x);
  if constexpr (kVectorBytes == 64 && sizeof(T) == 8) return DL_WIDE(minpd, broadcast<T>(high), x);
#elif defined(__AVX2__)
  if constexpr (kVectorBytes == 32 && sizeof(T) == 4)
    return __builtin_ia32_minps256(broadcast<T>(high), x);
  if constexpr (kVectorBytes == 32 && sizeof(T) == 8)
    return __builtin_ia32_minpd256(broadcast<T>(high), x);
#endif
  return x > high ? broadcast<T>(high) : x;
}

// Past the caches, where p lies on a vector's boundary: large results then cost no read of the old
// lines. fence() orders such stores before what follows.
template <class T>
inline void store_past_caches(T* p, Vec<T> v) {
#if defined(__AVX2__) && defined(__clang__)
  __builtin_nontemporal_store(v, reinterpret_cast<Vec<T>*>(p));
#else
#if defined(__AVX512F__)
  typedef long long Wide __attribute__((vector_size(64)));
  if constexpr (kVectorBytes == 64)
    return __builtin_ia32_movntdq512(reinterpret_cast<Wide*>(p), reinterpret_cast<Wide>(v));
#endif
#if defined(__AVX2__)
  typedef long long Piece __attribute__((vector_size(32)));
  Piece pieces[kVectorBytes / 32];
  std::memcpy(pieces, &v, sizeof v);
  for (int i = 0; i < kVectorBytes / 32; ++i)
    __builtin_ia32_movntdq256(reinterpret_cast<Piece*>(p) + i, pieces[i]);
#else
  store<T>(p, v);
#endif
#endif
}

inline void fence() {
#if defined(__AVX2__)
  __builtin_ia32_sfence();
#endif
}

// A tail moves as the machine's masked access, else in pieces of halving size: a call of memcpy
// would cost as much as the work and clobber every vector register around it.
template <int N, class To, class From>
inline void copy_pieces(To* to, const From* from, int64_t n) {
  if constexpr (N > 0) {
    if (n & N) {
      std::memcpy(to, from, N * sizeof(To));
      to += N, from += N;
    }
    copy_pieces<N / 2>(to, from, n);
  }
}

#if defined(__AVX512F__) && !defined(DL_VECTOR_BYTES) && \
    __has_builtin(__builtin_ia32_loadups512_mask)
#define DL_MASKED 64
#elif defined(__AVX2__) && __has_builtin(__builtin_ia32_maskloadd256)
#define DL_MASKED 32
template <class T>
inline Vec<int32_t> part_mask(int64_t n) {  // all ones in the first n * sizeof(T) bytes
  Vec<int32_t> lane;
  for (int i = 0; i < kLanes<int32_t>; ++i) lane[i] = i;
  return lane < int32_t(n * sizeof(T) / 4);
}
#else
#define DL_MASKED 0
#endif

// The first n < kLanes elements; the rest reads as 0.
template <class T>
inline Vec<T> load_part(const T* p, int64_t n) {
#if DL_MASKED == 64
  if constexpr (kVectorBytes == 64 && sizeof(T) == 4)
    return (Vec<T>)__builtin_ia32_loadups512_mask((const float*)p, Vec<float>{}, (1u << n) - 1);
  if constexpr (kVectorBytes == 64 && sizeof(T) == 8)
    return (Vec<T>)__builtin_ia32_loadupd512_mask((const double*)p, Vec<double>{}, (1u << n) - 1);
#elif DL_MASKED == 32
  if constexpr (kVectorBytes == 32 && sizeof(T) >= 4)
    return (Vec<T>)__builtin_ia32_maskloadd256((const Vec<int32_t>*)p, part_mask<T>(n));
#endif
  T buffer[kLanes<T>] = {};
  copy_pieces<kLanes<T> / 2>(buffer, p, n);
  return load<T>(buffer);
}

template <class T>
inline void store_part(T* p, Vec<T> v, int64_t n) {
#if DL_MASKED == 64
  if constexpr (kVectorBytes == 64 && sizeof(T) == 4)
    return __builtin_ia32_storeups512_mask((float*)p, (Vec<float>)v, (1u << n) - 1);
  if constexpr (kVectorBytes == 64 && sizeof(T) == 8)
    return __builtin_ia32_storeupd512_mask((double*)p, (Vec<double>)v, (1u << n) - 1);
#elif DL_MASKED == 32
  if constexpr (kVectorBytes == 32 && sizeof(T) >= 4)
    return __builtin_ia32_maskstored256((Vec<int32_t>*)p, part_mask<T>(n), (Vec<int32_t>)v);
#endif
  T buffer[kLanes<T>];
  store<T>(buffer, v);
  copy_pieces<kLanes<T> / 2>(p, buffer, n);
}

// f(i, n) for vectors from i on with n elements; n is a constant for all but the last.
template <class T, class F>
inline void for_vectors(int64_t size, F&& f) {
  constexpr int64_t L = kLanes<T>;
  int64_t i = 0;
  for (; i + L <= size; i += L) f(i, L);
  if (i < size) f(i, size - i);
}

template <class T>
inline Vec<T> load_some(const T* p, int64_t n) {
  return n == kLanes<T> ? load<T>(p) : load_part<T>(p, n);
}

template <class T>
inline void store_some(T* p, Vec<T> v, int64_t n) {
  n == kLanes<T> ? store<T>(p, v) : store_part<T>(p, v, n);
}

// v with its lanes exchanged at the distance `width`.
template <class T, int width, int... lane>
inline Vec<T> exchange(Vec<T> v, std::integer_sequence<int, lane...>) {
  return __builtin_shufflevector(v, v, (lane ^ width)...);
}

// One number of all lanes, by halves: combine(a, b) is about vectors.
template <class T, int width = kLanes<T> / 2, class F>
inline T fold(Vec<T> v, F combine) {
  if constexpr (width == 0)
    return v[0];
  else
    return fold<T, width / 2>(
        combine(v, exchange<T, width>(v, std::make_integer_sequence<int, kLanes<T>>())), combine);
}

template <class T>
inline T sum_of(Vec<T> v) {
  return fold<T>(v, [](Vec<T> a, Vec<T> b) { return a + b; });
}

}  // namespace dl::DL_LEVEL
