#include "bind/cuda/device_array.h"

#include <cstring>
#include <string>

#include "bind/common.h"

namespace dl::bind {

namespace {

// Type strings of the interface in the order of DType, little-endian as all GPUs' hosts.
constexpr const char* kTypestr[] = {"<f4", "<f8", "<i4", "<i8", "|u1", "|b1"};

int dtype_of_text(const std::string& text) {
  for (int i = 0; i < 6; ++i) {
    if (text == kTypestr[i]) return i;
  }
  return -1;
}

int64_t bytes_of(DType dtype, const std::vector<py::ssize_t>& shape) {
  int64_t bytes = size_of(dtype);
  for (const py::ssize_t n : shape) {
    if (n < 0) throw py::value_error("empty: expected a shape >= 0, got " + std::to_string(n));
    bytes = checked_multiply(bytes, n);
  }
  return bytes;
}

void check_pointer(const char* data) {
  cudaPointerAttributes attributes{};
  const cudaError_t result = cudaPointerGetAttributes(&attributes, data);
  if (result != cudaSuccess) cudaGetLastError();
  if (result != cudaSuccess || attributes.type == cudaMemoryTypeUnregistered ||
      attributes.type == cudaMemoryTypeHost) {
    throw py::value_error(
        "program: expected an array in the memory of a GPU, got an address that "
        "is not in it");
  }
  if (attributes.device != 0 && attributes.type == cudaMemoryTypeDevice) {
    throw py::value_error("program: expected an array on GPU 0, got one on GPU " +
                          std::to_string(attributes.device));
  }
}

py::object field(const py::dict& interface, const char* name) {
  if (!interface.contains(name)) {
    throw py::type_error(std::string("program: expected __cuda_array_interface__ with ") + name +
                         ", got none");
  }
  return interface[name];
}

// Work on what others show must come after what they have queued for it. Until version 3 of the
// interface they do not say where: in stream 0, as PyTorch.
void wait_for_owner(const py::dict& interface) {
  if (!interface.contains("stream")) return cuda::wait_for(nullptr);
  const py::object stream = interface["stream"];
  if (!stream.is_none()) cuda::wait_for(to_stream(stream));
}

}  // namespace

DeviceArray::DeviceArray(DType dtype, std::vector<py::ssize_t> shape)
    : dtype_(dtype), shape_(std::move(shape)) {
  if (shape_.size() > kMaxRank)
    throw py::value_error("empty: expected at most 8 axes, got " + std::to_string(shape_.size()));
  const int64_t bytes = nbytes();
  const WithoutGil release;
  memory_ = std::make_shared<cuda::Memory>(bytes);
}

int64_t DeviceArray::nbytes() const { return bytes_of(dtype_, shape_); }

py::object DeviceArray::get() const {
  PyObject* copy = new_array(dtype_, static_cast<int>(shape_.size()), shape_.data());
  if (!copy) throw py::error_already_set();
  auto array = py::reinterpret_steal<py::object>(copy);
  char* to = proxy(copy)->data;
  const WithoutGil release;
  const cuda::OnDevice here;
  cuda::copy_to_host(to, data(), nbytes(), cuda::main_stream());
  return array;
}

void DeviceArray::set(const py::array& source, bool beside) {
  const auto* a = proxy(source.ptr());
  const std::vector<py::ssize_t> shape(a->dimensions, a->dimensions + a->nd);
  if (dtype_of(source.ptr()) != static_cast<int>(dtype_) || shape != shape_) {
    throw py::value_error(
        "DeviceArray.set: expected " +
        describe(static_cast<int>(dtype_), static_cast<int>(shape_.size()), shape_.data()) +
        ", got " + describe(source.ptr()));
  }
  const auto array = py::array::ensure(source, py::array::c_style);
  const void* from = array.data();
  const WithoutGil release;
  const cuda::OnDevice here;
  if (beside) return cuda::copy_beside(data(), from, nbytes());
  cuda::copy_to_device(data(), from, nbytes(), cuda::main_stream());
}

DeviceArray DeviceArray::rows(const py::slice& slice) const {
  py::ssize_t start = 0, stop = 0, step = 0, n = 0;
  if (shape_.empty() || !slice.compute(shape_[0], &start, &stop, &step, &n) || step != 1)
    throw py::value_error("DeviceArray: expected a slice of rows with step 1, got another index");
  DeviceArray part = *this;
  if (shape_[0] > 0) part.offset_ += start * (nbytes() / shape_[0]);
  part.shape_[0] = n;
  return part;
}

py::dict DeviceArray::interface() {
  memory_->share(cuda::Users::anybody);
  py::dict fields;
  fields["shape"] = py::tuple(py::cast(shape_));
  fields["typestr"] = kTypestr[static_cast<int>(dtype_)];
  fields["data"] =
      py::make_tuple(reinterpret_cast<uintptr_t>(nbytes() > 0 ? data() : nullptr), false);
  fields["version"] = 3;
  fields["strides"] = py::none();
  fields["stream"] = reinterpret_cast<uintptr_t>(cuda::main_stream());
  return fields;
}

uintptr_t DeviceArray::address() {
  memory_->share(cuda::Users::in_streams);
  return reinterpret_cast<uintptr_t>(data());
}

bool is_device_array(py::handle object) {
  return py::isinstance<DeviceArray>(object) ||
         (!py::isinstance<py::array>(object) && py::hasattr(object, "__cuda_array_interface__"));
}

DeviceView view_of(py::handle object) {
  if (py::isinstance<DeviceArray>(object)) {
    const auto& a = object.cast<const DeviceArray&>();
    return {a.data(), static_cast<int>(a.dtype()), a.shape(), {0, a.nbytes()}, true, true};
  }
  if (!is_device_array(object)) {
    throw py::type_error(std::string("program: expected an array on the GPU, got ") +
                         Py_TYPE(object.ptr())->tp_name);
  }
  const cuda::OnDevice here;
  const py::dict interface = object.attr("__cuda_array_interface__");
  const auto [address, read_only] = field(interface, "data").cast<std::pair<uintptr_t, bool>>();
  DeviceView view{reinterpret_cast<char*>(address),
                  dtype_of_text(field(interface, "typestr").cast<std::string>()),
                  field(interface, "shape").cast<std::vector<py::ssize_t>>(),
                  {},
                  !read_only,
                  true};
  if (view.dtype < 0 || view.shape.size() > kMaxRank) return view;
  const int64_t size = size_of(static_cast<DType>(view.dtype));
  std::vector<py::ssize_t> dense(view.shape.size());
  int64_t bytes = size;
  for (size_t d = view.shape.size(); d-- > 0;) {
    dense[d] = bytes;
    bytes = checked_multiply(bytes, view.shape[d]);
  }
  std::vector<py::ssize_t> strides = dense;
  if (interface.contains("strides") && !interface["strides"].is_none())
    strides = interface["strides"].cast<std::vector<py::ssize_t>>();
  if (strides.size() != dense.size())
    throw py::value_error("program: expected as many strides as axes, got another number");
  if (bytes == 0) return view;
  check_pointer(view.data);
  wait_for_owner(interface);
  view.range = {0, size};
  for (size_t d = 0; d < dense.size(); ++d) {
    view.contiguous &= view.shape[d] == 1 || strides[d] == dense[d];
    const int64_t span = checked_multiply(view.shape[d] - 1, strides[d]);
    (span < 0 ? view.range.low : view.range.high) += span;
  }
  return view;
}

std::string describe(const DeviceView& view) {
  return describe(view.dtype, static_cast<int>(view.shape.size()), view.shape.data()) +
         (view.contiguous ? "" : ", not C-contiguous") + " on the GPU";
}

cudaStream_t to_stream(const py::object& handle) {
  if (handle.is_none()) {
    const cuda::OnDevice here;
    return cuda::main_stream();
  }
  const int64_t number = to_int(handle, "stream");
  constexpr int64_t kLegacy = 1;  // CUDA's other name of stream 0
  return reinterpret_cast<cudaStream_t>(number == kLegacy ? 0 : number);
}

}  // namespace dl::bind
