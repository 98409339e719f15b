// Philox on several counters at once, in the lanes of a vector: common/philox.h.
#pragma once

#include "common/philox.h"
#include "cpu/simd.h"
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace dl::DL_LEVEL {

// The 32 x 32 -> 64 bit product, which GCC does not find in vector types by itself.
struct PhiloxLanes {
  using type = Vec<uint64_t>;
  static type multiply(type a, uint32_t m) {
#if defined(__AVX512F__)  // the masked form: GCC 12 warns about the plain one (its bug 105593)
    return reinterpret_cast<type>(
        _mm512_maskz_mul_epu32(0xFF, reinterpret_cast<__m512i>(a), _mm512_set1_epi64(m)));
#elif defined(__AVX2__) && !defined(DL_VECTOR_BYTES)
    return reinterpret_cast<type>(
        _mm256_mul_epu32(reinterpret_cast<__m256i>(a), _mm256_set1_epi64x(m)));
#elif defined(__SSE2__) && !defined(DL_VECTOR_BYTES)
    return reinterpret_cast<type>(_mm_mul_epu32(reinterpret_cast<__m128i>(a), _mm_set1_epi64x(m)));
#else
    return (a & 0xFFFFFFFFu) * static_cast<uint64_t>(m);
#endif
  }
};

// The low halves of the lanes.
inline void store_words(uint32_t* to, Vec<uint64_t> x) {
  typedef uint32_t Half __attribute__((vector_size(kVectorBytes / 2)));
  const Half words = __builtin_convertvector(x, Half);
  std::memcpy(to, &words, sizeof words);
}

}  // namespace dl::DL_LEVEL
