// Programs on the GPU: the list of kernels is put into a stream; from the second step on it is
// recorded as a CUDA graph, if addresses stay the same, and a step costs the host one call.
//
// All that a program owns is one allocation: its slots, the fixed places of operands that move from
// step to step (steps.h), and scratch, which all instructions share as a stream runs in order.
//
// DLCORE_CUDA_SYNC=1: nothing is recorded, and the host waits for each kernel, so that one that
// fails is named.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cuda/device.h"
#include "cuda/launch.h"
#include "cuda/steps.h"
#include "program.h"

namespace dl {

class CudaProgram : public Program {
 public:
  // Kernels of instructions are cuda::CudaKernel. Throws cuda::OutOfMemory.
  CudaProgram(int n_slots, std::vector<Instruction> instructions,
              const std::map<int, int64_t>& slot_bytes);
  ~CudaProgram();
  CudaProgram(const CudaProgram&) = delete;

  // Runs steps first .. first + steps - 1, waits for them and returns how many were done: fewer
  // only if deadline_ms >= 0 and so many milliseconds were over after a step.
  int64_t run(int64_t first, int64_t steps, double deadline_ms, cudaStream_t stream);

  // Puts step 0 into the stream and does not wait.
  void start(cudaStream_t stream);

  int64_t memory_bytes() const { return memory_.bytes(); }  // on the device

 private:
  struct Moving {  // operands of one slot and one step size that overlap
    int slot;
    int64_t step_bytes;
    Range range;    // at step 0
    int64_t start;  // range.low, rounded down so that addresses keep their alignment
    bool bring, send;
    std::vector<int> addresses;  // in moving_
  };

  std::vector<Moving> moving_groups() const;
  void check_alone(const Moving& group, const std::vector<Moving>& groups) const;
  void allocate(std::vector<Moving> groups);
  bool begin(int64_t first, int64_t steps, cudaStream_t stream);
  void set_state(size_t index, int64_t word, cudaStream_t stream);
  void queue_step(cudaStream_t stream, bool named);
  void queue(size_t instruction, cudaStream_t stream, bool named);
  void queue_steps(int64_t n, bool replay, cudaStream_t stream);
  void record();
  void drop_graph();
  [[noreturn]] void fail(const std::string& name, cudaError_t result) const;

  cuda::Memory memory_;
  char* shared_ = nullptr;
  std::vector<Call> calls_;
  std::shared_ptr<const std::string> names_;  // of the kernels, for messages

  int64_t* state_ = nullptr;    // of steps.h
  std::vector<int64_t> known_;  // what is in it
  std::vector<cuda::MovingRange> ranges_;
  std::vector<int> range_slots_;
  int n_bring_ = 0, first_send_ = 0;  // ranges_ [0, n_bring_) and [first_send_, end)

  std::vector<int> fixed_slots_;               // of the caller, with operands that do not move
  std::vector<char*> bases_, recorded_bases_;  // of these in the last step, and in the graph
  bool begun_ = false, loaded_ = false;
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace dl
