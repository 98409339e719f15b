// The private module dlcore._cuda. Only dlcore/backends uses it; dtypes are codes in the order of
// dl::DType. Importing it asks nothing of the driver, which need not be there.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bind/common.h"
#include "bind/cuda/cuda_program_object.h"
#include "bind/cuda/device_array.h"
#include "cuda/device.h"
#include "cuda/hopper_use.h"
#include "cuda/launch.h"
#include "cuda/precision.h"

namespace dl::bind {

namespace {

std::vector<std::string> kernel_names() {
  const cuda::CudaKernelTable& table = cuda::table();
  std::vector<std::string> names;
  for (int i = 0; i < table.n_kernels; ++i) names.push_back(table.kernels[i].name);
  return names;
}

std::vector<std::string> half_kernel_names() {
  const cuda::CudaKernelTable& table = cuda::table();
  std::vector<std::string> names;
  for (int i = 0; i < table.n_kernels; ++i) {
    if (table.kernels[i].halves) names.push_back(table.kernels[i].name);
  }
  return names;
}

py::object available() {
  const std::string why = cuda::unavailable();
  return why.empty() ? py::none() : py::object(py::str(why));
}

py::dict device() {
  const cuda::OnDevice here;
  cudaDeviceProp properties;
  size_t free = 0, total = 0;
  int driver = 0, runtime = 0;
  cuda::check(cudaGetDeviceProperties(&properties, 0), "the properties of the device");
  cuda::check(cudaMemGetInfo(&free, &total), "the memory of the device");
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  py::dict fields;
  fields["name"] = std::string(properties.name);
  fields["capability"] = py::make_tuple(properties.major, properties.minor);
  fields["total_bytes"] = total;
  fields["free_bytes"] = free;
  fields["driver"] = py::make_tuple(driver / 1000, driver % 1000 / 10);
  fields["runtime"] = py::make_tuple(runtime / 1000, runtime % 1000 / 10);
  fields["multiprocessors"] = properties.multiProcessorCount;
#ifdef DL_CUDA_EMULATED
  fields["emulated"] = true;
#else
  fields["emulated"] = false;
#endif
  return fields;
}

void order(const py::object& stream) {
  const cuda::OnDevice here;
  const cuda::InOrder both(to_stream(stream));
}

DeviceArray empty(const std::vector<py::ssize_t>& shape, int dtype) {
  return DeviceArray(dtype_from_code(dtype), shape);
}

std::string dtype_name(const DeviceArray& array) {
  return describe(static_cast<int>(array.dtype()), -1, nullptr);
}

int64_t use_hopper(const std::string& products) {
  using cuda::HopperUse;
  if (products != "never" && products != "large" && products != "always") {
    throw py::value_error("use_hopper: expected 'never', 'large' or 'always', got '" + products +
                          "'");
  }
  cuda::hopper_use = products == "never"   ? HopperUse::never
                     : products == "large" ? HopperUse::large
                                           : HopperUse::always;
  return cuda::hopper_products;
}

void add_device_array(py::module_& m) {
  py::class_<DeviceArray>(m, "DeviceArray", "An array on the GPU, C-contiguous.")
      .def_property_readonly("shape",
                             [](const DeviceArray& a) { return py::tuple(py::cast(a.shape())); })
      .def_property_readonly("dtype", &dtype_name)
      .def_property_readonly("nbytes", &DeviceArray::nbytes)
      .def_property_readonly("__cuda_array_interface__", &DeviceArray::interface)
      .def_property_readonly("address", &DeviceArray::address,
                             "Where it lies, for use in streams that programs are given.")
      .def("get", &DeviceArray::get, "A copy as a NumPy array.")
      .def("set", &DeviceArray::set, py::arg("array"), py::arg("beside") = false,
           "Copy a NumPy array of the same shape here; beside what runs, which must not use it.")
      .def("__getitem__", &DeviceArray::rows, py::arg("rows"),
           "Rows start:stop, in the same memory.");
}

void add_program(py::module_& m) {
  py::class_<CudaProgramObject>(m, "Program",
                                "A list of kernel calls over slots of memory; see csrc/program.h.")
      .def(py::init<int, py::handle, py::handle, py::handle, const py::dict&>(), py::arg("n_slots"),
           py::arg("instructions"), py::arg("inputs") = py::tuple(),
           py::arg("outputs") = py::tuple(), py::arg("slot_bytes") = py::dict(),
           "instructions: (kernel, [(slot, offset, step_bytes, dtype, shape, strides)], ints, "
           "floats); inputs: slot or (slot, dtype, shape); outputs: (slot, dtype, shape); "
           "slot_bytes: {slot: size} that the program owns.")
      .def("bind", &CudaProgramObject::bind, py::arg("slot"), py::arg("array"),
           "Use the memory of an array on the GPU as a slot; None unbinds it.")
      .def("write", &CudaProgramObject::write, py::arg("slot"), py::arg("offset"), py::arg("array"),
           "Copy a NumPy array into an owned slot.")
      .def("read", &CudaProgramObject::read, py::arg("slot"), py::arg("offset"), py::arg("dtype"),
           py::arg("shape"), "A copy of memory in a slot as a NumPy array.")
      .def("run", &CudaProgramObject::run, py::arg("first") = 0, py::arg("steps") = 1,
           py::arg("deadline_ms") = py::none(), py::arg("stream") = py::none(),
           "Run steps first .. first + steps - 1, wait for them, and return how many were done "
           "before deadline_ms were over.")
      .def("__call__", &CudaProgramObject::call, py::arg("stream") = py::none(),
           "Run one step on arrays in place of the input slots; returns what is in the output "
           "slots.")
      .def_property_readonly("instructions", &CudaProgramObject::instructions)
      .def_property_readonly("memory_bytes", &CudaProgramObject::memory_bytes);
}

}  // namespace

}  // namespace dl::bind

PYBIND11_MODULE(_cuda, m) {
  using namespace dl;
  using namespace dl::bind;
  m.doc() = "dlcore's kernels and programs on NVIDIA GPUs. Private.";
  process_number();  // notices forks from now on
  init_arrays();
  py::register_local_exception<Refusal>(m, "Refusal", PyExc_ValueError);
  add_device_array(m);
  add_program(m);
  m.def("available", &available, "None, or one sentence that says why no GPU can be used.");
  m.def("device", &device, "Name, capability, memory and versions of the GPU in use.");
  m.def("kernels", &kernel_names);
  m.def("half_kernels", &half_kernel_names, "Those whose operands may be bfloat16 or float16.");
  m.def(
      "allow_tf32", [](bool allow) { cuda::tf32_products = allow; },
      "Whether products of float32, of programs made from now on, go through tensor cores.");
  m.def("use_hopper", &use_hopper, py::arg("products"),
        "Which products go through kernels for Hopper: 'never', 'large' or 'always'; returns how "
        "many have gone through them.");
  m.def("opcodes", &opcodes, "{name: (code, inputs, outputs)} of pointwise operations.");
  m.def("empty", &empty, py::arg("shape"), py::arg("dtype"), "An uninitialised DeviceArray.");
  m.def(
      "order", &order, py::arg("stream"),
      "What is put into the stream, or into ours, from now on comes after all that is in either.");
  m.def("trim", &cuda::trim, "Give memory that no array uses back to the device.");
}
