// Arrays on the GPU: ours, and what others show by __cuda_array_interface__.
#pragma once

#include <pybind11/stl.h>

#include <memory>
#include <vector>

#include "bind/arrays.h"
#include "cuda/device.h"

namespace dl::bind {

// C-contiguous; slices of the first axis share memory.
class DeviceArray {
 public:
  DeviceArray(DType dtype, std::vector<py::ssize_t> shape);

  DType dtype() const { return dtype_; }
  const std::vector<py::ssize_t>& shape() const { return shape_; }
  int64_t nbytes() const;
  char* data() const { return memory_->data() + offset_; }

  py::object get() const;
  void set(const py::array& array, bool beside);
  DeviceArray rows(const py::slice& slice) const;
  py::dict interface();  // __cuda_array_interface__, version 3
  uintptr_t address();   // for those who use it in streams that they give to programs

 private:
  DType dtype_;
  std::vector<py::ssize_t> shape_;
  std::shared_ptr<cuda::Memory> memory_;
  int64_t offset_ = 0;
};

// An array on the GPU, of anybody.
struct DeviceView {
  char* data;
  int dtype;  // -1: none of ours
  std::vector<py::ssize_t> shape;
  Range range;  // bytes around data
  bool writable, contiguous;
};

bool is_device_array(py::handle object);
// Throws py::type_error or py::value_error with one sentence unless it lies on our device.
DeviceView view_of(py::handle object);
std::string describe(const DeviceView& view);

cudaStream_t to_stream(const py::object& handle);  // None: the main stream

}  // namespace dl::bind
