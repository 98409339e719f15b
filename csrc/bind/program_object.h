// What Python calls a Program: dl::Program, a lock, the arrays bound to it, and the signature for
// eager calls.
#pragma once

#include <cxxabi.h>
#include <unistd.h>

#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <vector>

#include "bind/arrays.h"
#include "program.h"

namespace dl::bind {

struct Signature {  // of an argument or a result
  int slot;
  int dtype;  // -1: any
  int rank;   // -1: any shape that is large enough
  py::ssize_t shape[kMaxRank];
};

class ProgramObject {
 public:
  ProgramObject(int n_slots, py::handle instructions, py::handle inputs, py::handle outputs,
                const py::dict& slot_bytes);

  void bind(int slot, py::object array);
  void write(int slot, int64_t offset, py::handle array);
  py::object read(int slot, int64_t offset, int64_t dtype, const std::vector<py::ssize_t>& shape);
  int64_t run(int64_t first, int64_t steps, double deadline_ms);
  py::list instructions() const;
  int barriers();
  int64_t arena_bytes() const { return program_.owned_bytes(); }

  // Eager: `arguments` must be plain arrays that accept() has taken. Returns a new reference, or
  // throws.
  PyObject* call(PyObject* const* arguments);
  // Throws py::type_error unless the arguments are what this program was made for.
  void accept(PyObject* const* arguments, py::ssize_t n) const;
  const std::vector<Signature>& inputs() const { return inputs_; }

 private:
  std::unique_lock<std::mutex> lock();
  PyObject* new_results() const;
  void bind_call(PyObject* const* arguments, PyObject* results);
  void unbind_call();

  Program program_;
  std::vector<Signature> inputs_, outputs_;
  std::vector<py::object> bound_;  // per slot
  // In a child after fork the mutex may be held by a thread that is not there: it then gets a new
  // one.
  std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();
  int process_;
};

// Python sequences and numbers, with errors that say what was expected.
class Items {
 public:
  Items(py::handle sequence, const char* what);
  py::ssize_t size() const { return PySequence_Fast_GET_SIZE(items_.ptr()); }
  py::handle operator[](py::ssize_t i) const { return PySequence_Fast_GET_ITEM(items_.ptr(), i); }

 private:
  py::object items_;
};
int64_t to_int(py::handle number, const char* what);
Signature to_signature(int slot, py::handle dtype, py::handle shape);

// Lets other Python threads run while it lives. Before Python 3.14 a daemon thread that asks for
// the GIL when the interpreter is ending is unwound from within, which pybind11's own guard turns
// into a call of std::terminate. As Python 3.14 does, such a thread stops here for ever.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() {
    try {
      PyEval_RestoreThread(state_);
#if defined(__GLIBCXX__)
    } catch (abi::__forced_unwind&) {
#else
    } catch (...) {
#endif
      for (;;) pause();
    }
  }

 private:
  PyThreadState* state_;
};

// Runs f and turns what it throws into a Python error.
template <class F>
PyObject* guarded(F f) {
  try {
    return f();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

}  // namespace dl::bind
