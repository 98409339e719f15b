// Tensor cores and what feeds them, of GPUs from sm_80 on: the one place with PTX. On the emulated
// device a warp's lanes show each other what they hold instead.
//
// A product of tensor cores: 16 x 8 sums of a warp += A (16 x 32 bytes of k) B (32 bytes of k x 8).
// Lane 4 g + t has, with a word of two halves or one float of k:
//
//   a[q]  row g + 8 (q % 2), word t + 4 (q / 2) of k       b[q]  column g, word t + 4 q of k
//   sums  (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
#pragma once

#include "cuda/half.cuh"

namespace dl::cuda {

#ifdef __CUDA_ARCH__

using SharedAddress = uint32_t;

__device__ inline SharedAddress shared_address(void* p) {
  return static_cast<SharedAddress>(__cvta_generic_to_shared(p));
}

// The first `bytes` of 16 are copied, the others become 0; both places are aligned. The copy is
// there after wait_copies, for other threads after a barrier too.
__device__ inline void copy_async(SharedAddress to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}
__device__ inline void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until at most kLeft of the groups that end_copies ended are under way.
template <int kLeft>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

__device__ inline void store_shared(SharedAddress to, const uint32_t (&x)[4]) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(x[0]), "r"(x[1]),
               "r"(x[2]), "r"(x[3])
               : "memory");
}
__device__ inline uint32_t load_shared(SharedAddress from) {
  uint32_t x;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(x) : "r"(from) : "memory");
  return x;
}

// Four matrices of 8 rows of 16 bytes; lane 8 q + r gives the address of row r of matrix q. Lane
// 4 g + t gets word t of row g of each.
__device__ inline void load_matrices(SharedAddress row, uint32_t (&x)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(row)
               : "memory");
}

// The same of halves, transposed: lane 4 g + t gets column g of rows 2 t and 2 t + 1.
__device__ inline void load_transposed(SharedAddress row, uint32_t (&x)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(row)
               : "memory");
}

// The nearest number that has the ten bits of mantissa that tensor cores take of a float.
__device__ inline uint32_t round_tf32(uint32_t x) {
  uint32_t y;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(__uint_as_float(x)));
  return y;
}

#define DL_MULTIPLY(shape_and_types)                                              \
  asm volatile("mma.sync.aligned." shape_and_types                                \
               " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])           \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))

// E: what the words of A and B hold; float is rounded to tf32 before.
template <class E>
__device__ inline void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0,
                                    uint32_t b1) {
  if constexpr (std::is_same_v<E, Bf16>) {
    DL_MULTIPLY("m16n8k16.row.col.f32.bf16.bf16.f32");
  } else if constexpr (std::is_same_v<E, F16>) {
    DL_MULTIPLY("m16n8k16.row.col.f32.f16.f16.f32");
  } else {
    DL_MULTIPLY("m16n8k8.row.col.f32.tf32.tf32.f32");
  }
}
#undef DL_MULTIPLY

#elif defined(DL_CUDA_EMULATED)

using SharedAddress = char*;

inline SharedAddress shared_address(void* p) { return static_cast<char*>(p); }
inline void copy_async(SharedAddress to, const void* from, int bytes) {
  dl_emulation::copy_later(to, from, bytes);
}
inline void end_copies() { dl_emulation::end_copies(); }
template <int kLeft>
inline void wait_copies() {
  dl_emulation::wait_copies(kLeft);
}
inline void store_shared(SharedAddress to, const uint32_t (&x)[4]) { std::memcpy(to, x, 16); }
inline uint32_t load_shared(SharedAddress from) {
  uint32_t x;
  std::memcpy(&x, from, 4);
  return x;
}

inline void load_matrices(SharedAddress row, uint32_t (&x)[4]) {
  const int lane = dl_emulation::lane();
  dl_emulation::with_lanes(row, [&](auto rows) {
    for (int q = 0; q < 4; ++q) std::memcpy(&x[q], rows(8 * q + lane / 4) + lane % 4 * 4, 4);
  });
}

inline void load_transposed(SharedAddress row, uint32_t (&x)[4]) {
  const int lane = dl_emulation::lane();
  dl_emulation::with_lanes(row, [&](auto rows) {
    for (int q = 0; q < 4; ++q)
      for (int i = 0; i < 2; ++i)
        std::memcpy(reinterpret_cast<char*>(&x[q]) + 2 * i,
                    rows(8 * q + lane % 4 * 2 + i) + lane / 4 * 2, 2);
  });
}

inline uint32_t round_tf32(uint32_t x) {
  return (x & 0x7f800000) == 0x7f800000 ? x : (x + 0x1000) & 0xffffe000;
}

// Half i of a word, or all of it.
template <class E>
inline float part_of(uint32_t word, int i) {
  if constexpr (sizeof(E) == 4) {
    return __uint_as_float(word);
  } else {
    E x;
    x.bits = static_cast<uint16_t>(word >> 16 * i);
    return x;
  }
}

template <class E>
inline void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  struct Words {
    uint32_t a[4], b[2];
  };
  const int lane = dl_emulation::lane(), g = lane / 4, t = lane % 4;
  dl_emulation::with_lanes(Words{{a[0], a[1], a[2], a[3]}, {b0, b1}}, [&](auto words) {
    Words rows[4], cols[2][4];
    for (int k = 0; k < 4; ++k) {
      rows[k] = words(g * 4 + k);
      for (int c = 0; c < 2; ++c) cols[c][k] = words((2 * t + c) * 4 + k);
    }
    for (int s = 0; s < 4; ++s) {
      for (int k = 0; k < 8; ++k) {
        const uint32_t x = rows[k % 4].a[s / 2 + k / 4 * 2], y = cols[s % 2][k % 4].b[k / 4];
        for (int i = 0; i < 4 / static_cast<int>(sizeof(E)); ++i)
          sum[s] += part_of<E>(x, i) * part_of<E>(y, i);
      }
    }
  });
}

#else  // the host's pass of nvcc, which only looks at the signatures

using SharedAddress = uint32_t;
__device__ SharedAddress shared_address(void* p);
__device__ void copy_async(SharedAddress to, const void* from, int bytes);
__device__ void end_copies();
template <int kLeft>
__device__ void wait_copies();
__device__ void store_shared(SharedAddress to, const uint32_t (&x)[4]);
__device__ uint32_t load_shared(SharedAddress from);
__device__ void load_matrices(SharedAddress row, uint32_t (&x)[4]);
__device__ void load_transposed(SharedAddress row, uint32_t (&x)[4]);
__device__ uint32_t round_tf32(uint32_t x);
template <class E>
__device__ void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

#endif

}  // namespace dl::cuda
