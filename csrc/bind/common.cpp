#include "bind/common.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>

namespace dl::bind {

namespace {

std::atomic<int> process_count{0};

Operand to_operand(py::handle source, int n_dtypes) {
  const Items fields(source, "operand (slot, offset, step, dtype, shape, strides)");
  if (fields.size() != 6)
    throw py::value_error("program: expected an operand of 6 fields, got " +
                          std::to_string(fields.size()));
  Operand operand = {};
  const int64_t slot = to_int(fields[0], "slot");
  operand.slot = static_cast<int>(std::clamp<int64_t>(slot, -1, INT32_MAX));
  operand.offset = to_int(fields[1], "offset");
  operand.step_bytes = to_int(fields[2], "step_bytes");
  const Items shape(fields[4], "shape"), strides(fields[5], "strides");
  if (shape.size() > kMaxRank || shape.size() != strides.size()) {
    throw py::value_error("program: expected as many strides as axes and at most " +
                          std::to_string(kMaxRank) + ", got " + std::to_string(strides.size()) +
                          " and " + std::to_string(shape.size()));
  }
  operand.tensor.dtype = dtype_from_code(to_int(fields[3], "dtype"), n_dtypes);
  operand.tensor.rank = static_cast<int>(shape.size());
  for (int d = 0; d < operand.tensor.rank; ++d) {
    operand.tensor.shape[d] = to_int(shape[d], "shape");
    operand.tensor.stride[d] = to_int(strides[d], "stride");
  }
  return operand;
}

Instruction to_instruction(py::handle source, const Kernel* (*find)(const std::string& name),
                           int n_dtypes) {
  const Items fields(source, "instruction (kernel, operands, ints, floats)");
  if (fields.size() != 4)
    throw py::value_error("program: expected an instruction of 4 fields, got " +
                          std::to_string(fields.size()));
  if (!PyUnicode_Check(fields[0].ptr()))
    throw py::type_error("program: expected a kernel name, got " +
                         std::string(Py_TYPE(fields[0].ptr())->tp_name));
  const std::string name = py::cast<std::string>(fields[0]);
  Instruction instruction;
  instruction.kernel = find(name);
  if (!instruction.kernel)
    throw py::value_error("program: expected the name of a kernel, got '" + name + "'");
  const Items operands(fields[1], "list of operands"), ints(fields[2], "list of integers"),
      floats(fields[3], "list of numbers");
  for (py::ssize_t i = 0; i < operands.size(); ++i)
    instruction.operands.push_back(to_operand(operands[i], n_dtypes));
  for (py::ssize_t i = 0; i < ints.size(); ++i)
    instruction.ints.push_back(to_int(ints[i], "integer attribute"));
  for (py::ssize_t i = 0; i < floats.size(); ++i) {
    instruction.floats.push_back(PyFloat_AsDouble(floats[i].ptr()));
    if (PyErr_Occurred()) throw py::error_already_set();
  }
  return instruction;
}

int to_slot(py::handle number, const Program& program) {
  const int64_t slot = to_int(number, "slot");
  if (slot < 0 || slot >= program.n_slots() || program.owned(static_cast<int>(slot))) {
    throw py::value_error("program: expected inputs and outputs in slots of the caller, got slot " +
                          std::to_string(slot));
  }
  return static_cast<int>(slot);
}

Signature slot_signature(py::handle source, const Program& program, const char* what) {
  const Items fields(source, what);
  if (fields.size() != 3)
    throw py::value_error("program: expected an " + std::string(what) + " of 3 fields, got " +
                          std::to_string(fields.size()));
  return to_signature(to_slot(fields[0], program), fields[1], fields[2]);
}

}  // namespace

Items::Items(py::handle sequence, const char* what) {
  if (!PyList_Check(sequence.ptr()) && !PyTuple_Check(sequence.ptr())) {
    throw py::type_error(std::string("program: expected a list or tuple as ") + what + ", got " +
                         Py_TYPE(sequence.ptr())->tp_name);
  }
  items_ = py::reinterpret_borrow<py::object>(sequence);
}

int64_t to_int(py::handle number, const char* what) {
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  if (overflow)
    throw py::value_error(std::string("program: expected ") + what +
                          " within 63 bits, got an overflow");
  if (value == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    throw py::type_error(std::string("program: expected an integer as ") + what + ", got " +
                         Py_TYPE(number.ptr())->tp_name);
  }
  return value;
}

Signature to_signature(int slot, py::handle dtype, py::handle shape) {
  const Items axes(shape, "shape");
  if (axes.size() > kMaxRank)
    throw py::value_error("program: expected at most 8 axes, got " + std::to_string(axes.size()));
  Signature signature = {slot,
                         static_cast<int>(dtype_from_code(to_int(dtype, "dtype"))),
                         static_cast<int>(axes.size()),
                         {}};
  for (int d = 0; d < signature.rank; ++d) signature.shape[d] = to_int(axes[d], "shape");
  return signature;
}

std::vector<Instruction> to_instructions(py::handle source,
                                         const Kernel* (*find)(const std::string& name),
                                         int n_dtypes) {
  const Items items(source, "list of instructions");
  std::vector<Instruction> instructions;
  for (py::ssize_t i = 0; i < items.size(); ++i)
    instructions.push_back(to_instruction(items[i], find, n_dtypes));
  return instructions;
}

std::map<int, int64_t> to_sizes(const py::dict& source) {
  std::map<int, int64_t> sizes;
  for (const auto& [slot, bytes] : source) {
    sizes[static_cast<int>(std::clamp<int64_t>(to_int(slot, "slot"), -1, INT32_MAX))] =
        to_int(bytes, "slot_bytes");
  }
  return sizes;
}

std::vector<Signature> to_inputs(py::handle source, const Program& program) {
  const Items items(source, "list of inputs");
  std::vector<Signature> inputs;
  for (py::ssize_t i = 0; i < items.size(); ++i) {
    if (PyLong_Check(items[i].ptr())) {
      const int slot = to_slot(items[i], program);
      inputs.push_back({slot, program.dtype(slot), -1, {}});
    } else {
      inputs.push_back(slot_signature(items[i], program, "input (slot, dtype, shape)"));
    }
  }
  return inputs;
}

std::vector<Signature> to_outputs(py::handle source, const Program& program) {
  const Items items(source, "list of outputs");
  std::vector<Signature> outputs;
  for (py::ssize_t i = 0; i < items.size(); ++i)
    outputs.push_back(slot_signature(items[i], program, "output (slot, dtype, shape)"));
  return outputs;
}

bool matches(const Signature& signature, PyObject* array) {
  if (!is_plain(array) || (signature.dtype >= 0 && dtype_of(array) != signature.dtype))
    return false;
  if (signature.rank < 0) return true;
  const auto* a = proxy(array);
  return a->nd == signature.rank &&
         std::equal(a->dimensions, a->dimensions + a->nd, signature.shape);
}

void check_array(py::handle array, const char* what) {
  if (!py::isinstance<py::array>(array)) {
    throw py::type_error(std::string("program: expected an ndarray to ") + what + ", got " +
                         Py_TYPE(array.ptr())->tp_name);
  }
  if (dtype_of(array.ptr()) < 0) {
    throw py::type_error(std::string("program: expected float32, float64, int32, int64, uint8 or "
                                     "bool in native byte order to ") +
                         what + ", got " + py::cast<std::string>(py::str(array.attr("dtype"))));
  }
}

py::dict opcodes() {
  py::dict table;
  int code = 0;
#define DL_OP(name, inputs, outputs) table[#name] = py::make_tuple(code++, inputs, outputs);
#include "opcodes.def"
#undef DL_OP
  return table;
}

std::unique_lock<std::mutex> Mutex::lock() {
  if (process_ != process_number()) {
    (void)mutex_.release();
    mutex_ = std::make_unique<std::mutex>();
    process_ = process_number();
  }
  std::unique_lock<std::mutex> held(*mutex_, std::try_to_lock);
  if (!held) {
    const WithoutGil release;
    held.lock();
  }
  return held;
}

int process_number() {
  static const bool watching = pthread_atfork(nullptr, nullptr, [] { ++process_count; }) == 0;
  (void)watching;
  return process_count.load(std::memory_order_relaxed);
}

}  // namespace dl::bind
