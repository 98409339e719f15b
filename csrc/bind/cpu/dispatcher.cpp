#include "bind/cpu/dispatcher.h"

#include <algorithm>
#include <cstddef>
#include <deque>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "bind/cpu/program_object.h"

namespace dl::bind {

namespace {

constexpr size_t kMaxPrograms = 256;
constexpr int kMaxKey = 64;  // integers in the key of one call

// (dtype and rank, shape) of each argument.
struct Key {
  int64_t items[kMaxKey];
  int size = 0;

  bool add(int dtype, int rank, const py::ssize_t* shape) {
    if (size + 1 + rank > kMaxKey) return false;
    items[size++] = dtype | rank << 8;
    for (int d = 0; d < rank; ++d) items[size++] = shape[d];
    return true;
  }
  std::string_view bytes() const {
    return {reinterpret_cast<const char*>(items), size * sizeof(int64_t)};
  }
};

struct Hash {
  using is_transparent = void;
  size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
};

struct Entry {
  py::object owner;
  ProgramObject* program = nullptr;
};

struct State {
  py::object miss;
  std::unordered_map<std::string, Entry, Hash, std::equal_to<>> programs;
  std::deque<std::string> order;  // oldest first
};

struct DispatcherObject {
  PyObject head;
  vectorcallfunc vectorcall;
  State* state;
};

DispatcherObject* cast(PyObject* self) { return reinterpret_cast<DispatcherObject*>(self); }

bool key_of(PyObject* const* arguments, py::ssize_t n, Key& key) {
  for (py::ssize_t i = 0; i < n; ++i) {
    if (!is_plain(arguments[i])) return false;
    const auto* a = proxy(arguments[i]);
    if (!key.add(dtype_of(arguments[i]), a->nd, a->dimensions)) return false;
  }
  return true;
}

PyObject* call(PyObject* self, PyObject* const* arguments, size_t flagged_n, PyObject* names) {
  State& state = *cast(self)->state;
  const py::ssize_t n = PyVectorcall_NARGS(flagged_n);
  Key key;
  if (!names && key_of(arguments, n, key)) {
    const auto found = state.programs.find(key.bytes());
    if (found != state.programs.end()) {
      const Entry entry = found->second;  // kept alive: another thread may drop it meanwhile
      return guarded([&] { return entry.program->call(arguments); });
    }
  }
  const py::object miss = state.miss;
  return PyObject_Vectorcall(miss.ptr(), arguments, flagged_n, names);
}

void put(State& state, py::handle signature, py::handle program) {
  auto* object = program.cast<ProgramObject*>();
  const Items arguments(signature, "signature");
  if (arguments.size() != static_cast<py::ssize_t>(object->inputs().size())) {
    throw py::value_error("Dispatcher.add: expected a signature of " +
                          std::to_string(object->inputs().size()) + " arrays, got " +
                          std::to_string(arguments.size()));
  }
  Key key;
  for (py::ssize_t i = 0; i < arguments.size(); ++i) {
    const Items fields(arguments[i], "(dtype, shape)");
    if (fields.size() != 2)
      throw py::value_error("Dispatcher.add: expected (dtype, shape), got " +
                            std::to_string(fields.size()) + " fields");
    const Signature s = to_signature(0, fields[0], fields[1]);
    const Signature& expected = object->inputs()[i];
    const bool same_shape =
        expected.rank < 0 ||
        (expected.rank == s.rank && std::equal(s.shape, s.shape + s.rank, expected.shape));
    if ((expected.dtype >= 0 && expected.dtype != s.dtype) || !same_shape) {
      throw py::value_error("Dispatcher.add: expected argument " + std::to_string(i) + " to be " +
                            describe(expected.dtype, expected.rank, expected.shape) + ", got " +
                            describe(s.dtype, s.rank, s.shape));
    }
    if (!key.add(s.dtype, s.rank, s.shape)) return;  // too long for the map: always a miss
  }
  const std::string bytes(key.bytes());
  Entry old;  // dies, and may run Python code, only when the map is in order again
  if (state.order.size() == kMaxPrograms && !state.programs.contains(bytes)) {
    const auto oldest = state.programs.find(state.order.front());
    std::swap(old, oldest->second);
    state.programs.erase(oldest);
    state.order.pop_front();
  }
  const auto [place, added] = state.programs.try_emplace(bytes);
  if (added) {
    state.order.push_back(bytes);
  } else {
    std::swap(old, place->second);
  }
  place->second = {py::reinterpret_borrow<py::object>(program), object};
}

PyObject* add(PyObject* self, PyObject* arguments) {
  PyObject *signature, *program;
  if (!PyArg_ParseTuple(arguments, "OO:add", &signature, &program)) return nullptr;
  if (!py::isinstance<ProgramObject>(program)) {
    return PyErr_Format(PyExc_TypeError, "Dispatcher.add: expected a Program, got %s",
                        Py_TYPE(program)->tp_name);
  }
  return guarded([&] {
    put(*cast(self)->state, signature, program);
    return py::none().release().ptr();
  });
}

Py_ssize_t length(PyObject* self) {
  return static_cast<Py_ssize_t>(cast(self)->state->programs.size());
}

PyObject* create(PyTypeObject* type, PyObject* arguments, PyObject* names) {
  PyObject* miss;
  static const char* keywords[] = {"miss", nullptr};
  if (!PyArg_ParseTupleAndKeywords(arguments, names, "O:Dispatcher", const_cast<char**>(keywords),
                                   &miss))
    return nullptr;
  if (!PyCallable_Check(miss))
    return PyErr_Format(PyExc_TypeError, "Dispatcher: expected a callable, got %s",
                        Py_TYPE(miss)->tp_name);
  PyObject* self = type->tp_alloc(type, 0);
  if (!self) return nullptr;
  cast(self)->vectorcall = call;
  cast(self)->state = new (std::nothrow) State;
  if (!cast(self)->state) {
    Py_DECREF(self);
    return PyErr_NoMemory();
  }
  cast(self)->state->miss = py::reinterpret_borrow<py::object>(miss);
  return self;
}

int traverse(PyObject* self, visitproc visit, void* arg) {
  State* state = cast(self)->state;
  if (!state) return 0;
  Py_VISIT(state->miss.ptr());
  for (const auto& [key, entry] : state->programs) Py_VISIT(entry.owner.ptr());
  return 0;
}

int clear(PyObject* self) {
  if (State* state = cast(self)->state) {
    State dead;  // its destructor may run any Python code: only when this one is in order
    std::swap(dead, *state);
    state->miss = py::none();
  }
  return 0;
}

void destroy(PyObject* self) {
  PyObject_GC_UnTrack(self);
  delete std::exchange(cast(self)->state, nullptr);
  Py_TYPE(self)->tp_free(self);
}

PyMethodDef methods[] = {
    {"add", add, METH_VARARGS,
     "add(signature, program): run `program` for arguments of ((dtype, shape), ...)."},
    {nullptr, nullptr, 0, nullptr}};
PySequenceMethods sequence_methods;
PyTypeObject type;

}  // namespace

void add_dispatcher(py::module_& module) {
  sequence_methods.sq_length = length;
  reinterpret_cast<PyObject*>(&type)->ob_refcnt = 1;
  type.tp_name = "dlcore._cpu.Dispatcher";
  type.tp_doc =
      "Dispatcher(miss): calls the program added for the arguments' dtypes and shapes, else "
      "miss(*arguments).";
  type.tp_basicsize = sizeof(DispatcherObject);
  type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL;
  type.tp_vectorcall_offset = offsetof(DispatcherObject, vectorcall);
  type.tp_call = PyVectorcall_Call;
  type.tp_new = create;
  type.tp_dealloc = destroy;
  type.tp_traverse = traverse;
  type.tp_clear = clear;
  type.tp_methods = methods;
  type.tp_as_sequence = &sequence_methods;
  if (PyType_Ready(&type) < 0) throw py::error_already_set();
  module.add_object("Dispatcher", reinterpret_cast<PyObject*>(&type));
}

}  // namespace dl::bind
