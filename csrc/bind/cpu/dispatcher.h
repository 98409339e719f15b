// Dispatcher: a callable that knows which program runs which signature of arguments. It is what an
// op called with arrays costs, so it is written on the C API: about 0.1 us to find the program.
#pragma once

#include <pybind11/pybind11.h>

namespace dl::bind {

void add_dispatcher(pybind11::module_& module);

}  // namespace dl::bind
