// Programs on the CPU. All threads walk the list themselves and do their share
// [rank P / k, (rank + 1) P / k) of each phase of P parts, so no work is handed out while running.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "buffer.h"
#include "cpu/team.h"
#include "program.h"

namespace dl {

class CpuProgram : public Program {
 public:
  CpuProgram(int n_slots, std::vector<Instruction> instructions,
             const std::map<int, int64_t>& slot_bytes);

  // Runs steps first .. first + steps - 1 and returns how many were done: fewer only if deadline_ms
  // >= 0 and so many milliseconds were over after a step. Throws std::invalid_argument before
  // anything runs if a slot is unbound or an operand leaves its slot.
  int64_t run(int64_t first, int64_t steps, double deadline_ms = -1);

  int barriers(int team_size);           // in one step
  int64_t memory_bytes(int team_size);   // that running takes, scratch included
  double cost() const { return cost_; }  // of one step; 1 is worth one more thread

 private:
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

  bool independent(const Instruction&, const Instruction&) const;
  void schedule(int team_size);
  Walker& walker(int rank);
  void move_to(Walker&, int64_t step) const;
  int64_t run_alone();
  void walk(Team&, int rank);

  std::vector<Buffer> memory_;  // of the slots that the program owns
  Buffer shared_;
  double cost_ = 0;
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
