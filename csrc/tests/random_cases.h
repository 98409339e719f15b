// What tests of generated cases share: a generator of numbers.
#pragma once

#include <cstdint>
#include <random>

inline std::mt19937 generator(11);

inline int64_t pick(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(generator);
}
