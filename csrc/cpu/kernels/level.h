// Declarations of every kernel of one instruction set, DL_LEVEL.
#pragma once

#include "kernel.h"

#define DL_TEXT_(x) #x
#define DL_TEXT(x) DL_TEXT_(x)

namespace dl::DL_LEVEL {

#define DL_KERNEL(name)                        \
  const char* plan_##name(const Call&, Work&); \
  void run_##name(const Call&, int phase, int64_t begin, int64_t end, char* scratch);
#include "kernels.def"
#undef DL_KERNEL

const KernelTable& table();

}  // namespace dl::DL_LEVEL
