#include "bind/cuda/cuda_program_object.h"

#include <algorithm>

namespace dl::bind {

namespace {

const Kernel* find(const std::string& name) {
  const cuda::CudaKernelTable& table = cuda::table();
  for (int i = 0; i < table.n_kernels; ++i) {
    if (name == table.kernels[i].name) return &table.kernels[i];
  }
  return nullptr;
}

int64_t bytes_of(const Signature& s) {
  int64_t bytes = size_of(static_cast<DType>(s.dtype));
  for (int d = 0; d < s.rank; ++d) bytes = checked_multiply(bytes, s.shape[d]);
  return bytes;
}

bool matches(const Signature& s, const DeviceView& view) {
  if (!view.contiguous || view.dtype < 0 || (s.dtype >= 0 && view.dtype != s.dtype)) return false;
  return s.rank < 0 || (static_cast<int>(view.shape.size()) == s.rank &&
                        std::equal(view.shape.begin(), view.shape.end(), s.shape));
}

// One result, or a tuple of them.
py::object packed(std::vector<py::object> results) {
  if (results.size() == 1) return results[0];
  py::tuple tuple(results.size());
  for (size_t i = 0; i < results.size(); ++i) tuple[i] = std::move(results[i]);
  return tuple;
}

}  // namespace

CudaProgramObject::CudaProgramObject(int n_slots, py::handle instructions, py::handle inputs,
                                     py::handle outputs, const py::dict& slot_bytes)
    : program_(n_slots, to_instructions(instructions, find, kDTypes), to_sizes(slot_bytes)),
      inputs_(to_inputs(inputs, program_)),
      outputs_(to_outputs(outputs, program_)),
      bound_(n_slots),
      in_(inputs_.size()),
      out_(outputs_.size()) {}

void CudaProgramObject::bind(int slot, py::object array) {
  if (array.is_none()) {
    const auto held = mutex_.lock();
    program_.bind(slot, nullptr, {}, false);
    bound_[slot] = py::object();
    return;
  }
  const DeviceView view = view_of(array);
  if (view.dtype < 0)
    throw py::type_error(
        "program: expected float32, float64, int32, int64, uint8 or bool on the "
        "GPU to bind, got another dtype");
  const auto held = mutex_.lock();
  program_.bind(slot, view.data, view.range, view.writable);
  std::swap(bound_[slot], array);  // the old one dies after the lock is free
}

void CudaProgramObject::write(int slot, int64_t offset, py::handle source) {
  check_array(source, "write");
  const auto array = py::array::ensure(source, py::array::c_style);
  const auto held = mutex_.lock();
  if (!program_.owned(slot))
    throw py::value_error("program: expected a slot that the program owns, got slot " +
                          std::to_string(slot));
  if (array.nbytes() == 0) return;
  char* to = program_.at(slot, offset, array.nbytes());
  const void* from = array.data();
  const int64_t bytes = array.nbytes();
  const WithoutGil release;
  const cuda::OnDevice here;
  cuda::copy_to_device(to, from, bytes, cuda::main_stream());
}

py::object CudaProgramObject::read(int slot, int64_t offset, int64_t code,
                                   const std::vector<py::ssize_t>& shape) {
  if (shape.size() > kMaxRank)
    throw py::value_error("program: expected at most 8 axes, got " + std::to_string(shape.size()));
  PyObject* copy = new_array(dtype_from_code(code), static_cast<int>(shape.size()), shape.data());
  if (!copy) throw py::error_already_set();
  const auto array = py::reinterpret_steal<py::object>(copy);
  const auto held = mutex_.lock();
  const int64_t bytes = size_in_bytes(copy);
  char* to = proxy(copy)->data;
  const char* from = program_.at(slot, offset, bytes);
  const WithoutGil release;
  const cuda::OnDevice here;
  cuda::copy_to_host(to, from, bytes, cuda::main_stream());
  return array;
}

int64_t CudaProgramObject::run(int64_t first, int64_t steps, std::optional<double> deadline_ms,
                               const py::object& handle) {
  const cudaStream_t stream = to_stream(handle);
  auto held = mutex_.lock();
  const WithoutGil release;
  const auto unlocking = std::move(held);  // unlocks before the GIL is wanted again
  return program_.run(first, steps, deadline_ms.value_or(-1), stream);
}

// Whether any argument is on the GPU; throws unless all are what this program was made for.
bool CudaProgramObject::accept(const py::args& arguments,
                               std::vector<std::optional<DeviceView>>& views) const {
  if (arguments.size() != inputs_.size()) {
    throw py::type_error("program: expected " + std::to_string(inputs_.size()) + " arrays, got " +
                         std::to_string(arguments.size()));
  }
  bool any = false;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const py::object argument = arguments[i];
    std::string got;
    if (is_device_array(argument)) {
      any = true;
      const DeviceView& view = views.emplace_back(view_of(argument)).value();
      if (!matches(inputs_[i], view)) got = describe(view);
    } else {
      views.emplace_back();
      if (!matches(inputs_[i], argument.ptr())) got = describe(argument.ptr());
    }
    const Signature& s = inputs_[i];
    if (!got.empty()) {
      throw py::type_error("program: expected argument " + std::to_string(i) +
                           " to be a C-contiguous array of " + describe(s.dtype, s.rank, s.shape) +
                           ", got " + got);
    }
  }
  return any;
}

char* CudaProgramObject::place(std::vector<cuda::Memory>& places, size_t i, int64_t bytes) {
  if (!places[i].data() || places[i].bytes() < bytes) {
    const WithoutGil release;
    places[i] = cuda::Memory(bytes);
  }
  return places[i].data();
}

py::object CudaProgramObject::call(const py::args& arguments, const py::object& handle) {
  const cudaStream_t stream = to_stream(handle);
  std::vector<std::optional<DeviceView>> views;
  const bool on_device = accept(arguments, views);
  auto held = mutex_.lock();
  const cuda::OnDevice here;
  struct Unbind {
    CudaProgramObject& object;
    ~Unbind() { object.unbind_call(); }
  } unbind{*this};
  std::vector<Upload> uploads;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    if (const auto& view = views[i]) {
      program_.bind(inputs_[i].slot, view->data, view->range, view->writable);
      continue;
    }
    PyObject* array = arguments[i].ptr();
    const int64_t bytes = size_in_bytes(array);
    char* to = place(in_, i, bytes);
    uploads.push_back({to, proxy(array)->data, bytes});
    program_.bind(inputs_[i].slot, to, {0, bytes}, true);
  }
  if (!on_device) return run_to_host(uploads, stream);
  py::object results = run_on_device(uploads, stream);
  // Memory of others may be given back, and used in streams of theirs, as soon as the call is back.
  const auto foreign = [](py::handle x) {
    return is_device_array(x) && !py::isinstance<DeviceArray>(x);
  };
  if (handle.is_none() && std::any_of(arguments.begin(), arguments.end(), foreign)) {
    const WithoutGil release;
    cuda::wait(stream);
  }
  return results;
}

py::object CudaProgramObject::run_on_device(const std::vector<Upload>& uploads,
                                            cudaStream_t stream) {
  std::vector<py::object> results;
  for (const Signature& s : outputs_) {
    DeviceArray array(static_cast<DType>(s.dtype),
                      std::vector<py::ssize_t>(s.shape, s.shape + s.rank));
    program_.bind(s.slot, array.data(), {0, array.nbytes()}, true);
    results.push_back(py::cast(std::move(array)));
  }
  {
    const WithoutGil release;
    for (const Upload& u : uploads)
      cuda::copy_to_device(u.to, u.from, u.bytes, cuda::main_stream());
    program_.start(stream);
  }
  return packed(std::move(results));
}

py::object CudaProgramObject::run_to_host(const std::vector<Upload>& uploads, cudaStream_t stream) {
  std::vector<py::object> results;
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const Signature& s = outputs_[i];
    PyObject* array = new_array(static_cast<DType>(s.dtype), s.rank, s.shape);
    if (!array) throw py::error_already_set();
    results.push_back(py::reinterpret_steal<py::object>(array));
    const int64_t bytes = bytes_of(s);
    program_.bind(s.slot, place(out_, i, bytes), {0, bytes}, true);
  }
  {
    const WithoutGil release;
    for (const Upload& u : uploads)
      cuda::copy_to_device(u.to, u.from, u.bytes, cuda::main_stream());
    program_.start(stream);
    for (size_t i = 0; i < outputs_.size(); ++i) {
      cuda::copy_to_host(proxy(results[i].ptr())->data, out_[i].data(), bytes_of(outputs_[i]),
                         cuda::main_stream());
    }
  }
  return packed(std::move(results));
}

void CudaProgramObject::unbind_call() {
  for (const Signature& s : inputs_) program_.bind(s.slot, nullptr, {}, false);
  for (const Signature& s : outputs_) program_.bind(s.slot, nullptr, {}, false);
}

py::list CudaProgramObject::instructions() const {
  py::list list;
  for (const Instruction& instruction : program_.instructions()) {
    py::dict entry;
    entry["kernel"] = instruction.kernel->name;
    entry["flops"] = instruction.work.flops;
    entry["bytes"] = instruction.work.bytes;
    list.append(entry);
  }
  return list;
}

}  // namespace dl::bind
