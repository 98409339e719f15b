#include "program.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <stdexcept>
#include <string>
#include <string_view>

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

constexpr int kMaxSlots = 1 << 16;
constexpr int64_t kOffsetBits = (int64_t{1} << 44) - 1;

[[noreturn]] void refuse(const std::string& sentence) { throw std::invalid_argument(sentence); }

std::string text(Range r) {
  return "[" + std::to_string(r.low) + ", " + std::to_string(r.high) + ")";
}

[[noreturn]] void refuse_range(int slot, Range need, Range have) {
  refuse("program: expected slot " + std::to_string(slot) + " to hold bytes " + text(need) +
         ", got bytes " + text(have));
}

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

Program::Program(int n_slots, std::vector<Instruction> instructions,
                 const std::map<int, int64_t>& slot_bytes)
    : instructions_(std::move(instructions)) {
  if (n_slots < 0 || n_slots > kMaxSlots) {
    refuse("program: expected n_slots from 0 to " + std::to_string(kMaxSlots) + ", got " +
           std::to_string(n_slots));
  }
  slots_.resize(n_slots);
  for (const auto& [slot, bytes] : slot_bytes) {
    Slot& s = slots_[check_slot(slot)];
    if (bytes < 0) refuse("program: expected slot_bytes >= 0, got " + std::to_string(bytes));
    s.memory = Buffer(std::max<int64_t>(bytes, 1));
    s.base = s.memory.data();
    s.range = {0, bytes};
    s.writable = s.owned = true;
    owned_bytes_ = checked_add(owned_bytes_, bytes);
  }
  for (Instruction& instruction : instructions_) {
    plan(instruction);
    int index = 0;
    for (const Operand& operand : instruction.operands) {
      add_operand(instruction, operand, index++ < instruction.work.outputs);
    }
  }
  for (int slot = 0; slot < n_slots; ++slot) {
    const Slot& s = slots_[slot];
    if (s.owned && !inside(s.need, s.range)) refuse_range(slot, s.need, s.range);
  }
  std::erase_if(bound_, [&](const Address& a) {  // known for good
    const Slot& s = slots_[a.slot];
    if (s.owned) tensors_[a.tensor].data = s.base + a.offset;
    return s.owned;
  });
  shared_ = Buffer(shared_bytes_);
}

int Program::check_slot(int slot) const {
  if (slot < 0 || slot >= n_slots()) {
    refuse("program: expected a slot from 0 to " + std::to_string(n_slots() - 1) + ", got " +
           std::to_string(slot));
  }
  return slot;
}

void Program::plan(Instruction& instruction) {
  const std::string name = instruction.kernel->name;
  std::vector<Tensor> tensors;
  for (const Operand& operand : instruction.operands) {
    if (operand.tensor.rank < 0 || operand.tensor.rank > kMaxRank) {
      refuse(name + ": expected at most " + std::to_string(kMaxRank) + " axes, got " +
             std::to_string(operand.tensor.rank));
    }
    tensors.push_back(operand.tensor);
    // Not an address, but equal where addresses will be: kernels ask whether operands are the same.
    tensors.back().data = reinterpret_cast<char*>((int64_t{check_slot(operand.slot)} + 1) << 44 |
                                                  (operand.offset & kOffsetBits));
    extent_of(tensors.back());
  }
  Call call{tensors.data(),
            static_cast<int>(tensors.size()),
            instruction.ints.data(),
            static_cast<int>(instruction.ints.size()),
            instruction.floats.data(),
            static_cast<int>(instruction.floats.size()),
            nullptr};
  Work& work = instruction.work = Work{};
  if (const char* sentence = instruction.kernel->plan(call, work)) {
    const bool named = std::string_view(sentence).starts_with(name + ":");
    refuse(named ? sentence : name + ": " + sentence);
  }
  if (work.prepared_bytes > 0) {
    instruction.prepared.resize(work.prepared_bytes);
    call.prepared = instruction.prepared.data();
    instruction.kernel->plan(call, work);
  }
  bool valid = work.phases >= 1 && work.phases <= kMaxPhases && work.scratch_bytes >= 0 &&
               work.shared_bytes >= 0;
  for (int phase = 0; valid && phase < work.phases; ++phase) {
    valid = work.parts[phase] >= 0 && work.parts[phase] <= INT64_MAX / kMaxThreads;
  }
  if (!valid) refuse(name + ": expected a plan within 63 bits, got an overflow");
  scratch_bytes_ = std::max(scratch_bytes_, work.scratch_bytes);
  shared_bytes_ = std::max(shared_bytes_, work.shared_bytes);
  cost_ += cost_of(work);
}

void Program::add_operand(const Instruction& instruction, const Operand& operand, bool output) {
  Slot& slot = slots_[check_slot(operand.slot)];
  const int64_t size = size_of(operand.tensor.dtype);
  if (operand.offset % size != 0 || operand.step_bytes % size != 0) {
    refuse(std::string(instruction.kernel->name) + ": expected offsets in whole elements of " +
           std::to_string(size) + " bytes, got offset " + std::to_string(operand.offset) +
           " and step " + std::to_string(operand.step_bytes));
  }
  const int index = static_cast<int>(tensors_.size());
  const Range extent = extent_of(operand.tensor);
  tensors_.push_back(operand.tensor);
  tensors_.back().data = nullptr;
  slot.alignment = std::max(slot.alignment, size);
  slot.dtype = static_cast<int>(operand.tensor.dtype);
  if (is_empty(extent)) return;  // never touched: needs no memory, and any pointer will do
  slot.used = true;
  slot.written |= output;
  if (operand.step_bytes != 0) {
    moving_.push_back({index, operand.slot, operand.offset, operand.step_bytes, extent});
    return;
  }
  slot.need = hull(slot.need, shifted(extent, operand.offset));
  bound_.push_back({index, operand.slot, operand.offset, 0, extent});
}

void Program::bind(int index, char* data, Range range, bool writable) {
  Slot& slot = slots_[check_slot(index)];
  const std::string name = "slot " + std::to_string(index);
  if (slot.owned)
    refuse("program: expected a slot of the caller, got " + name + ", which the program owns");
  if (data) {
    if (reinterpret_cast<uintptr_t>(data) % slot.alignment != 0) {
      refuse("program: expected " + name + " aligned to " + std::to_string(slot.alignment) +
             " bytes, got a misaligned array");
    }
    if (slot.written && !writable)
      refuse("program: expected a writable array for " + name + ", got a read-only one");
    if (!inside(slot.need, range)) refuse_range(index, slot.need, range);
  }
  slot.base = data;
  slot.range = range;
  slot.writable = writable;
  ++bindings_;
}

char* Program::at(int index, int64_t offset, int64_t bytes) const {
  const Slot& slot = slots_[check_slot(index)];
  if (!slot.base)
    refuse("program: expected memory in slot " + std::to_string(index) + ", got an unbound slot");
  const Range need{offset, checked_add(offset, bytes)};
  if (bytes < 0 || need.low < slot.range.low || need.high > slot.range.high)
    refuse_range(index, need, slot.range);
  return slot.base + offset;
}

// Addresses are linear in the step: the first and the last step bound them all.
void Program::check_steps(int64_t first, int64_t steps) const {
  if (first < 0 || steps < 0) {
    refuse("program: expected first >= 0 and steps >= 0, got " + std::to_string(first) + " and " +
           std::to_string(steps));
  }
  if (steps == 0) return;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].used && !slots_[i].base) {
      refuse("program: expected an array bound to slot " + std::to_string(i) +
             ", got none; call bind first");
    }
  }
  const int64_t last = checked_add(first, steps - 1);
  for (const Address& a : moving_) {
    for (const int64_t step : {first, last}) {
      const Range need =
          shifted(a.extent, checked_add(a.offset, checked_multiply(step, a.step_bytes)));
      if (!inside(need, slots_[a.slot].range)) refuse_range(a.slot, need, slots_[a.slot].range);
    }
  }
}

// May two instructions of one step run at the same time? Only if no byte that one writes is touched
// by the other. Memory of different slots is different if the program owns one of them; two arrays
// of the caller may overlap.
bool Program::independent(const Instruction& a, const Instruction& b) const {
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
void Program::schedule(int team_size) {
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

int Program::barriers(int team_size) {
  schedule(team_size);
  return static_cast<int>(
      std::count_if(stages_.begin(), stages_.end(), [](const Stage& s) { return s.barrier; }));
}

Program::Walker& Program::walker(int rank) {
  while (static_cast<int>(walkers_.size()) <= rank) {
    auto w = std::make_unique<Walker>();
    w->tensors = tensors_;
    w->scratch = Buffer(scratch_bytes_);
    const Tensor* tensors = w->tensors.data();
    for (const Instruction& i : instructions_) {
      const int n = static_cast<int>(i.operands.size());
      w->calls.push_back({tensors, n, i.ints.data(), static_cast<int>(i.ints.size()),
                          i.floats.data(), static_cast<int>(i.floats.size()), shared_.data(),
                          i.prepared.empty() ? nullptr : const_cast<char*>(i.prepared.data())});
      tensors += n;
    }
    walkers_.push_back(std::move(w));
  }
  return *walkers_[rank];
}

void Program::move_to(Walker& w, int64_t step) const {
  if (w.bindings != bindings_) {
    for (const Address& a : bound_) w.tensors[a.tensor].data = slots_[a.slot].base + a.offset;
    w.bindings = bindings_;
  }
  for (const Address& a : moving_) {
    w.tensors[a.tensor].data = slots_[a.slot].base + a.offset + step * a.step_bytes;
  }
}

int64_t Program::run(int64_t first, int64_t steps, double deadline_ms) {
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
    static_cast<Program*>(program)->walk(team, rank);
  };
  if (one_stage) {
    lease.team.run_shares(lease.size, job, this);
  } else {
    lease.team.run(lease.size, job, this);
  }
  return last_step_.load(std::memory_order_relaxed) - first + 1;
}

int64_t Program::run_alone() {
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

void Program::walk(Team& team, int rank) {
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
