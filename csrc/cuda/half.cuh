// Halves as they are stored: bfloat16 and float16. Arithmetic is in float32: they are converted
// where they are loaded, and rounded to nearest, halves to even, where they are stored.
#pragma once

#include "cuda/launch.h"

#include <type_traits>

namespace dl::cuda {

struct Bf16 {
  uint16_t bits;

  Bf16() = default;
  __host__ __device__ explicit Bf16(float x);
  __host__ __device__ operator float() const;
};

struct F16 {
  uint16_t bits;

  F16() = default;
  __host__ __device__ explicit F16(float x);
  __host__ __device__ operator float() const;
};

// What elements stored as E are computed as.
template <class E>
using Computed = std::conditional_t<std::is_same_v<E, double>, double, float>;

#ifdef __CUDA_ARCH__

__device__ inline Bf16::operator float() const { return __uint_as_float(uint32_t{bits} << 16); }
__device__ inline Bf16::Bf16(float x) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x)); }
__device__ inline F16::operator float() const {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
}
__device__ inline F16::F16(float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x)); }

#else

inline float float_of_bits(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
inline uint32_t bits_of_float(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}

inline Bf16::operator float() const { return float_of_bits(uint32_t{bits} << 16); }
inline Bf16::Bf16(float x) {
  const uint32_t b = bits_of_float(x);
  bits = static_cast<uint16_t>(x != x ? 0x7fff : (b + 0x7fff + (b >> 16 & 1)) >> 16);
}

inline F16::operator float() const {
  const uint32_t sign = uint32_t{bits} >> 15 << 31, rest = bits & 0x7fff;
  if (rest >= 0x7c00) return float_of_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  return float_of_bits(sign | bits_of_float(float_of_bits(rest << 13) * 0x1p112f));
}
inline F16::F16(float x) {
  const uint32_t b = bits_of_float(x), sign = b >> 31 << 15, rest = b & 0x7fffffff;
  uint32_t y = 0x7fff;      // NaN
  if (rest < 0x38800000) {  // subnormal: its last bit is 0.5f's
    y = bits_of_float(float_of_bits(rest) + 0.5f) - 0x3f000000;
  } else if (rest <= 0x7f800000) {
    y = (rest + 0xfff + (rest >> 13 & 1) - (112u << 23)) >> 13;
    y = y < 0x7c00 ? y : 0x7c00;
  }
  bits = static_cast<uint16_t>(x != x ? 0x7fff : sign | y);
}

#endif

}  // namespace dl::cuda
