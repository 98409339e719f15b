// Whether products of float32 go through tensor cores, which keep ten bits of each factor's
// mantissa (tf32). Off until asked for; plans read it, so it holds for programs that are made
// afterwards.
#pragma once

#include <atomic>

namespace dl::cuda {

inline std::atomic<bool> tf32_products{false};

}  // namespace dl::cuda
