// The instruction sets compiled in, and the one that runs.
#pragma once

#include <string>
#include <vector>

#include "kernel.h"

namespace dl {

// Loops that measure a core, compiled per instruction set (kernels/measure.cpp).
struct Probes {
  double (*multiply_add)(int64_t rounds);           // returns the flops done
  double (*read)(const char* data, int64_t bytes);  // returns a checksum
};

struct Level {
  const char* name;
  bool (*supported)();  // by this CPU and its operating system
  const KernelTable& (*table)();
  Probes probes;
};

// Levels that this CPU can run, lowest first.
std::vector<std::string> levels();

// Chooses the highest level, or `forced` unless that is null or empty. Throws std::invalid_argument
// if there is no such level or the CPU cannot run it. Called once, at import, before anything else
// here.
void choose_level(const char* forced);

const Level& level();
const Kernel* find_kernel(const std::string& name);  // nullptr if there is none

}  // namespace dl
