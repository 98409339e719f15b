// What csrc/cuda uses of CUDA's driver, maps of tensors for the copy engine, whose encoding refuses
// what the driver's documentation does; and what Hopper's instructions do (csrc/cuda/hopper.cuh).
#pragma once

#include "cuda_runtime.h"

using cuuint32_t = uint32_t;
using cuuint64_t = uint64_t;
enum CUresult { CUDA_SUCCESS, CUDA_ERROR_INVALID_VALUE };
enum CUtensorMapDataType {
  CU_TENSOR_MAP_DATA_TYPE_FLOAT16 = 6,
  CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 = 9,
  CU_TENSOR_MAP_DATA_TYPE_TFLOAT32 = 11
};
enum CUtensorMapInterleave { CU_TENSOR_MAP_INTERLEAVE_NONE };
enum CUtensorMapSwizzle { CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_128B = 3 };
enum CUtensorMapL2promotion { CU_TENSOR_MAP_L2_PROMOTION_L2_256B = 3 };
enum CUtensorMapFloatOOBfill { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE };

struct alignas(128) CUtensorMap {
  CUtensorMapDataType type;
  CUtensorMapSwizzle swizzle;
  const char* data;
  uint64_t size[3], stride[3];  // strides in bytes
  uint32_t box[3];
};

CUresult cuTensorMapEncodeTiled(CUtensorMap*, CUtensorMapDataType, cuuint32_t rank, void* data,
                                const cuuint64_t* size, const cuuint64_t* strides,
                                const cuuint32_t* box, const cuuint32_t* element_strides,
                                CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,
                                CUtensorMapFloatOOBfill);

namespace dl_emulation {

// Barriers, 8 bytes of shared memory each: a phase ends with its last arrival and its last byte.
void make_barrier(char* barrier, int arrivals);
void arrive(char* barrier, int expected_bytes);
void wait_phase(char* barrier, int parity);

// Every other row of 128 bytes is copied at once, the rest when somebody waits for the barrier: so
// a buffer that is still in use, or not yet waited for, shows.
void copy_box(char* to, const CUtensorMap& map, char* barrier, int x, int y, int z);

// Products are made by the wait, not before it: so does a buffer that is given back too early.
void product(std::function<void()> work);
void end_products();
void wait_products(int groups_left);

// An operand in shared memory by the bits of its descriptor; x is a row of X or a column of Y.
struct Operand {
  const char* window;
  uint64_t start, leading, stride;
  bool across;

  Operand(uint64_t descriptor, bool across);

  template <class E>
  float element(int x, int k) const {
    constexpr int kSize = sizeof(E), kRun = 128 / kSize;
    const uint64_t from_start =
        across ? x / kRun * leading + x % kRun * kSize + k / 8 * stride + k % 8 * 128
               : x / 8 * stride + x % 8 * 128 + k * kSize;
    const uint64_t address = start + from_start;
    E value;
    std::memcpy(&value, window + (address ^ (address >> 7 & 7) << 4), kSize);
    return static_cast<float>(value);
  }
};

}  // namespace dl_emulation
