// The private module dlcore._cpu. Only dlcore/backends uses it; dtypes are codes in the order of
// dl::DType.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <stdexcept>

#include "bind/arrays.h"
#include "bind/cpu/dispatcher.h"
#include "bind/cpu/program_object.h"
#include "cpu/cpu.h"
#include "cpu/machine.h"
#include "cpu/team.h"

namespace dl::bind {

namespace {

std::vector<std::string> kernel_names() {
  const KernelTable& table = level().table();
  std::vector<std::string> names;
  for (int i = 0; i < table.n_kernels; ++i) names.push_back(table.kernels[i].name);
  return names;
}

py::object empty(const std::vector<py::ssize_t>& shape, int dtype) {
  if (shape.size() > 64)
    throw py::value_error("empty: expected at most 64 axes, got " + std::to_string(shape.size()));
  PyObject* array = new_array(dtype_from_code(dtype), static_cast<int>(shape.size()), shape.data());
  if (!array) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(array);
}

// Program.__call__, past pybind11's dispatch, which costs as much as a small kernel.
PyObject* call_program(PyObject* self, PyObject* arguments, PyObject* names) {
  if (names && PyDict_GET_SIZE(names) > 0) {
    return PyErr_Format(PyExc_TypeError, "program: expected arrays without names");
  }
  return guarded([&] {
    auto& program = *py::handle(self).cast<ProgramObject*>();
    PyObject** items = PySequence_Fast_ITEMS(arguments);
    program.accept(items, PyTuple_GET_SIZE(arguments));
    return program.call(items);
  });
}

void add_program(py::module_& m) {
  py::class_<ProgramObject>(
      m, "Program", "A list of kernel calls over slots of memory; see csrc/program.h.",
      py::custom_type_setup([](PyHeapTypeObject* type) { type->ht_type.tp_call = call_program; }))
      .def(py::init<int, py::handle, py::handle, py::handle, const py::dict&>(), py::arg("n_slots"),
           py::arg("instructions"), py::arg("inputs") = py::tuple(),
           py::arg("outputs") = py::tuple(), py::arg("slot_bytes") = py::dict(),
           "instructions: (kernel, [(slot, offset, step_bytes, dtype, shape, strides)], ints, "
           "floats); inputs: slot or "
           "(slot, dtype, shape); outputs: (slot, dtype, shape); slot_bytes: {slot: size} that the "
           "program owns.")
      .def("bind", &ProgramObject::bind, py::arg("slot"), py::arg("array"),
           "Use the memory of `array` as a slot; None unbinds it.")
      .def("write", &ProgramObject::write, py::arg("slot"), py::arg("offset"), py::arg("array"),
           "Copy `array` into an owned slot.")
      .def("read", &ProgramObject::read, py::arg("slot"), py::arg("offset"), py::arg("dtype"),
           py::arg("shape"), "A copy of memory in a slot.")
      .def(
          "run",
          [](ProgramObject& p, int64_t first, int64_t steps, std::optional<double> deadline_ms,
             const py::list& arrays) {
            return p.run(first, steps, deadline_ms.value_or(-1), arrays);
          },
          py::arg("first") = 0, py::arg("steps") = 1, py::arg("deadline_ms") = py::none(),
          py::arg("arrays") = py::list(),
          "Run steps first .. first + steps - 1; returns how many were done before deadline_ms "
          "were over. arrays, [(slot, array)], are bound for this run alone.")
      .def_property_readonly("instructions", &ProgramObject::instructions)
      .def_property_readonly("barriers", &ProgramObject::barriers)
      .def_property_readonly("memory_bytes", &ProgramObject::memory_bytes);
}

}  // namespace

}  // namespace dl::bind

PYBIND11_MODULE(_cpu, m) {
  using namespace dl;
  using namespace dl::bind;
  m.doc() = "dlcore's kernels and programs on the CPU. Private.";
  try {
    choose_level(std::getenv("DLCORE_ISA"));
    num_threads();
  } catch (const std::invalid_argument& error) {
    throw py::import_error(error.what());
  }
  Team::current();  // notices forks from now on
  init_arrays();
  add_program(m);
  add_dispatcher(m);
  m.def("empty", &empty, py::arg("shape"), py::arg("dtype"),
        "An uninitialised array from the pool.");
  m.def("set_num_threads", &set_num_threads, py::arg("n"));
  m.def("get_num_threads", &num_threads);
  m.def("level", [] { return level().name; }, "The instruction set in use.");
  m.def("levels", &levels, "Instruction sets that this CPU can run, lowest first.");
  m.def("vector_bytes", [] { return level().table().vector_bytes; });
  m.def("opcodes", &opcodes, "{name: (code, inputs, outputs)} of pointwise operations.");
  m.def("kernels", &kernel_names);
  const py::call_guard<WithoutGil> without_gil;
  m.def("latency_ns", &latency_ns, without_gil,
        "Nanoseconds for a cache line to go from one team thread to another.");
  m.def("two_thread_gain", &two_thread_gain, without_gil,
        "Multiply-adds of two team threads at once over those of one.");
  m.def("fma_peak", &fma_peak, py::arg("threads"), without_gil, "float32 flop/s of multiply-adds.");
  m.def("read_bandwidth", &read_bandwidth, py::arg("bytes"), py::arg("threads"), without_gil,
        "bytes/s of reading.");
}
