// Which products the kernels for Hopper take (gemm_hopper.cu): those that are large enough to gain.
// DLCORE_CUDA_HOPPER=0: none, always: whatever the size.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace dl::cuda {

enum class HopperUse { never, large, always };

inline HopperUse hopper_use_wanted() {
  const char* value = std::getenv("DLCORE_CUDA_HOPPER");
  if (!value || !*value) return HopperUse::large;
  return std::strcmp(value, "always") == 0 ? HopperUse::always
         : std::strcmp(value, "0") == 0    ? HopperUse::never
                                           : HopperUse::large;
}

inline std::atomic<HopperUse> hopper_use{hopper_use_wanted()};
inline std::atomic<int64_t> hopper_products{0};  // that were launched, as tests ask

}  // namespace dl::cuda
