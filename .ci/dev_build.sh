#!/bin/sh
# Incremental build of dlcore/_cpu*.so in the source tree, and of dlcore/_cuda*.so with -DDLCORE_CUDA=ON or EMULATED,
# for development: .ci/dev_build.sh [cmake options]
# DLCORE_BUILD: build folder (default build/dev).  PYTHON: the interpreter to build for (default python3).
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${DLCORE_BUILD:-$root/build/dev}
python=$(command -v "${PYTHON:-python3}")
PATH=$(dirname "$python"):$PATH
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DDLCORE_WERROR=ON -DPython_EXECUTABLE="$python" \
  -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" "$@" >/dev/null
cmake --build "$build"
# A new file and a rename, so that processes that have the old one loaded go on.
for library in "$build"/_cpu*.so "$build"/_cuda*.so; do
  [ -e "$library" ] || continue
  cp "$library" "$root/dlcore/.new_module"
  mv "$root/dlcore/.new_module" "$root/dlcore/$(basename "$library")"
done
