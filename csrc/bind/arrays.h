// NumPy arrays as kernels see them, and new ones from a pool. Everything here needs the GIL, which
// also guards the pool. NumPy's headers are not needed: pybind11 knows the layout of an array.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "kernel.h"
#include "buffer.h"

namespace dl::bind {

namespace py = pybind11;

// Once, at import.
void init_arrays();

// The DType of a native-endian array, or -1.
int dtype_of(PyObject* array);

py::detail::PyArray_Proxy* proxy(PyObject* array);

// An ndarray and no subclass, C-contiguous, aligned, native-endian, of one of our dtypes.
bool is_plain(PyObject* object);

int64_t size_in_bytes(PyObject* array);

// Bytes around its data pointer that an array covers; strides may be negative.
Range extent_of_array(PyObject* array);

// A new array from the pool, not initialised: a new reference, or nullptr with a Python error set.
PyObject* new_array(DType dtype, int rank, const py::ssize_t* shape);

// "float32 (3, 4)", for messages.
std::string describe(PyObject* object);
std::string describe(int dtype, int rank, const py::ssize_t* shape);  // rank < 0: no shape

DType dtype_from_code(int64_t code, int known = kArrayDTypes);  // of the first `known` types

}  // namespace dl::bind
