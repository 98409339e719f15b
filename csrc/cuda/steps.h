// Operands that move from step to step are brought to a fixed place before a step, and taken from
// there after it, so that a step can be recorded once: kernels know nothing of steps.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace dl::cuda {

// `state`, in device memory: the step, then where each moving range of bytes starts.
struct MovingRange {
  char* fixed;                        // its place on the device during a step
  int64_t offset, step_bytes, bytes;  // at step s: start + offset + s * step_bytes
};

// Copies ranges `first`, first + 1, ... to their fixed places, or back from there; `last`: goes to
// the next step then.
cudaError_t launch_bring(int64_t* state, int first, const MovingRange* ranges, int n, bool last,
                         cudaStream_t stream);
cudaError_t launch_send(int64_t* state, int first, const MovingRange* ranges, int n, bool last,
                        cudaStream_t stream);

cudaError_t launch_store(int64_t* to, int64_t word, cudaStream_t stream);  // in the stream's order

}  // namespace dl::cuda
