#include "bind/program_object.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <string>

#include "cpu/cpu.h"

namespace dl::bind {

namespace {

// A run this long (about 16 us) lets other Python threads go on meanwhile; giving the GIL away
// costs 0.1 us.
constexpr double kReleaseCost = 8;

std::atomic<int> process_count{0};  // forks since the first process

int process_number() {
  static const bool watching = pthread_atfork(nullptr, nullptr, [] { ++process_count; }) == 0;
  (void)watching;
  return process_count.load(std::memory_order_relaxed);
}

Operand to_operand(py::handle source) {
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
  operand.tensor.dtype = dtype_from_code(to_int(fields[3], "dtype"));
  operand.tensor.rank = static_cast<int>(shape.size());
  for (int d = 0; d < operand.tensor.rank; ++d) {
    operand.tensor.shape[d] = to_int(shape[d], "shape");
    operand.tensor.stride[d] = to_int(strides[d], "stride");
  }
  return operand;
}

Instruction to_instruction(py::handle source) {
  const Items fields(source, "instruction (kernel, operands, ints, floats)");
  if (fields.size() != 4)
    throw py::value_error("program: expected an instruction of 4 fields, got " +
                          std::to_string(fields.size()));
  if (!PyUnicode_Check(fields[0].ptr()))
    throw py::type_error("program: expected a kernel name, got " +
                         std::string(Py_TYPE(fields[0].ptr())->tp_name));
  const std::string name = py::cast<std::string>(fields[0]);
  Instruction instruction;
  instruction.kernel = find_kernel(name);
  if (!instruction.kernel)
    throw py::value_error("program: expected the name of a kernel, got '" + name + "'");
  const Items operands(fields[1], "list of operands"), ints(fields[2], "list of integers"),
      floats(fields[3], "list of numbers");
  for (py::ssize_t i = 0; i < operands.size(); ++i)
    instruction.operands.push_back(to_operand(operands[i]));
  for (py::ssize_t i = 0; i < ints.size(); ++i)
    instruction.ints.push_back(to_int(ints[i], "integer attribute"));
  for (py::ssize_t i = 0; i < floats.size(); ++i) {
    instruction.floats.push_back(PyFloat_AsDouble(floats[i].ptr()));
    if (PyErr_Occurred()) throw py::error_already_set();
  }
  return instruction;
}

std::vector<Instruction> to_instructions(py::handle source) {
  const Items items(source, "list of instructions");
  std::vector<Instruction> instructions;
  for (py::ssize_t i = 0; i < items.size(); ++i) instructions.push_back(to_instruction(items[i]));
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

// An ndarray (or subclass) of one of our dtypes, native-endian.
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

bool writable(PyObject* array) {
  return proxy(array)->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
}

bool matches(const Signature& signature, PyObject* array) {
  if (!is_plain(array) || (signature.dtype >= 0 && dtype_of(array) != signature.dtype))
    return false;
  if (signature.rank < 0) return true;
  const auto* a = proxy(array);
  return a->nd == signature.rank &&
         std::equal(a->dimensions, a->dimensions + a->nd, signature.shape);
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

ProgramObject::ProgramObject(int n_slots, py::handle instructions, py::handle inputs,
                             py::handle outputs, const py::dict& slot_bytes)
    : program_(n_slots, to_instructions(instructions), to_sizes(slot_bytes)),
      bound_(n_slots),
      process_(process_number()) {
  const Items ins(inputs, "list of inputs"), outs(outputs, "list of outputs");
  const auto to_slot = [&](py::handle number) {
    const int64_t slot = to_int(number, "slot");
    if (slot < 0 || slot >= n_slots || program_.owned(static_cast<int>(slot))) {
      throw py::value_error(
          "program: expected inputs and outputs in slots of the caller, got slot " +
          std::to_string(slot));
    }
    return static_cast<int>(slot);
  };
  for (py::ssize_t i = 0; i < ins.size(); ++i) {
    if (PyLong_Check(ins[i].ptr())) {
      const int slot = to_slot(ins[i]);
      inputs_.push_back({slot, program_.dtype(slot), -1, {}});
    } else {
      const Items fields(ins[i], "input (slot, dtype, shape)");
      if (fields.size() != 3)
        throw py::value_error("program: expected an input of 3 fields, got " +
                              std::to_string(fields.size()));
      inputs_.push_back(to_signature(to_slot(fields[0]), fields[1], fields[2]));
    }
  }
  for (py::ssize_t i = 0; i < outs.size(); ++i) {
    const Items fields(outs[i], "output (slot, dtype, shape)");
    if (fields.size() != 3)
      throw py::value_error("program: expected an output of 3 fields, got " +
                            std::to_string(fields.size()));
    outputs_.push_back(to_signature(to_slot(fields[0]), fields[1], fields[2]));
  }
}

// Nobody waits for the lock while holding the GIL, and nobody needs the GIL to release the lock.
std::unique_lock<std::mutex> ProgramObject::lock() {
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

void ProgramObject::bind(int slot, py::object array) {
  const auto held = lock();
  if (array.is_none()) {
    program_.bind(slot, nullptr, {}, false);
    bound_[slot] = py::object();
    return;
  }
  check_array(array, "bind");
  program_.bind(slot, proxy(array.ptr())->data, extent_of_array(array.ptr()),
                writable(array.ptr()));
  std::swap(bound_[slot], array);  // the old one dies after the lock is free
}

void ProgramObject::write(int slot, int64_t offset, py::handle source) {
  check_array(source, "write");
  const auto array = py::array::ensure(source, py::array::c_style);
  const auto held = lock();
  if (!program_.owned(slot))
    throw py::value_error("program: expected a slot that the program owns, got slot " +
                          std::to_string(slot));
  if (array.nbytes() == 0) return;
  std::memcpy(program_.at(slot, offset, array.nbytes()), array.data(), array.nbytes());
}

py::object ProgramObject::read(int slot, int64_t offset, int64_t code,
                               const std::vector<py::ssize_t>& shape) {
  if (shape.size() > kMaxRank)
    throw py::value_error("program: expected at most 8 axes, got " + std::to_string(shape.size()));
  PyObject* copy = new_array(dtype_from_code(code), static_cast<int>(shape.size()), shape.data());
  if (!copy) throw py::error_already_set();
  const auto array = py::reinterpret_steal<py::object>(copy);
  const auto held = lock();
  const int64_t bytes = size_in_bytes(copy);
  const char* source = program_.at(slot, offset, bytes);
  if (bytes > 0) std::memcpy(proxy(copy)->data, source, bytes);
  return array;
}

int64_t ProgramObject::run(int64_t first, int64_t steps, double deadline_ms) {
  auto held = lock();
  const WithoutGil release;
  const auto unlocking = std::move(held);  // unlocks before the GIL is wanted again
  return program_.run(first, steps, deadline_ms);
}

void ProgramObject::accept(PyObject* const* arguments, py::ssize_t n) const {
  if (n != static_cast<py::ssize_t>(inputs_.size())) {
    throw py::type_error("program: expected " + std::to_string(inputs_.size()) + " arrays, got " +
                         std::to_string(n));
  }
  for (py::ssize_t i = 0; i < n; ++i) {
    if (matches(inputs_[i], arguments[i])) continue;
    const Signature& s = inputs_[i];
    throw py::type_error("program: expected argument " + std::to_string(i) +
                         " to be a C-contiguous ndarray of " + describe(s.dtype, s.rank, s.shape) +
                         ", got " + describe(arguments[i]));
  }
}

PyObject* ProgramObject::new_results() const {
  const auto create = [](const Signature& s) {
    PyObject* array = new_array(static_cast<DType>(s.dtype), s.rank, s.shape);
    if (!array) throw py::error_already_set();
    return array;
  };
  if (outputs_.size() == 1) return create(outputs_[0]);
  auto tuple = py::tuple(outputs_.size());
  for (size_t i = 0; i < outputs_.size(); ++i)
    PyTuple_SET_ITEM(tuple.ptr(), i, create(outputs_[i]));
  return tuple.release().ptr();
}

void ProgramObject::bind_call(PyObject* const* arguments, PyObject* results) {
  for (size_t i = 0; i < inputs_.size(); ++i) {
    PyObject* array = arguments[i];
    program_.bind(inputs_[i].slot, proxy(array)->data, {0, size_in_bytes(array)}, writable(array));
  }
  for (size_t i = 0; i < outputs_.size(); ++i) {
    PyObject* array = outputs_.size() == 1 ? results : PyTuple_GET_ITEM(results, i);
    program_.bind(outputs_[i].slot, proxy(array)->data, {0, size_in_bytes(array)}, true);
  }
}

void ProgramObject::unbind_call() {
  for (const Signature& s : inputs_) program_.bind(s.slot, nullptr, {}, false);
  for (const Signature& s : outputs_) program_.bind(s.slot, nullptr, {}, false);
}

PyObject* ProgramObject::call(PyObject* const* arguments) {
  auto results = py::reinterpret_steal<py::object>(new_results());
  auto held = lock();
  struct Unbind {
    ProgramObject& object;
    ~Unbind() { object.unbind_call(); }
  } unbind{*this};
  bind_call(arguments, results.ptr());
  if (program_.cost() < kReleaseCost) {
    program_.run(0, 1);
  } else {
    const WithoutGil release;
    program_.run(0, 1);
  }
  return results.release().ptr();
}

int ProgramObject::barriers() {
  const auto held = lock();
  return program_.barriers(num_threads());
}

py::list ProgramObject::instructions() const {
  py::list list;
  for (const Instruction& instruction : program_.instructions()) {
    const Work& work = instruction.work;
    py::list parts, threads;
    for (int phase = 0; phase < work.phases; ++phase) {
      parts.append(work.parts[phase]);
      threads.append(worthwhile_threads(cost_of(work), work.parts[phase], num_threads()));
    }
    py::dict entry;
    entry["kernel"] = instruction.kernel->name;
    entry["parts"] = parts;
    entry["threads"] = threads;
    entry["flops"] = work.flops;
    entry["bytes"] = work.bytes;
    list.append(entry);
  }
  return list;
}

}  // namespace dl::bind
