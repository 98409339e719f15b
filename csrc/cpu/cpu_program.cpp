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

// One that takes less than the slice that a scheduler gives to another process is done alone while
// another process has a worker's CPU.
constexpr double kSliceCost = 512;

constexpr int64_t kNever = INT64_MAX;

// A run is asked whether it is interrupted when a step takes longer than this.
constexpr auto kPatience = std::chrono::milliseconds(50);
// Clocks are read this often, about every 0.1 ms, and shares of more than some 40 ms are cut.
constexpr double kQuestionCost = 20, kPieceCost = 8000;

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
  own([&](int64_t bytes) { return memory_.emplace_back(std::max<int64_t>(bytes, 1)).data(); });
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

bool CpuProgram::lasts(const Instruction& i) const {
  const size_t outputs = std::min(i.operands.size(), static_cast<size_t>(i.work.outputs));
  return std::any_of(i.operands.begin(), i.operands.begin() + outputs,
                     [&](const Operand& out) { return !slots_[out.slot].owned; });
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
      stages_.push_back({instruction.kernel->run, static_cast<int>(i), phase, threads, false,
                         work.parts[phase], cost_of(work) / work.phases / threads,
                         lasts(instruction), false, 1});
      width_ = std::max(width_, threads);
    }
  }
  place_questions();
  team_size_ = team_size;
}

// A run may end within a step where all threads meet and nothing that lasts is half written.
void CpuProgram::place_questions() {
  double cost = 0;
  asks_ = false;
  for (Stage& stage : stages_) {
    cost += stage.cost;
    const bool whole = !stage.lasts || stage.phase + 1 == instructions_[stage.call].work.phases;
    const bool meets = (stage.barrier || width_ == 1) && &stage != &stages_.back();
    stage.asks = cost >= kQuestionCost && whole && meets;
    if (!stage.asks) continue;
    if (!stage.lasts && stage.cost >= 2 * kPieceCost) {
      const auto parts = static_cast<double>(stage.parts / stage.threads);
      stage.pieces = static_cast<int64_t>(std::min(parts, stage.cost / kPieceCost));
    }
    asks_ = true;
    cost = 0;
  }
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

int64_t CpuProgram::run(int64_t first, int64_t steps, double deadline_ms, bool (*interrupted)()) {
  check_steps(first, steps);
  if (steps == 0) return 0;
  first_ = first;
  steps_ = steps;
  deadline_ms_ = deadline_ms;
  schedule(num_threads());
  interrupted_ = interrupted;
  last_stage_.store(kNever, std::memory_order_relaxed);
  torn_ = false;
  if (width_ == 1) return run_alone();
  Lease lease(Team::current(), width_);
  if (lease.size <= 1)
    return run_alone();  // another thread has the team, or there are no more threads to get
  const bool one_stage = steps == 1 && stages_.size() == 1;
  const double cost = cost_ * static_cast<double>(steps);
  const bool brief = cost < kSliceCost;
  if (!one_stage && brief && lease.team.late()) return run_alone();
  if (!one_stage && cost < kWakeCost && !lease.team.awake(lease.size)) {
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
  if (brief) lease.team.learn();
  const int64_t last = last_stage_.load(std::memory_order_relaxed);
  if (last != kNever) return last / static_cast<int64_t>(stages_.size());
  return last_step_.load(std::memory_order_relaxed) - first + 1;
}

void CpuProgram::begin_step() {
  if (interrupted_ && asks_) next_question_ = std::chrono::steady_clock::now() + kPatience;
}

// Thread 0, during or after the stage of this number.
void CpuProgram::ask(int64_t number) {
  if (!interrupted_ || ended(number) || std::chrono::steady_clock::now() < next_question_) return;
  if (interrupted_()) {
    const auto n = static_cast<int64_t>(stages_.size());
    torn_ = std::any_of(stages_.begin(), stages_.begin() + number % n + 1,
                        [](const Stage& s) { return s.lasts; });
    last_stage_.store(number, std::memory_order_relaxed);
  }
  begin_step();
}

bool CpuProgram::ended(int64_t number) const {
  return last_stage_.load(std::memory_order_relaxed) <= number;
}

inline void CpuProgram::share(const Stage& s, Walker& w, int64_t number, int rank, int threads) {
  int64_t begin = 0, end = s.parts;
  if (threads > 1) begin = s.parts * rank / threads, end = s.parts * (rank + 1) / threads;
  if (s.pieces == 1) return s.run(w.calls[s.call], s.phase, begin, end, w.scratch.data());
  for (int64_t piece = 0; piece < s.pieces && !ended(number); ++piece) {
    s.run(w.calls[s.call], s.phase, begin + (end - begin) * piece / s.pieces,
          begin + (end - begin) * (piece + 1) / s.pieces, w.scratch.data());
    if (rank == 0) ask(number);
  }
}

int64_t CpuProgram::run_alone() {
  const DefaultArithmetic arithmetic;
  const Stopwatch watch(deadline_ms_);
  Walker& w = walker(0);
  int64_t number = 0;  // of the stage
  for (int64_t done = 0; done < steps_;) {
    begin_step();
    move_to(w, first_ + done);
    for (const Stage& stage : stages_) {
      share(stage, w, number, 0, 1);
      if (stage.asks) ask(number);
      if (stage.asks && ended(number)) return done;
      ++number;
    }
    ++done;
    if (watch.over()) return done;
  }
  return steps_;
}

void CpuProgram::walk(Team& team, int rank) {
  const DefaultArithmetic arithmetic;
  const Stopwatch watch(rank == 0 ? deadline_ms_ : -1);
  Walker& w = *walkers_[rank];
  int64_t number = 0;  // of the stage
  for (int64_t step = first_;; ++step) {
    if (rank == 0) begin_step();
    move_to(w, step);
    for (const Stage& stage : stages_) {
      if (rank < stage.threads) share(stage, w, number, rank, stage.threads);
      // Thread 0 names the last stage, and below the last step, before a barrier, so all threads
      // agree on it after. A number and not a flag: a slow thread may look only when thread 0 is
      // one barrier further.
      if (stage.asks && rank == 0) ask(number);
      if (stage.barrier) team.barrier(rank);
      if (stage.asks && ended(number)) return;
      ++number;
    }
    if (step == first_ + steps_ - 1) return;
    if (watch.over()) last_step_.store(step, std::memory_order_relaxed);
    team.barrier(rank);
    if (last_step_.load(std::memory_order_relaxed) <= step) return;
  }
}

}  // namespace dl
