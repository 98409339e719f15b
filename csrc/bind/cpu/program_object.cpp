#include "bind/cpu/program_object.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "cpu/cpu.h"

namespace dl::bind {

namespace {

// A run this long (about 16 us) lets other Python threads go on meanwhile; giving the GIL away
// costs 0.1 us.
constexpr double kReleaseCost = 8;

bool writable(PyObject* array) {
  return proxy(array)->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
}

// A thread's turn with a program: when it ends, slots are unbound, then the lock is free.
struct Turn {
  CpuProgram& program;
  std::unique_lock<std::mutex> held;
  std::vector<int> slots;

  Turn(CpuProgram& p, std::unique_lock<std::mutex> lock) : program(p), held(std::move(lock)) {}
  Turn(Turn&&) = default;
  ~Turn() {
    for (const int slot : slots) program.bind(slot, nullptr, {}, false);
  }
};

}  // namespace

ProgramObject::ProgramObject(int n_slots, py::handle instructions, py::handle inputs,
                             py::handle outputs, const py::dict& slot_bytes)
    : program_(n_slots, to_instructions(instructions, find_kernel, kArrayDTypes),
               to_sizes(slot_bytes)),
      inputs_(to_inputs(inputs, program_)),
      outputs_(to_outputs(outputs, program_)),
      bound_(n_slots) {}

void ProgramObject::bind(int slot, py::object array) {
  const auto held = mutex_.lock();
  if (array.is_none()) {
    program_.bind(slot, nullptr, {}, false);
    bound_[slot] = py::object();
    return;
  }
  bind_memory(slot, array);
  std::swap(bound_[slot], array);  // the old one dies after the lock is free
}

void ProgramObject::bind_memory(int slot, py::handle array) {
  check_array(array, "bind");
  program_.bind(slot, proxy(array.ptr())->data, extent_of_array(array.ptr()),
                writable(array.ptr()));
}

void ProgramObject::write(int slot, int64_t offset, py::handle source) {
  check_array(source, "write");
  const auto array = py::array::ensure(source, py::array::c_style);
  const auto held = mutex_.lock();
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
  const auto held = mutex_.lock();
  const int64_t bytes = size_in_bytes(copy);
  const char* source = program_.at(slot, offset, bytes);
  if (bytes > 0) std::memcpy(proxy(copy)->data, source, bytes);
  return array;
}

// Whether a signal's handler raises. Python runs handlers in the main thread alone, so others need
// not wait for the GIL.
static bool signal_raised() {
  if (syscall(SYS_gettid) != getpid()) return false;
  const PyGILState_STATE state = PyGILState_Ensure();
  const bool raised = PyErr_CheckSignals() != 0;
  PyGILState_Release(state);
  return raised;
}

int64_t ProgramObject::run(int64_t first, int64_t steps, double deadline_ms,
                           const py::list& arrays) {
  std::vector<std::pair<int, py::object>> given;
  for (const auto& pair : arrays) given.push_back(pair.cast<std::pair<int, py::object>>());
  Turn turn(program_, mutex_.lock());
  for (const auto& [slot, array] : given) {
    bind_memory(slot, array);
    turn.slots.push_back(slot);
  }
  int64_t done;
  bool torn;
  {
    const WithoutGil release;
    const Turn ending = std::move(turn);  // before the GIL is wanted again
    done = program_.run(first, steps, deadline_ms, signal_raised);
    torn = program_.torn();
  }
  if (!PyErr_Occurred()) return done;
  if (torn && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
    PyErr_SetString(PyExc_KeyboardInterrupt,
                    "stopped within a step: each variable is whole, but only some have its update");
  throw py::error_already_set();
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
  auto held = mutex_.lock();
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
  const auto held = mutex_.lock();
  return program_.barriers(num_threads());
}

int64_t ProgramObject::memory_bytes() {
  const auto held = mutex_.lock();
  return program_.memory_bytes(num_threads());
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
