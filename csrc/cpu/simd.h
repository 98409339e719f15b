// The only file that knows lane counts: vectors of the widest register of DL_LEVEL, on GCC/Clang vector types.
#pragma once

#include <cstdint>
#include <cstring>

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

// The first n < kLanes elements; the rest reads as 0.
template <class T>
inline Vec<T> load_part(const T* p, int64_t n) {
  Vec<T> v{};
  std::memcpy(&v, p, n * sizeof(T));
  return v;
}

template <class T>
inline void store_part(T* p, Vec<T> v, int64_t n) {
  std::memcpy(p, &v, n * sizeof(T));
}

}  // namespace dl::DL_LEVEL
