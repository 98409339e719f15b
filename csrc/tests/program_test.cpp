// The program runner, with kernels made for the test: bits for any team, steps, deadlines, bounds,
// bad input.
#include "cpu/cpu_program.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/check.h"

using namespace dl;

// out[i] = in[(i + shift) mod n] * 1664525 + i: reads what other threads wrote. ints = [shift,
// parts, megaflops].
static const char* plan_shift(const Call& call, Work& work) {
  if (call.n_tensors != 2 || call.n_ints != 3) return "shift: expected out, in and three integers";
  work.parts[0] = call.ints[1];
  work.flops = 1e6 * static_cast<double>(call.ints[2]);
  work.scratch_bytes = 64;
  return nullptr;
}

static void run_shift(const Call& call, int, int64_t begin, int64_t end, char* scratch) {
  const Tensor &out = call.tensors[0], &in = call.tensors[1];
  const int64_t n = out.shape[0];
  CHECK(scratch[0] == 0);
  scratch[0] = 1;  // nobody else may see this
  for (int64_t i = n * begin / call.ints[1]; i < n * end / call.ints[1]; ++i) {
    out.as<uint32_t>()[i] =
        in.as<uint32_t>()[(i + call.ints[0]) % n] * 1664525 + static_cast<uint32_t>(i);
  }
  scratch[0] = 0;
}

// total = sum of in, by partial sums in shared memory and a second phase.
constexpr int64_t kPartials = 16;

static const char* plan_total(const Call& call, Work& work) {
  if (call.n_tensors != 2) return "expected total, in";  // a sentence without the name
  work.phases = 2;
  work.parts[0] = kPartials;
  work.shared_bytes = kPartials * 4;
  work.flops = 8e6;
  return nullptr;
}

static void run_total(const Call& call, int phase, int64_t begin, int64_t end, char*) {
  uint32_t* partial = reinterpret_cast<uint32_t*>(call.shared);
  const int64_t n = call.tensors[1].shape[0];
  if (phase == 1) {
    uint32_t sum = 0;
    for (int p = 0; p < kPartials; ++p) sum = sum * 31 + partial[p];
    call.tensors[0].as<uint32_t>()[0] = sum;
    return;
  }
  for (int64_t p = begin; p < end; ++p) {
    partial[p] = 0;
    for (int64_t i = n * p / kPartials; i < n * (p + 1) / kPartials; ++i)
      partial[p] += call.tensors[1].as<uint32_t>()[i];
  }
}

static const char* plan_wait(const Call&, Work&) { return nullptr; }
static std::atomic<int> waits;
static void run_wait(const Call&, int, int64_t, int64_t, char*) {
  ++waits;
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

static const Kernel kShift{"shift", plan_shift, run_shift}, kTotal{"total", plan_total, run_total},
    kWait{"wait", plan_wait, run_wait};

static Tensor vector(int64_t n, int64_t stride = 1) {
  Tensor t = {};
  t.dtype = DType::i32;
  t.rank = 1;
  t.shape[0] = n;
  t.stride[0] = stride;
  return t;
}

constexpr int64_t kN = 1000;

// Slot 0: the program's two vectors. Slot 1: a row of input per step. Slot 2: one total per step.
static CpuProgram make_program(int64_t megaflops) {
  const int64_t half = kN * 4;
  std::vector<Instruction> list;
  list.push_back(
      {&kShift, {{0, 0, 0, vector(kN)}, {1, 0, half, vector(kN)}}, {3, 7, megaflops}, {}});
  list.push_back(
      {&kShift, {{0, half, 0, vector(kN)}, {0, 0, 0, vector(kN)}}, {501, 5, 0}, {}});  // one thread
  list.push_back(
      {&kShift, {{0, 0, 0, vector(kN)}, {0, half, 0, vector(kN)}}, {777, 32, megaflops}, {}});
  list.push_back(
      {&kShift, {{0, half, 0, vector(kN)}, {0, 0, 0, vector(kN)}}, {10, 64, megaflops}, {}});
  list.push_back({&kTotal, {{2, 0, 4, vector(1)}, {0, half, 0, vector(kN)}}, {}, {}});
  list.push_back({&kTotal, {{2, 0, 4, vector(1)}, {0, half, 0, vector(kN)}}, {}, {}});
  return CpuProgram(3, std::move(list), {{0, 2 * half}});
}

constexpr int64_t kSteps = 40;

static std::vector<int32_t> totals(CpuProgram& program, int64_t chunk) {
  std::vector<int32_t> input(kN * kSteps), output(kSteps);
  for (size_t i = 0; i < input.size(); ++i) input[i] = static_cast<int32_t>(i * i);
  program.bind(1, reinterpret_cast<char*>(input.data()), {0, int64_t(input.size()) * 4}, false);
  program.bind(2, reinterpret_cast<char*>(output.data()), {0, kSteps * 4}, true);
  for (int64_t step = 0; step < kSteps; step += chunk) CHECK(program.run(step, chunk) == chunk);
  program.bind(1, nullptr, {}, false);
  return output;
}

static void test_same_bits() {
  set_num_threads(1);
  CpuProgram reference = make_program(4);
  const std::vector<int32_t> expected = totals(reference, kSteps);
  for (const int threads : {1, 2, 3, 7}) {
    set_num_threads(threads);
    CpuProgram program = make_program(4);
    for (const int64_t chunk : {kSteps, int64_t{1}, int64_t{8}})
      CHECK(totals(program, chunk) == expected);
    CHECK(totals(reference, 10) == expected);  // another team size for a program in use
  }
  CpuProgram small = make_program(0);
  CHECK(totals(small, kSteps).size() == kSteps);
}

static void test_one_stage() {
  std::vector<int32_t> x(kN), y(kN);
  for (const int threads : {1, 2, 7}) {
    set_num_threads(threads);
    CpuProgram program(
        2, {{&kShift, {{1, 0, 0, vector(kN)}, {0, 0, 0, vector(kN)}}, {3, 32, 4}, {}}}, {});
    for (int round = 0; round < 200; ++round) {
      for (int64_t i = 0; i < kN; ++i) x[i] = static_cast<int32_t>(i * 7 + round);
      program.bind(0, reinterpret_cast<char*>(x.data()), {0, kN * 4}, false);
      program.bind(1, reinterpret_cast<char*>(y.data()), {0, kN * 4}, true);
      CHECK(program.run(0, 1) == 1);
      for (int64_t i = 0; i < kN; ++i) {
        const uint32_t source = static_cast<uint32_t>(x[(i + 3) % kN]);
        CHECK(static_cast<uint32_t>(y[i]) == source * 1664525 + static_cast<uint32_t>(i));
      }
    }
  }
}

// Instructions that touch different memory run without a barrier between them; all else waits.
static void test_barriers() {
  const auto at = [](int64_t block) { return Operand{0, block * kN * 4, 0, vector(kN)}; };
  const auto shift = [](Operand out, Operand in, int64_t megaflops) {
    return Instruction{&kShift, {out, in}, {3, 32, megaflops}, {}};
  };
  const auto barriers = [](std::vector<Instruction> list) {
    CpuProgram program(4, std::move(list), {{0, 8 * kN * 4}, {3, 4}});
    std::vector<char> memory(3 * kN * 4);
    for (const int slot : {1, 2}) program.bind(slot, memory.data(), {0, 3 * kN * 4}, true);
    CHECK(program.run(0, 3) == 3);
    CHECK(program.barriers(1) == 0);
    return program.barriers(7);
  };
  set_num_threads(7);
  CHECK(barriers({shift(at(1), at(0), 4), shift(at(2), at(0), 4), shift(at(3), at(0), 0)}) == 0);
  CHECK(barriers({shift(at(1), at(0), 4), shift(at(2), at(1), 4)}) == 1);  // read after write
  CHECK(barriers({shift(at(1), at(0), 4), shift(at(0), at(2), 4)}) == 1);  // write after read
  CHECK(barriers({shift(at(1), at(0), 4), shift(at(1), at(0), 4)}) == 1);  // write after write
  CHECK(barriers({shift(at(1), at(0), 0), shift(at(2), at(1), 0)}) == 0);  // thread 0 both times
  // the third waits for the first, though not for the second
  CHECK(barriers({shift(at(1), at(0), 4), shift(at(2), at(0), 4), shift(at(3), at(1), 4)}) == 1);
  const Operand a{1, 0, 0, vector(kN)}, b{2, kN * 4, 0, vector(kN)};
  const Operand moving{1, kN * 4, 4, vector(kN)}, beside{1, 2 * kN * 4, 0, vector(kN)};
  CHECK(barriers({shift(at(1), a, 4), shift(at(2), b, 4)}) == 0);
  CHECK(barriers({shift(a, at(1), 4), shift(at(2), b, 4)}) ==
        1);  // the caller's arrays may overlap
  CHECK(barriers({shift(a, at(0), 4), shift(beside, at(0), 4)}) == 0);
  CHECK(barriers({shift(a, at(0), 4), shift(moving, at(0), 4)}) == 1);  // may meet at some step
  const auto total = [&](Operand in) {
    return Instruction{&kTotal, {{3, 0, 0, vector(1)}, in}, {}, {}};
  };
  CHECK(barriers({total(at(0)), total(at(1))}) == 3);  // they share memory for partial sums
}

static void test_programs_on_many_threads() {
  set_num_threads(2);
  CpuProgram reference = make_program(4);
  const std::vector<int32_t> expected = totals(reference, kSteps);
  std::vector<std::thread> callers;
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&] {
      CpuProgram program = make_program(4);
      for (int j = 0; j < 5; ++j) CHECK(totals(program, 8) == expected);
    });
  }
  for (std::thread& caller : callers) caller.join();
}

static void test_deadline() {
  std::vector<Instruction> list;
  list.push_back({&kWait, {}, {}, {}});
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    std::vector<Instruction> copy = list;
    copy.push_back({&kShift, {{0, 0, 0, vector(kN)}, {0, kN * 4, 0, vector(kN)}}, {1, 8, 100}, {}});
    CpuProgram program(1, copy, {{0, kN * 8}});
    const int64_t done = program.run(5, 10000, 20);
    CHECK(done >= 1 && done <= 11);
    CHECK(program.run(0, 10000, 0) == 1);
    CHECK(program.run(0, 3, 1e6) == 3);
    CHECK(program.run(0, 0) == 0);
  }
}

// A step of many instructions ends soon after `interrupted`, and says whether memory of the caller
// was written; one that writes nothing else ends within.
static void test_interrupt() {
  static std::atomic<int> questions;
  const auto interrupted = [] { return ++questions >= 2; };
  std::vector<uint32_t> memory(kN);
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    for (const int lasting : {0, 1}) {
      std::vector<Instruction> list;
      for (int i = 0; i < 200; ++i) {
        list.push_back({&kWait, {}, {}, {}});
        list.push_back(
            {&kShift, {{lasting, 0, 0, vector(kN)}, {0, kN * 4, 0, vector(kN)}}, {1, 8, 100}, {}});
      }
      CpuProgram program(2, list, {{0, kN * 8}});
      if (lasting) program.bind(1, reinterpret_cast<char*>(memory.data()), {0, kN * 4}, true);
      questions = waits = 0;
      CHECK(program.run(0, 3, -1, interrupted) == 0);
      CHECK(waits < 150);
      CHECK(questions == 2 && program.torn() == (lasting == 1));
      CHECK(program.run(0, 1, -1, [] { return false; }) == 1 && !program.torn());
    }
  }
}

static const char* plan_long(const Call&, Work& work) {
  work.parts[0] = 400;
  work.flops = 1e12;
  return nullptr;
}
static std::atomic<int> parts_done;
static void run_long(const Call&, int, int64_t begin, int64_t end, char*) {
  parts_done += static_cast<int>(end - begin);
  std::this_thread::sleep_for(std::chrono::milliseconds(2 * (end - begin)));
}
static const Kernel kLong{"long", plan_long, run_long};

// A long instruction ends within if what it writes is the program's own, else when it is done.
static void test_interrupt_within() {
  std::vector<uint32_t> memory(kN);
  for (const int threads : {1, 2}) {
    set_num_threads(threads);
    for (const int lasting : {0, 1}) {
      std::vector<Instruction> list;
      for (int i = 0; i < 2; ++i) list.push_back({&kLong, {{lasting, 0, 0, vector(kN)}}, {}, {}});
      CpuProgram program(2, list, {{0, kN * 4}});
      if (lasting) program.bind(1, reinterpret_cast<char*>(memory.data()), {0, kN * 4}, true);
      parts_done = 0;
      CHECK(program.run(0, 1, -1, [] { return true; }) == 0);
      CHECK(lasting ? parts_done == 400 : parts_done < 300);
      CHECK(program.torn() == (lasting == 1));
    }
  }
}

static void refused(const std::function<void()>& f, const std::string& words) {
  try {
    f();
  } catch (const std::invalid_argument& error) {
    if (std::string(error.what()).find(words) == std::string::npos)
      std::fprintf(stderr, "%s\n", error.what());
    CHECK(std::string(error.what()).find(words) != std::string::npos);
    return;
  }
  std::fprintf(stderr, "not refused: %s\n", words.c_str());
  CHECK(false);
}

static void test_bad_programs() {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max(),
                    kMin = std::numeric_limits<int64_t>::min();
  const auto make = [](Operand out, Operand in) {
    std::vector<Instruction> list;
    list.push_back({&kShift, {out, in}, {1, 4, 0}, {}});
    CpuProgram program(2, list, {{0, 400}});
  };
  const Operand good{0, 0, 0, vector(100)};
  make(good, good);
  make(good, {0, 396, 0, vector(100, -1)});     // backwards from the last element
  make(good, {0, 0, 0, vector(1 << 20, 0)});    // broadcast
  make({0, kMax / 4 * 4, 0, vector(0)}, good);  // nothing is touched
  refused([&] { make(good, {0, 4, 0, vector(100)}); }, "slot 0 to hold bytes [0, 404)");
  refused([&] { make(good, {0, 392, 0, vector(100, -1)}); }, "[-4, ");
  refused([&] { make(good, {0, -4, 0, vector(100)}); }, "[-4, ");
  refused([&] { make(good, {0, 2, 0, vector(10)}); }, "whole elements");
  refused([&] { make(good, {0, 0, 2, vector(10)}); }, "whole elements");
  refused([&] { make(good, {2, 0, 0, vector(10)}); }, "slot from 0 to 1, got 2");
  refused([&] { make(good, {-1, 0, 0, vector(10)}); }, "slot from 0 to 1, got -1");
  refused([&] { make(good, {0, 0, 0, vector(-1)}); }, "shapes >= 0");
  for (const int64_t huge : {kMax, kMax / 4, kMin}) {
    refused([&] { make(good, {0, 0, 0, vector(2, huge)}); }, "expected");
    refused([&] { make(good, {0, huge / 4 * 4, 0, vector(10)}); }, "expected");
    refused([&] { make(good, {0, 0, 0, vector(huge)}); }, "expected");
  }
  refused([&] { make(good, {0, 0, 0, vector(kMax, 0)}); }, "overflow");
  Tensor deep = vector(1);
  deep.rank = 9;
  refused([&] { make(good, {0, 0, 0, deep}); }, "at most 8 axes");
  refused([&] { CpuProgram(1, {{&kShift, {}, {}, {}}}, {}); }, "shift: expected out");
  refused([&] { CpuProgram(1, {{&kTotal, {}, {}, {}}}, {}); }, "total: expected total");
  refused([&] { CpuProgram(1, {{&kShift, {good, good}, {1, -1, 0}, {}}}, {{0, 400}}); },
          "shift: expected a plan");
  refused([&] { CpuProgram(-1, {}, {}); }, "n_slots");
  refused([&] { CpuProgram(1, {}, {{1, 8}}); }, "slot");
  refused([&] { CpuProgram(1, {}, {{0, -8}}); }, "slot_bytes");
}

static void test_bounds_of_steps() {
  CpuProgram program = make_program(0);
  std::vector<int32_t> input(kN * 3 + 1), output(4);
  char *in = reinterpret_cast<char*>(input.data()), *out = reinterpret_cast<char*>(output.data());
  const Range in_range{0, kN * 12}, out_range{0, 16};
  refused([&] { program.run(0, 1); }, "bound to slot 1");
  program.bind(1, in, in_range, false);
  refused([&] { program.run(0, 1); }, "bound to slot 2");
  refused([&] { program.bind(2, out, out_range, false); }, "writable");
  refused([&] { program.bind(2, out + 1, out_range, true); }, "aligned");
  refused([&] { program.bind(0, out, out_range, true); }, "owns");
  program.bind(2, out, out_range, true);
  CHECK(program.run(0, 3) == 3);
  CHECK(program.run(2, 1) == 1);
  refused([&] { program.run(0, 4); }, "slot 1 to hold");
  refused([&] { program.run(3, 1); }, "slot 1 to hold");
  refused([&] { program.run(-1, 1); }, "first >= 0");
  refused([&] { program.run(0, -1); }, "steps >= 0");
  refused([&] { program.run(std::numeric_limits<int64_t>::max(), 2); }, "overflow");
  refused([&] { program.run(std::numeric_limits<int64_t>::max() / 2, 2); }, "overflow");
  program.bind(1, in, {0, kN * 12 - 1}, false);
  refused([&] { program.run(2, 1); }, "slot 1 to hold");
  std::memset(program.at(0, 0, 8 * kN), 0, 8 * kN);
  refused([&] { program.at(0, 4, 8 * kN); }, "slot 0 to hold");
  refused([&] { program.at(0, -1, 4); }, "slot 0 to hold");
  refused([&] { program.at(0, 0, -4); }, "slot 0 to hold");
}

static void test_buffer() {
  for (const int64_t bytes : {int64_t{1}, int64_t{100}, (int64_t{2} << 20) + 1}) {
    Buffer buffer(bytes);
    CHECK(reinterpret_cast<uintptr_t>(buffer.data()) % 64 == 0);
    for (int64_t i = 0; i < bytes; ++i) CHECK(buffer.data()[i] == 0);
  }
  bool refused_memory = false;
  try {
    Buffer buffer(std::numeric_limits<int64_t>::max());
  } catch (const std::bad_alloc&) {
    refused_memory = true;
  }
  CHECK(refused_memory);
}

static void test_threads_from_cost() {
  CHECK(worthwhile_threads(0.9, 100, 8) == 1);
  CHECK(worthwhile_threads(1.0, 100, 8) == 2);
  CHECK(worthwhile_threads(1e300, 100, 8) == 8);
  CHECK(worthwhile_threads(1e300, 3, 8) == 3);
  CHECK(worthwhile_threads(std::numeric_limits<double>::quiet_NaN(), 3, 8) == 1);
  CHECK(worthwhile_threads(-5, 0, 8) == 1);
}

int main() {
  test_same_bits();
  test_one_stage();
  test_barriers();
  test_programs_on_many_threads();
  test_deadline();
  test_interrupt();
  test_interrupt_within();
  test_bad_programs();
  test_bounds_of_steps();
  test_buffer();
  test_threads_from_cost();
  std::puts("program: ok");
}
