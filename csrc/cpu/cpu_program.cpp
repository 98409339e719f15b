#include "cpu/cpu_program.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace dl {

namespace {

// A second thread pays from 0.5 MFLOP, 2 us of one core (measured on Zen 5: GEMM n = 64 gains, n =
// 48 loses), or 64 KiB, about 2 us of what one core draws from its L2 and L3.
constexpr double kFlopsPerThread = 0.5e6;
constexpr double kBytesPerThread = 65536;

// A sleeping worker takes some tens of microseconds to come: a run shorter than that is done alone,
// and wakes the team for the next one.
constexpr double kWakeCost = 16;

// Results must not depend on what another library did to this thread's or to a worker's rounding
// and denormals.
class DefaultArithmetic {
#if defined(__SSE2__)
 public:
  DefaultArithmetic() : before_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
  ~DefaultArithmetic() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#endif
};

class Stopwatch {
 public:
  explicit Stopwatch(double limit_ms) : limit_(limit_ms) {
    if (limit_ >= 0) start_ = std::chrono::steady_clock::now();
  }
  bool over() const {
    return limit_ >= 0 &&
           std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_)
                   .count() >= limit_;
  }

 private:
  double limit_;
  std::chrono::steady_clock::time_point start_;
};

struct Lease {  // of the team
  Team& team;
  int size;
  Lease(Team& t, int threads) : team(t), size(t.acquire(threads)) {}
  ~Lease() {
    if (size > 0) team.release();
  }
};

}  // namespace

double cost_of(const Work& work) {
  return std::max(work.flops / kFlopsPerThread, work.bytes / kBytesPerThread);
}

int worthwhile_threads(double cost, int64_t parts, int team_size) {
  const double threads = std::min({1 + std::floor(cost), double(parts), double(team_size)});
  return threads > 1 ? static_cast<int>(threads) : 1;  // also for NaN
}

CpuProgram::CpuProgram(int n_slots, std::vector<Instruction> instructions,
                       const std::map<int, int64_t>& slot_bytes)
    : Program(n_slots, std::move(instructions), slot_bytes) {
  own([&](int64_t bytes) {
    return memory_.emplace_back(std::max<int64_t>(bytes, 1)).data();
  });
  shared_ = Buffer(shared_bytes_);
  for (const Instruction& instruction : instructions_) cost_ += cost_of(instruction.work);
}

// May two instructions of one step run at the same time? Only if no byte that one writes is touched
// by the other. Memory of different slots is different if the program owns one of them; two arrays
// of the caller may overlap.
bool CpuProgram::independent(const Instruction& a, const Instruction& b) const {
  if (a.work.shared_bytes > 0 && b.work.shared_bytes > 0) return false;
  for (size_t i = 0; i < a.operands.size(); ++i) {
    for (size_t j = 0; j < b.operands.size(); ++j) {
      const bool written = i < size_t(a.work.outputs) || j < size_t(b.work.outputs);
      const Operand &x = a.operands[i], &y = b.operands[j];
      if (!written || (x.slot != y.slot && (slots_[x.slot].owned || slots_[y.slot].owned)))
        continue;
      if (x.slot != y.slot || x.step_bytes != y.step_bytes) return false;
      const Range p = shifted(extent_of(x.tensor), x.offset);
      const Range q = shifted(extent_of(y.tensor), y.offset);
      if (p.low < q.high && q.low < p.high) return false;
    }
  }
  return true;
}

// Stages that only thread 0 runs follow each other without a barrier, and so do independent ones.
void CpuProgram::schedule(int team_size) {
  if (team_size == team_size_) return;
  team_size_ = 0;
  stages_.clear();
  width_ = 1;
  size_t group = 0;  // the first stage since the last barrier
  for (size_t i = 0; i < instructions_.size(); ++i) {
    const Instruction& instruction = instructions_[i];
    const Work& work = instruction.work;
    for (int phase = 0; phase < work.phases; ++phase) {
      if (work.parts[phase] == 0) continue;
      const int threads = worthwhile_threads(cost_of(work), work.parts[phase], team_size);
      const auto waits_for = [&](const Stage& s) {
        if (threads == 1 && s.threads == 1) return false;
        return s.call == static_cast<int>(i) || !independent(instructions_[s.call], instruction);
      };
      if (std::any_of(stages_.begin() + group, stages_.end(), waits_for)) {
        stages_.back().barrier = true;
        group = stages_.size();
      }
      stages_.push_back(
          {instruction.kernel->run, static_cast<int>(i), phase, threads, false, work.parts[phase]});
      width_ = std::max(width_, threads);
    }
  }
  team_size_ = team_size;
}

int CpuProgram::barriers(int team_size) {
  schedule(team_size);
  return static_cast<int>(
      std::count_if(stages_.begin(), stages_.end(), [](const Stage& s) { return s.barrier; }));
}

int64_t CpuProgram::memory_bytes(int team_size) {
  schedule(team_size);
  int64_t bytes = Buffer::rounded(shared_bytes_) + width_ * Buffer::rounded(scratch_bytes_);
  for (const Slot& slot : slots_) bytes += slot.owned ? Buffer::rounded(slot.range.high) : 0;
  return bytes;
}

CpuProgram::Walker& CpuProgram::walker(int rank) {
  while (static_cast<int>(walkers_.size()) <= rank) {
    auto w = std::make_unique<Walker>();
    w->tensors = tensors_;
    w->scratch = Buffer(scratch_bytes_);
    w->calls = calls(w->tensors.data(), shared_.data());
    walkers_.push_back(std::move(w));
  }
  return *walkers_[rank];
}

void CpuProgram::move_to(Walker& w, int64_t step) const {
  if (w.bindings != bindings_) {
    for (const Address& a : bound_) w.tensors[a.tensor].data = slots_[a.slot].base + a.offset;
    w.bindings = bindings_;
  }
  for (const Address& a : moving_) {
    w.tensors[a.tensor].data = slots_[a.slot].base + a.offset + step * a.step_bytes;
  }
}

int64_t CpuProgram::run(int64_t first, int64_t steps, double deadline_ms) {
  check_steps(first, steps);
  if (steps == 0) return 0;
  first_ = first;
  steps_ = steps;
  deadline_ms_ = deadline_ms;
  schedule(num_threads());
  if (width_ == 1) return run_alone();
  Lease lease(Team::current(), width_);
  if (lease.size <= 1)
    return run_alone();  // another thread has the team, or there are no more threads to get
  const bool one_stage = steps == 1 && stages_.size() == 1;
  if (!one_stage && cost_ * static_cast<double>(steps) < kWakeCost &&
      !lease.team.awake(lease.size)) {
    lease.team.wake(lease.size);
    return run_alone();
  }
  if (lease.size < width_) schedule(lease.size);
  walker(lease.size - 1);
  last_step_.store(first + steps - 1, std::memory_order_relaxed);
  const Team::Job job = [](void* program, Team& team, int rank, int) {
    static_cast<CpuProgram*>(program)->walk(team, rank);
  };
  if (one_stage) {
    lease.team.run_shares(lease.size, job, this);
  } else {
    lease.team.run(lease.size, job, this);
  }
  return last_step_.load(std::memory_order_relaxed) - first + 1;
}

int64_t CpuProgram::run_alone() {
  const DefaultArithmetic arithmetic;
  const Stopwatch watch(deadline_ms_);
  Walker& w = walker(0);
  for (int64_t done = 0; done < steps_;) {
    move_to(w, first_ + done);
    for (const Stage& stage : stages_)
      stage.run(w.calls[stage.call], stage.phase, 0, stage.parts, w.scratch.data());
    ++done;
    if (watch.over()) return done;
  }
  return steps_;
}

void CpuProgram::walk(Team& team, int rank) {
  const DefaultArithmetic arithmetic;
  const Stopwatch watch(rank == 0 ? deadline_ms_ : -1);
  Walker& w = *walkers_[rank];
  for (int64_t step = first_;; ++step) {
    move_to(w, step);
    for (const Stage& stage : stages_) {
      if (rank < stage.threads) {
        const int64_t begin = stage.parts * rank / stage.threads,
                      end = stage.parts * (rank + 1) / stage.threads;
        stage.run(w.calls[stage.call], stage.phase, begin, end, w.scratch.data());
      }
      if (stage.barrier) team.barrier(rank);
    }
    if (step == first_ + steps_ - 1) return;
    // Thread 0 names the last step before the barrier, so all threads agree on it after. A number
    // and not a flag: a slow thread may look only when thread 0 is one step further.
    if (watch.over()) last_step_.store(step, std::memory_order_relaxed);
    team.barrier(rank);
    if (last_step_.load(std::memory_order_relaxed) <= step) return;
  }
}

}  // namespace dl
