// What the tests of the CUDA backend's runner and memory share: arrays on the emulated device, and
// what is refused with which words.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cuda/cuda_program.h"
#include "tests/check.h"

using namespace dl;

inline void refused(const std::function<void()>& f, const std::vector<std::string>& words) {
  std::string got = "nothing";
  try {
    f();
  } catch (const std::exception& error) {
    got = error.what();
  }
  for (const std::string& word : words) {
    if (got.find(word) == std::string::npos)
      std::fprintf(stderr, "%s: %s\n", word.c_str(), got.c_str());
    CHECK(got.find(word) != std::string::npos);
  }
}

struct Array {  // of int32 on the device
  int64_t n;
  cuda::Memory memory;

  explicit Array(const std::vector<int32_t>& values)
      : n(static_cast<int64_t>(values.size())), memory(n * 4) {
    cuda::copy_to_device(memory.data(), values.data(), n * 4, cuda::main_stream());
  }
  std::vector<int32_t> get() const {
    std::vector<int32_t> values(n);
    cuda::copy_to_host(values.data(), memory.data(), n * 4, cuda::main_stream());
    return values;
  }
  void bind(Program& program, int slot, int64_t from = 0) const {
    program.bind(slot, memory.data() + from * 4, {-from * 4, (n - from) * 4}, true);
  }
};

inline std::vector<int32_t> count(int64_t n, int32_t first = 0) {
  std::vector<int32_t> values(n);
  for (int64_t i = 0; i < n; ++i) values[i] = first + static_cast<int32_t>(i);
  return values;
}
