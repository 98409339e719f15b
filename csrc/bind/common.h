// Python lists as instructions, errors of C++ as those of Python: what the modules of all native
// backends share.
#pragma once

#include <cxxabi.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
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
std::vector<Instruction> to_instructions(py::handle source,
                                         const Kernel* (*find)(const std::string& name),
                                         int n_dtypes);  // of operands
std::map<int, int64_t> to_sizes(const py::dict& source);

// Inputs are slots or (slot, dtype, shape), outputs (slot, dtype, shape): all slots of the caller.
std::vector<Signature> to_inputs(py::handle source, const Program& program);
std::vector<Signature> to_outputs(py::handle source, const Program& program);

// Whether `array` is a plain ndarray as `signature` says.
bool matches(const Signature& signature, PyObject* array);

// Throws unless `array` is an ndarray (or subclass) of one of our dtypes, native-endian.
void check_array(py::handle array, const char* what);

// {name: (code, inputs, outputs)} of pointwise operations.
py::dict opcodes();

int process_number();  // how often the first process and its children have forked since import

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

// A mutex for objects that Python threads share. Nobody waits for it while holding the GIL, and
// nobody needs the GIL to release it.
class Mutex {
 public:
  std::unique_lock<std::mutex> lock();

 private:
  // In a child after fork it may be held by a thread that is not there: there is then a new one.
  std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();
  int process_ = process_number();
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
