// What feeds and drives the tensor cores of Hopper, sm_90a alone: boxes of a tensor copied to
// shared memory by the copy engine, barriers that count arrivals and bytes, products of a
// warpgroup. With tensor_core.cuh the one place with PTX; on the emulated device
// csrc/tests/cuda/cuda.h does what the instruction set's description says of each.
//
// A product (wgmma): 64 x 256 sums of four warps += X (64 x 32 bytes of k) Y (32 bytes of k x 256).
// Y lies in shared memory, X there or in registers. Lane 4 g + t of warp w has the sums of
//
//   sum[4 j + s]   row 16 w + g + 8 (s / 2), column 8 j + 2 t + s % 2
//   x[q]           row 16 w + g + 8 (q % 2), word t + 4 (q / 2) of k
//
// An operand in shared memory has rows of 128 bytes, eight of them 1024 bytes that begin at a
// multiple of 1024; chunk c of 16 bytes of row r is at c ^ r % 8. A row is 128 bytes of k of one x,
// the next eight x are `stride` bytes on; or, across (halves alone), 64 x of one k, the next eight
// k are `stride` bytes on and the next 64 x `leading` bytes.
#pragma once

#include <cuda.h>

#include "cuda/tensor_core.cuh"

namespace dl::cuda {

constexpr int kWarpgroup = 128;
constexpr int kSwizzleBytes = 1024;
constexpr int kWgmmaCols = 256, kWgmmaRows = 64;
constexpr int kSums = kWgmmaCols / 2;  // of a thread

#if defined(__CUDA_ARCH__)

__device__ inline uint64_t shared_bits(SharedAddress address) { return address & 0x3ffff; }

// Of threads before they wait for a barrier that `arrivals` threads end a phase of.
__device__ inline void make_barrier(SharedAddress barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
// By the thread that made barriers, before the block's barrier that lets others use them.
__device__ inline void show_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ inline void arrive(SharedAddress barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// The phase ends when these bytes have been copied, too.
__device__ inline void arrive_and_expect(SharedAddress barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
// Until the phase of this parity is over; the phases are 0, 1, 0, 1, ...
__device__ inline void wait_phase(SharedAddress barrier, int parity) {
  asm volatile(
      "{\n"
      ".reg .pred over;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 over, [%0], %1;\n"
      "@!over bra again;\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// A box at (x, y, z) of the tensor, all of its bytes: what is outside of the tensor becomes 0.
__device__ inline void copy_box(SharedAddress to, const CUtensorMap& map, SharedAddress barrier,
                                int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(x), "r"(y), "r"(z)
      : "memory");
}

// The share of the registers that each thread of a warpgroup keeps, or gets of what others gave.
template <int kCount>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

// Products between begin and end are a group.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void end_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until at most kLeft groups are under way.
template <int kLeft>
__device__ inline void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
}
// Keeps what follows from being moved before a wait.
__device__ inline void use_sums(float (&sum)[kSums]) {
#pragma unroll
  for (int i = 0; i < kSums; ++i) asm volatile("" : "+f"(sum[i])::"memory");
}

#define DL_SUM(i) "+f"(sum[i])
#define DL_SUM4(i) DL_SUM(i), DL_SUM(i + 1), DL_SUM(i + 2), DL_SUM(i + 3)
#define DL_SUM16(i) DL_SUM4(i), DL_SUM4(i + 4), DL_SUM4(i + 8), DL_SUM4(i + 12)
#define DL_SUM128                                                                                  \
  DL_SUM16(0), DL_SUM16(16), DL_SUM16(32), DL_SUM16(48), DL_SUM16(64), DL_SUM16(80), DL_SUM16(96), \
      DL_SUM16(112)
#define DL_REGISTERS                                                                             \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                      \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "             \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "             \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "             \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, "   \
  "%127}"
// The predicate: sums are added to.
#define DL_WGMMA(shape_and_types, operands)                                                   \
  "{\n.reg .pred add;\nsetp.eq.u32 add, 0, 0;\nwgmma.mma_async.sync.aligned." shape_and_types \
  " " DL_REGISTERS ", " operands ";\n}\n"
#define DL_WGMMA_HALVES(type)                                                                 \
  asm volatile(DL_WGMMA("m64n256k16.f32." type "." type, "%128, %129, add, 1, 1, %130, %131") \
               : DL_SUM128                                                                    \
               : "l"(x), "l"(y), "n"(kAcrossX), "n"(kAcrossY))

// sum += X Y. Matrices by their descriptors.
template <class E, bool kAcrossX, bool kAcrossY>
__device__ inline void multiply_group(float (&sum)[kSums], uint64_t x, uint64_t y) {
  if constexpr (std::is_same_v<E, Bf16>) {
    DL_WGMMA_HALVES("bf16");
  } else if constexpr (std::is_same_v<E, F16>) {
    DL_WGMMA_HALVES("f16");
  } else {
    static_assert(!kAcrossX && !kAcrossY);
    asm volatile(DL_WGMMA("m64n256k8.f32.tf32.tf32", "%128, %129, add, 1, 1")
                 : DL_SUM128
                 : "l"(x), "l"(y));
  }
}

// The same with X, tf32, in registers, which keep it until the group is waited for.
__device__ inline void multiply_group(float (&sum)[kSums], const uint32_t (&x)[4], uint64_t y) {
  asm volatile(DL_WGMMA("m64n256k8.f32.tf32.tf32", "{%128, %129, %130, %131}, %132, add, 1, 1")
               : DL_SUM128
               : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "l"(y));
}

#undef DL_WGMMA_HALVES
#undef DL_WGMMA
#undef DL_REGISTERS
#undef DL_SUM128
#undef DL_SUM16
#undef DL_SUM4
#undef DL_SUM

#elif defined(DL_CUDA_EMULATED)

inline uint64_t shared_bits(SharedAddress address) { return dl_emulation::shared_offset(address); }
inline void make_barrier(SharedAddress b, int arrivals) { dl_emulation::make_barrier(b, arrivals); }
inline void show_barriers() {}
inline void arrive(SharedAddress b) { dl_emulation::arrive(b, 0); }
inline void arrive_and_expect(SharedAddress b, int bytes) { dl_emulation::arrive(b, bytes); }
inline void wait_phase(SharedAddress b, int parity) { dl_emulation::wait_phase(b, parity); }
inline void copy_box(SharedAddress to, const CUtensorMap& map, SharedAddress barrier, int x, int y,
                     int z) {
  dl_emulation::copy_box(to, map, barrier, x, y, z);
}
template <int kCount>
inline void give_registers() {}
template <int kCount>
inline void take_registers() {}
inline void begin_products() {}
inline void end_products() { dl_emulation::end_products(); }
template <int kLeft>
inline void wait_products() {
  dl_emulation::wait_products(kLeft);
}
inline void use_sums(float (&)[kSums]) {}

// x(half, k): of row `half` of the two that this lane has.
template <class E, class Rows>
inline void multiply_rows(float (&sum)[kSums], Rows&& x, const dl_emulation::Operand& y) {
  constexpr int kDepth = 32 / static_cast<int>(sizeof(E));
  float row[2][kDepth];
  for (int k = 0; k < kDepth; ++k) row[0][k] = x(0, k), row[1][k] = x(1, k);
  for (int i = 0; i < kSums / 2; ++i) {
    const int column = i / 2 * 8 + dl_emulation::lane() % 4 * 2 + i % 2;
    float &upper = sum[i / 2 * 4 + i % 2], &lower = sum[i / 2 * 4 + 2 + i % 2];
    for (int k = 0; k < kDepth; ++k) {
      const float element = y.element<E>(column, k);
      upper += row[0][k] * element;
      lower += row[1][k] * element;
    }
  }
}

template <class E, bool kAcrossX, bool kAcrossY>
inline void multiply_group(float (&sum)[kSums], uint64_t x, uint64_t y) {
  dl_emulation::product(
      [&sum, of_x = dl_emulation::Operand(x, kAcrossX), of_y = dl_emulation::Operand(y, kAcrossY)] {
        const int warp = static_cast<int>(threadIdx.x) % kWarpgroup / kWarp;
        const int first = warp * 16 + dl_emulation::lane() / 4;
        const auto row = [&](int half, int k) { return of_x.element<E>(first + 8 * half, k); };
        multiply_rows<E>(sum, row, of_y);
      });
}

inline void multiply_group(float (&sum)[kSums], const uint32_t (&x)[4], uint64_t y) {
  struct Words {
    uint32_t of[4];
  };
  dl_emulation::product([&sum, &x, of_y = dl_emulation::Operand(y, false)] {
    dl_emulation::with_lanes(Words{{x[0], x[1], x[2], x[3]}}, [&](auto words) {
      const int first = dl_emulation::lane() / 4 * 4;
      const auto row = [&](int half, int k) {
        return __uint_as_float(words(first + k % 4).of[half + k / 4 * 2]);
      };
      multiply_rows<float>(sum, row, of_y);
    });
  });
}

#else  // the host's pass of nvcc, which only looks at the signatures

__device__ uint64_t shared_bits(SharedAddress address);
__device__ void make_barrier(SharedAddress barrier, int arrivals);
__device__ void show_barriers();
__device__ void arrive(SharedAddress barrier);
__device__ void arrive_and_expect(SharedAddress barrier, int bytes);
__device__ void wait_phase(SharedAddress barrier, int parity);
__device__ void copy_box(SharedAddress to, const CUtensorMap& map, SharedAddress barrier, int x,
                         int y, int z);
template <int kCount>
__device__ void give_registers();
template <int kCount>
__device__ void take_registers();
__device__ void begin_products();
__device__ void end_products();
template <int kLeft>
__device__ void wait_products();
__device__ void use_sums(float (&sum)[kSums]);
template <class E, bool kAcrossX, bool kAcrossY>
__device__ void multiply_group(float (&sum)[kSums], uint64_t x, uint64_t y);
__device__ void multiply_group(float (&sum)[kSums], const uint32_t (&x)[4], uint64_t y);

#endif

// A matrix in shared memory; see above.
__device__ inline uint64_t describe_matrix(SharedAddress at, int leading, int stride) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  return kSwizzle128 | static_cast<uint64_t>(stride >> 4) << 32 |
         static_cast<uint64_t>(leading >> 4) << 16 | shared_bits(at) >> 4;
}
// The matrix that begins `bytes` later.
__device__ inline uint64_t moved(uint64_t matrix, int bytes) { return matrix + (bytes >> 4); }

}  // namespace dl::cuda
