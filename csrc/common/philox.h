// Philox4x32-10, a counter-based random number generator, for every backend (C++ and CUDA).
//
//   words[4] = ten rounds of multiply, exchange and add key over the counter (block lo, block hi,
//   stream, step) with the key (seed lo, seed hi)
//
// There is no state: element i of a tensor takes its words from block i / 4 (i / 2 where an element
// needs two), so any thread can make any element and every backend makes the same ones.
//
// Source: Salmon, Moraes, Dror, Shaw, Parallel random numbers: as easy as 1, 2, 3 (SC 2011),
// section 3.3 and table 2.
#pragma once

#include <cstdint>

#include "common/host_device.h"

#if defined(__CUDACC__)
#define DL_UNROLL(pragma)  // by itself
#else
#define DL_UNROLL(pragma) _Pragma(#pragma)
#endif

namespace dl {

// The ten rounds on kChains independent sets of counters (a round waits for its product; a second
// chain fills the gap). Lanes are 64 bits wide and their low 32 bits count: products then need no
// shuffles in vector code. Lanes supplies the type and multiply(a, m) = (low 32 bits of a) * m in
// 64 bits; see PhiloxScalar.
//
// Static: this is compiled for several instruction sets, and a shared weak symbol would pick one of
// them for all.
template <class Lanes, int kChains>
DL_HOST_DEVICE static inline void philox_rounds(typename Lanes::type (&counter)[kChains][4],
                                                uint64_t seed) {
  constexpr uint32_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;  // golden ratio, sqrt(3) - 1
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  DL_UNROLL(GCC unroll 10)
  for (int round = 0; round < 10; ++round) {
    DL_UNROLL(GCC unroll 4)
    for (int chain = 0; chain < kChains; ++chain) {
      typename Lanes::type* c = counter[chain];
      const typename Lanes::type product0 = Lanes::multiply(c[0], kMultiplier0);
      const typename Lanes::type product1 = Lanes::multiply(c[2], kMultiplier1);
      c[0] = (product1 >> 32) ^ (c[1] ^ static_cast<uint64_t>(key0));
      c[1] = product1;
      c[2] = (product0 >> 32) ^ (c[3] ^ static_cast<uint64_t>(key1));
      c[3] = product0;
    }
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
}

struct PhiloxScalar {
  using type = uint64_t;
  DL_HOST_DEVICE static uint64_t multiply(uint64_t a, uint32_t m) {
    return static_cast<uint64_t>(static_cast<uint32_t>(a)) * m;
  }
};

struct PhiloxWords {
  uint32_t word[4];
};

DL_HOST_DEVICE static inline PhiloxWords philox(uint64_t block, uint32_t stream, uint32_t step,
                                                uint64_t seed) {
  uint64_t c[1][4] = {{block & 0xFFFFFFFF, block >> 32, stream, step}};
  philox_rounds<PhiloxScalar>(c, seed);
  return {{static_cast<uint32_t>(c[0][0]), static_cast<uint32_t>(c[0][1]),
           static_cast<uint32_t>(c[0][2]), static_cast<uint32_t>(c[0][3])}};
}

}  // namespace dl
