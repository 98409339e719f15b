// The only file that knows lane counts: vectors of the widest register of DL_LEVEL, on GCC/Clang
// vector types.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>  // masked and non-temporal access, minimum and maximum alone
#endif

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

// x, but no less than `low`; NaN stays NaN. The machine's maximum gives its second operand if one is
// NaN; compilers make a comparison and a choice of it.
template <class T>
inline Vec<T> at_least(Vec<T> x, T low) {
#if defined(__AVX512F__)
  if constexpr (kVectorBytes == 64 && sizeof(T) == 4)
    return (Vec<T>)_mm512_max_ps((__m512)broadcast<T>(low), (__m512)x);
  if constexpr (kVectorBytes == 64 && sizeof(T) == 8)
    return (Vec<T>)_mm512_max_pd((__m512d)broadcast<T>(low), (__m512d)x);
#elif defined(__AVX2__)
  if constexpr (kVectorBytes == 32 && sizeof(T) == 4)
    return (Vec<T>)_mm256_max_ps((__m256)broadcast<T>(low), (__m256)x);
  if constexpr (kVectorBytes == 32 && sizeof(T) == 8)
    return (Vec<T>)_mm256_max_pd((__m256d)broadcast<T>(low), (__m256d)x);
#endif
  return x < low ? broadcast<T>(low) : x;
}

// x, but no more than `high`; NaN stays NaN.
template <class T>
inline Vec<T> at_most(Vec<T> x, T high) {
#if defined(__AVX512F__)
  if constexpr (kVectorBytes == 64 && sizeof(T) == 4)
    return (Vec<T>)_mm512_min_ps((__m512)broadcast<T>(high), (__m512)x);
  if constexpr (kVectorBytes == 64 && sizeof(T) == 8)
    return (Vec<T>)_mm512_min_pd((__m512d)broadcast<T>(high), (__m512d)x);
#elif defined(__AVX2__)
  if constexpr (kVectorBytes == 32 && sizeof(T) == 4)
    return (Vec<T>)_mm256_min_ps((__m256)broadcast<T>(high), (__m256)x);
  if constexpr (kVectorBytes == 32 && sizeof(T) == 8)
    return (Vec<T>)_mm256_min_pd((__m256d)broadcast<T>(high), (__m256d)x);
#endif
  return x > high ? broadcast<T>(high) : x;
}

// Past the caches, where p lies on a vector's boundary: large results then cost no read of the old
// lines. fence() orders such stores before what follows.
template <class T>
inline void store_past_caches(T* p, Vec<T> v) {
#if defined(__AVX512F__)
  if constexpr (kVectorBytes == 64) return _mm512_stream_si512((__m512i*)p, (__m512i)v);
#endif
#if defined(__AVX2__)
  __m256i pieces[kVectorBytes / 32];
  std::memcpy(pieces, &v, sizeof v);
  for (int i = 0; i < kVectorBytes / 32; ++i) _mm256_stream_si256((__m256i*)p + i, pieces[i]);
#else
  store<T>(p, v);
#endif
}

inline void fence() {
#if defined(__AVX2__)
  _mm_sfence();
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

#if defined(__AVX2__)
template <class T>
inline Vec<int32_t> part_mask(int64_t n) {  // all ones in the first n * sizeof(T) bytes
  Vec<int32_t> lane;
  for (int i = 0; i < kLanes<int32_t>; ++i) lane[i] = i;
  return lane < int32_t(n * sizeof(T) / 4);
}
#endif

// The first n < kLanes elements; the rest reads as 0.
template <class T>
inline Vec<T> load_part(const T* p, int64_t n) {
#if defined(__AVX512F__)
  if constexpr (kVectorBytes == 64 && sizeof(T) == 4)
    return (Vec<T>)_mm512_maskz_loadu_ps((1u << n) - 1, p);
  if constexpr (kVectorBytes == 64 && sizeof(T) == 8)
    return (Vec<T>)_mm512_maskz_loadu_pd((1u << n) - 1, p);
#elif defined(__AVX2__)
  if constexpr (kVectorBytes == 32 && sizeof(T) >= 4)
    return (Vec<T>)_mm256_maskload_epi32((const int*)p, (__m256i)part_mask<T>(n));
#endif
  T buffer[kLanes<T>] = {};
  copy_pieces<kLanes<T> / 2>(buffer, p, n);
  return load<T>(buffer);
}

template <class T>
inline void store_part(T* p, Vec<T> v, int64_t n) {
#if defined(__AVX512F__)
  if constexpr (kVectorBytes == 64 && sizeof(T) == 4)
    return _mm512_mask_storeu_ps(p, (1u << n) - 1, (__m512)v);
  if constexpr (kVectorBytes == 64 && sizeof(T) == 8)
    return _mm512_mask_storeu_pd(p, (1u << n) - 1, (__m512d)v);
#elif defined(__AVX2__)
  if constexpr (kVectorBytes == 32 && sizeof(T) >= 4)
    return _mm256_maskstore_epi32((int*)p, (__m256i)part_mask<T>(n), (__m256i)v);
#endif
  T buffer[kLanes<T>];
  store<T>(buffer, v);
  copy_pieces<kLanes<T> / 2>(p, buffer, n);
}

}  // namespace dl::DL_LEVEL
