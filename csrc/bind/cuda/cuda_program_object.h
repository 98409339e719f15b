// What Python calls a Program of the GPU: dl::CudaProgram, a lock, and the arrays bound to it.
//
// A call takes NumPy arrays and arrays on the GPU, mixed. The former are copied to places that the
// program keeps, so that its addresses stay the same from call to call and its graph can be
// replayed.
#pragma once

#include <optional>
#include <vector>

#include "bind/common.h"
#include "bind/cuda/device_array.h"
#include "cuda/cuda_program.h"

namespace dl::bind {

class CudaProgramObject {
 public:
  CudaProgramObject(int n_slots, py::handle instructions, py::handle inputs, py::handle outputs,
                    const py::dict& slot_bytes);

  void bind(int slot, py::object array);
  void write(int slot, int64_t offset, py::handle array);
  py::object read(int slot, int64_t offset, int64_t dtype, const std::vector<py::ssize_t>& shape);
  int64_t run(int64_t first, int64_t steps, std::optional<double> deadline_ms,
              const py::object& stream);
  // Results are on the GPU if an argument is, else NumPy arrays.
  py::object call(const py::args& arguments, const py::object& stream);
  py::list instructions() const;
  int64_t memory_bytes() const { return program_.memory_bytes(); }

 private:
  struct Upload {
    char* to;
    const void* from;
    int64_t bytes;
  };

  bool accept(const py::args& arguments, std::vector<std::optional<DeviceView>>& views) const;
  char* place(std::vector<cuda::Memory>& places, size_t i, int64_t bytes);
  py::object run_to_host(const std::vector<Upload>& uploads, cudaStream_t stream);
  py::object run_on_device(const std::vector<Upload>& uploads, cudaStream_t stream);
  void unbind_call();

  CudaProgram program_;
  std::vector<Signature> inputs_, outputs_;
  std::vector<py::object> bound_;       // per slot
  std::vector<cuda::Memory> in_, out_;  // places of arguments and results of the host
  Mutex mutex_;
};

}  // namespace dl::bind
