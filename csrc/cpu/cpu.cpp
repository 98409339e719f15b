// Nothing compiled for a level runs before `supported` has said yes: this file is compiled for the
// lowest level.
#include "cpu/cpu.h"

#include <cstring>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define DL_DECLARE(level)                             \
  namespace dl::level {                               \
  const KernelTable& table();                         \
  double probe_multiply_add(int64_t rounds);          \
  double probe_read(const char* data, int64_t bytes); \
  }
DL_DECLARE(baseline)
DL_DECLARE(avx2)
DL_DECLARE(avx512)
#undef DL_DECLARE

namespace dl {

namespace {

#if defined(__x86_64__)
// The features of the psABI's micro-architecture levels. The compiler's own names for the levels
// are too new.
[[maybe_unused]] bool has_v2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("ssse3") &&
         __builtin_cpu_supports("popcnt");
}

[[maybe_unused]] bool has_v3() {
  unsigned a, b, c, d;
  constexpr unsigned kMovbe = 1u << 22, kF16c = 1u << 29, kLzcnt = 1u << 5;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & kMovbe) || !(c & kF16c)) return false;
  if (!__get_cpuid(0x80000001, &a, &b, &c, &d) || !(c & kLzcnt)) return false;
  return has_v2() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}

[[maybe_unused]] bool has_v4() {
  return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
#else
[[maybe_unused]] bool has_v2() { return true; }
#endif

#define DL_LEVEL_ENTRY(level, supported)                                              \
  {                                                                                   \
    #level, supported, level::table, { level::probe_multiply_add, level::probe_read } \
  }
constexpr Level kLevels[] = {
#if defined(DL_HAVE_baseline)
    DL_LEVEL_ENTRY(baseline, has_v2),
#endif
#if defined(DL_HAVE_avx2)
    DL_LEVEL_ENTRY(avx2, has_v3),
#endif
#if defined(DL_HAVE_avx512)
    DL_LEVEL_ENTRY(avx512, has_v4),
#endif
};

const Level* chosen = nullptr;

}  // namespace

std::vector<std::string> levels() {
  std::vector<std::string> names;
  for (const Level& l : kLevels) {
    if (l.supported()) names.push_back(l.name);
  }
  return names;
}

void choose_level(const char* forced) {
  const bool force = forced && *forced;
  for (const Level& l : kLevels) {
    if ((!force || std::strcmp(forced, l.name) == 0) && l.supported()) chosen = &l;
  }
  if (force && (!chosen || std::strcmp(forced, chosen->name) != 0)) chosen = nullptr;
  if (chosen) return;
  std::string names;
  for (const std::string& name : levels()) names += (names.empty() ? "" : ", ") + name;
  if (names.empty())
    throw std::invalid_argument("dlcore: expected an x86-64-v2 CPU (SSE4.2), got an older one");
  throw std::invalid_argument("DLCORE_ISA: expected one of " + names + " on this CPU, got '" +
                              forced + "'");
}

const Level& level() { return *chosen; }

const Kernel* find_kernel(const std::string& name) {
  const KernelTable& table = chosen->table();
  for (int i = 0; i < table.n_kernels; ++i) {
    if (name == table.kernels[i].name) return &table.kernels[i];
  }
  return nullptr;
}

}  // namespace dl
