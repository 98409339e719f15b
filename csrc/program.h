// A program: a flat list of kernel calls over numbered buffers ("slots"), prepared once and run
// many times.
//
//   address of an operand at step s = base(slot) + offset + s * step_bytes
//
// Everything is planned, checked and allocated before the first step. All threads walk the list
// themselves and do their share [rank P / k, (rank + 1) P / k) of each phase of P parts, so no work
// is handed out while running.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "cpu/team.h"
#include "kernel.h"
#include "buffer.h"

namespace dl {

struct Operand {
  int slot;
  int64_t offset;  // bytes
  int64_t step_bytes;
  Tensor tensor;  // data is filled in by the program
};

struct Instruction {
  const Kernel* kernel;
  std::vector<Operand> operands;
  std::vector<int64_t> ints;
  std::vector<double> floats;
  Work work = {};  // filled in by the program
  std::vector<char> prepared = {};
};

// Not for two threads at once: the caller holds a lock.
class Program {
 public:
  // Throws std::invalid_argument with one sentence if an instruction is refused. `slot_bytes`:
  // slots that the program owns, and their sizes.
  Program(int n_slots, std::vector<Instruction> instructions,
          const std::map<int, int64_t>& slot_bytes);

  // Slot = memory of the caller, valid at data + [range.low, range.high); data = nullptr unbinds.
  // Throws std::invalid_argument if an operand does not lie inside.
  void bind(int slot, char* data, Range range, bool writable);

  // Runs steps first .. first + steps - 1 and returns how many were done: fewer only if deadline_ms
  // >= 0 and so many milliseconds were over after a step. Throws std::invalid_argument before
  // anything runs if a slot is unbound or an operand leaves its slot.
  int64_t run(int64_t first, int64_t steps, double deadline_ms = -1);

  // The memory of `bytes` at `offset` in a slot that has memory.
  char* at(int slot, int64_t offset, int64_t bytes) const;

  int n_slots() const { return static_cast<int>(slots_.size()); }
  const std::vector<Instruction>& instructions() const { return instructions_; }
  int64_t owned_bytes() const { return owned_bytes_; }
  bool owned(int slot) const { return slots_[check_slot(slot)].owned; }
  bool written(int slot) const { return slots_[check_slot(slot)].written; }
  int dtype(int slot) const {
    return slots_[check_slot(slot)].dtype;
  }  // of an operand there; -1 if there is none
  int barriers(int team_size);           // in one step
  double cost() const { return cost_; }  // of one step; 1 is worth one more thread

 private:
  struct Slot {
    char* base = nullptr;
    Range range;            // valid bytes
    Range need;             // bytes touched by operands with step_bytes == 0
    int64_t alignment = 1;  // of base, for the largest element
    int dtype = -1;
    bool used = false, written = false, writable = false, owned = false;
    Buffer memory;
  };
  struct Address {  // an operand whose address is not known at construction
    int tensor, slot;
    int64_t offset, step_bytes;
    Range extent;  // around offset + step * step_bytes
  };
  struct Stage {  // one phase of one instruction
    void (*run)(const Call&, int phase, int64_t begin, int64_t end, char* scratch);
    int call, phase, threads;
    bool barrier;  // before the next stage
    int64_t parts;
  };
  // What one thread reads while running: a copy of its own, as addresses move from step to step.
  struct Walker {
    std::vector<Tensor> tensors;
    std::vector<Call> calls;
    Buffer scratch;
    uint64_t bindings = 0;
  };

  int check_slot(int slot) const;
  void plan(Instruction&);
  void add_operand(const Instruction&, const Operand&, bool output);
  void check_steps(int64_t first, int64_t steps) const;
  bool independent(const Instruction&, const Instruction&) const;
  void schedule(int team_size);
  Walker& walker(int rank);
  void move_to(Walker&, int64_t step) const;
  int64_t run_alone();
  void walk(Team&, int rank);

  std::vector<Instruction> instructions_;
  std::vector<Slot> slots_;
  std::vector<Tensor> tensors_;          // of all instructions, one after another
  std::vector<Address> bound_, moving_;  // the same at each step; different at each step
  int64_t scratch_bytes_ = 0, shared_bytes_ = 0, owned_bytes_ = 0;
  double cost_ = 0;
  Buffer shared_;
  uint64_t bindings_ = 1;  // changes with every bind
  std::vector<std::unique_ptr<Walker>> walkers_;
  std::vector<Stage> stages_;
  int team_size_ = 0;  // that stages_ were made for
  int width_ = 1;      // most threads of any stage

  // The run in progress.
  int64_t first_ = 0, steps_ = 0;
  double deadline_ms_ = -1;
  std::atomic<int64_t> last_step_{0};
};

// How many threads are worth having for `cost`, of at most `team_size`.
int worthwhile_threads(double cost, int64_t parts, int team_size);
double cost_of(const Work&);

}  // namespace dl
