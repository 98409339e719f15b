// What Python calls a Program of the CPU: dl::CpuProgram, a lock, the arrays bound to it, and the
// signature for eager calls.
#pragma once

#include <vector>

#include "bind/common.h"
#include "cpu/cpu_program.h"

namespace dl::bind {

class ProgramObject {
 public:
  ProgramObject(int n_slots, py::handle instructions, py::handle inputs, py::handle outputs,
                const py::dict& slot_bytes);

  void bind(int slot, py::object array);
  void write(int slot, int64_t offset, py::handle array);
  py::object read(int slot, int64_t offset, int64_t dtype, const std::vector<py::ssize_t>& shape);
  // `arrays`, [(slot, array)], are bound for this run alone: threads may share a program.
  int64_t run(int64_t first, int64_t steps, double deadline_ms, const py::list& arrays);
  py::list instructions() const;
  int barriers();
  int64_t memory_bytes();

  // Eager: `arguments` must be plain arrays that accept() has taken. Returns a new reference, or
  // throws.
  PyObject* call(PyObject* const* arguments);
  // Throws py::type_error unless the arguments are what this program was made for.
  void accept(PyObject* const* arguments, py::ssize_t n) const;
  const std::vector<Signature>& inputs() const { return inputs_; }

 private:
  void bind_memory(int slot, py::handle array);
  PyObject* new_results() const;
  void bind_call(PyObject* const* arguments, PyObject* results);
  void unbind_call();

  CpuProgram program_;
  std::vector<Signature> inputs_, outputs_;
  std::vector<py::object> bound_;  // per slot
  Mutex mutex_;
};

}  // namespace dl::bind
