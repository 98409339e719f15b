// Programs on the CPU. All threads walk the list themselves and do their share
// [rank P / k, (rank + 1) P / k) of each phase of P parts, so no work is handed out while running.
#pragma once

#include <chrono>
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
  //
  // `interrupted` is asked from time to time within steps of more than kPatience; once it is true,
  // the run ends after the instruction in progress, or within it where that writes nothing that
  // lasts. torn() then says whether the step had written to memory of the caller: each instruction
  // was done wholly or not at all.
  int64_t run(int64_t first, int64_t steps, double deadline_ms = -1,
              bool (*interrupted)() = nullptr);
  bool torn() const { return torn_; }

  int barriers(int team_size);           // in one step
  int64_t memory_bytes(int team_size);   // that running takes, scratch included
  double cost() const { return cost_; }  // of one step; 1 is worth one more thread

 private:
  struct Stage {  // one phase of one instruction
    void (*run)(const Call&, int phase, int64_t begin, int64_t end, char* scratch);
    int call, phase, threads;
    bool barrier;  // before the next stage
    int64_t parts;
    double cost;     // of a thread's share
    bool lasts;      // writes to memory of the caller
    bool asks;       // afterwards, whether the run is interrupted
    int64_t pieces;  // of a share, between which it asks too
  };
  // What one thread reads while running: a copy of its own, as addresses move from step to step.
  struct Walker {
    std::vector<Tensor> tensors;
    std::vector<Call> calls;
    Buffer scratch;
    uint64_t bindings = 0;
  };

  bool independent(const Instruction&, const Instruction&) const;
  bool lasts(const Instruction&) const;
  void schedule(int team_size);
  void place_questions();
  void share(const Stage&, Walker&, int64_t number, int rank, int threads);
  void ask(int64_t number);
  bool ended(int64_t number) const;
  void begin_step();
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
  bool asks_ = false;  // some stage does

  // The run in progress.
  int64_t first_ = 0, steps_ = 0;
  double deadline_ms_ = -1;
  bool (*interrupted_)() = nullptr;
  std::atomic<int64_t> last_step_{0};
  std::atomic<int64_t> last_stage_{0};  // counted over all steps
  std::chrono::steady_clock::time_point next_question_;
  bool torn_ = false;
};

// How many threads are worth having for `cost`, of at most `team_size`.
int worthwhile_threads(double cost, int64_t parts, int team_size);
double cost_of(const Work&);

}  // namespace dl
