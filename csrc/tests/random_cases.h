// What tests of generated cases share: the numbers of the operations, and a generator of numbers.
#pragma once

#include <cstdint>
#include <random>

enum : int64_t {
#define DL_OP(name, inputs, outputs) op_##name,
#include "opcodes.def"
#undef DL_OP
};

inline std::mt19937 generator(11);

inline int64_t pick(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(generator);
}
