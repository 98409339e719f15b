// A program: a flat list of kernel calls over numbered buffers ("slots"), prepared once and run
// many times.
//
//   address of an operand at step s = base(slot) + offset + s * step_bytes
//
// Everything is planned and checked before the first step. This is what all native backends share;
// CpuProgram and CudaProgram allocate and run.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <vector>

#include "buffer.h"
#include "kernel.h"

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

// A kernel cannot do what an instruction asks for; another backend may.
class Refusal : public std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// Not for two threads at once: the caller holds a lock.
class Program {
 public:
  // Slot = memory of the caller, valid at data + [range.low, range.high); data = nullptr unbinds.
  // Throws std::invalid_argument if an operand does not lie inside.
  void bind(int slot, char* data, Range range, bool writable);

  // The memory of `bytes` at `offset` in a slot that has memory.
  char* at(int slot, int64_t offset, int64_t bytes) const;

  int n_slots() const { return static_cast<int>(slots_.size()); }
  const std::vector<Instruction>& instructions() const { return instructions_; }
  bool owned(int slot) const { return slots_[check_slot(slot)].owned; }
  bool written(int slot) const { return slots_[check_slot(slot)].written; }
  int dtype(int slot) const {
    return slots_[check_slot(slot)].dtype;
  }  // of an operand there; -1 if there is none

 protected:
  struct Slot {
    char* base = nullptr;
    Range range;            // valid bytes
    Range need;             // bytes touched by operands with step_bytes == 0
    int64_t alignment = 1;  // of base, for the largest element
    int dtype = -1;
    bool used = false, written = false, writable = false, owned = false;
  };
  struct Address {  // an operand whose address is not known at construction
    int tensor, slot;
    int64_t offset, step_bytes;
    Range extent;  // around offset + step * step_bytes
    bool output;
  };

  // Throws Refusal with one sentence if a kernel refuses an instruction. `slot_bytes`:
  // slots that the program owns, and their sizes.
  Program(int n_slots, std::vector<Instruction> instructions,
          const std::map<int, int64_t>& slot_bytes);
  ~Program() = default;

  // Gives memory to each slot that the program owns: `allocate(bytes)` returns it.
  template <class F>
  void own(F allocate) {
    for (Slot& slot : slots_) {
      if (slot.owned) slot.base = allocate(slot.range.high);
    }
    settle();
  }

  int check_slot(int slot) const;
  void check_steps(int64_t first, int64_t steps) const;
  // What run() of each instruction's kernel gets, over `tensors`, which are as tensors_.
  std::vector<Call> calls(const Tensor* tensors, char* shared) const;

  std::vector<Instruction> instructions_;
  std::vector<Slot> slots_;
  std::vector<Tensor> tensors_;          // of all instructions, one after another
  std::vector<Address> bound_, moving_;  // the same at each step; different at each step
  int64_t scratch_bytes_ = 0, shared_bytes_ = 0;
  uint64_t bindings_ = 1;  // changes with every bind

 private:
  void plan(Instruction&);
  void add_operand(const Instruction&, const Operand&, bool output);
  void settle();
};

}  // namespace dl
