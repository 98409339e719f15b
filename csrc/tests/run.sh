#!/bin/sh
# Builds and runs csrc/tests/*_test.cpp: all under AddressSanitizer and UndefinedBehaviorSanitizer, the team and the
# program runner under ThreadSanitizer too.      csrc/tests/run.sh [name...]    e.g. csrc/tests/run.sh team program
# CXX: the compiler.  DLCORE_TEST_BUILD: the folder for objects.
# Kernels are tested with 64-byte vectors, which reach furthest beyond the end of a row; the compiler splits them where
# there is no AVX-512.  VECTOR_BYTES=32 tests narrower ones.
set -eu
cd "$(dirname "$0")/../.."
CXX=${CXX:-g++}
build=${DLCORE_TEST_BUILD:-build/tests}
common="-std=gnu++20 -g1 -Wall -Wextra -Werror -Wno-psabi -Wno-unknown-pragmas -fno-math-errno -fno-trapping-math \
  -ffp-contract=fast -Icsrc -pthread"
# -fexpensive-optimizations: below -O2 it fuses multiply and add. AddressSanitizer checks accesses in functions of its
# own: in line, the tiles would take minutes to compile. Clang needs, and knows, neither.
address="-O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
if ! $CXX --version | grep -q clang; then
  address="$address -fexpensive-optimizations --param asan-instrumentation-with-call-threshold=0"
fi
thread="-O1 -fsanitize=thread"
level="-DDL_LEVEL=avx512 -DDL_VECTOR_BYTES=${VECTOR_BYTES:-64}"
if [ "$(uname -m)" = x86_64 ] && grep -q avx2 /proc/cpuinfo; then level="$level -march=x86-64-v3"; fi
if [ $# -eq 0 ]; then
  for file in csrc/tests/*_test.cpp; do name=${file##*/}; set -- "$@" "${name%_test.cpp}"; done
fi
mkdir -p "$build"
rm -f "$build"/kernel_*.o "$build"/emulated_*.o
jobs="$build/jobs"
: >"$jobs"
compile() {  # source, object, flags
  echo "$CXX $common $3 -c $1 -o $build/$2" >>"$jobs"
}
runner="csrc/program.cpp csrc/buffer.cpp csrc/cpu/cpu_program.cpp csrc/cpu/team.cpp"

for file in $runner; do
  name=$(echo "$file" | tr / _)
  compile "$file" "address_$name.o" "$address"
  compile "$file" "thread_$name.o" "$thread"
done
emulated="-Icsrc/tests/cuda -DDL_FULL_GPU=8 $address"
kernels= cuda=
for test in "$@"; do
  case $test in
    cuda_*)
      cuda=yes
      compile "csrc/tests/${test}_test.cpp" "$test.o" "$emulated"
      if [ "$test" = cuda_products ]; then
        for name in gemm gemm_tensor gemm_hopper conv conv_tensor; do compile "-xc++ csrc/cuda/kernels/$name.cu" "products_$name.o" "$emulated"; done
      fi ;;
    team | program)
      for kind in address thread; do
        eval "flags=\$$kind"
        compile "csrc/tests/${test}_test.cpp" "${kind}_$test.o" "$flags"
      done ;;
    *)
      kernels=yes
      compile "csrc/tests/${test}_test.cpp" "$test.o" "$address $level" ;;
  esac
done
if [ -n "$kernels" ]; then
  for file in csrc/cpu/kernels/*.cpp; do
    compile "$file" "kernel_$(basename "$file").o" "$address $level"
  done
fi
if [ -n "$cuda" ]; then
  for file in csrc/cuda/*.cpp csrc/cuda/*.cu csrc/tests/cuda/*.cpp; do
    compile "-xc++ $file" "emulated_$(echo "$file" | tr / _).o" "$emulated"
  done
fi
run_jobs() { xargs -d '\n' -P "$(nproc)" -I{} sh -c '{}' <"$jobs"; }
run_jobs

: >"$jobs"
link_and_run() {  # name, kind, flags, objects, arguments
  echo "$CXX $3 -pthread $4 -o $build/$2_$1 && $build/$2_$1 $5 && echo '$1 ($2 sanitizer): passed'" >>"$jobs"
}
for test in "$@"; do
  case $test in
    team | program)
      for kind in address thread; do
        eval "flags=\$$kind"
        link_and_run "$test" "$kind" "$flags" "$build/${kind}_$test.o $build/${kind}_csrc_*.cpp.o" ""
      done ;;
    cuda_*)
      objects="$build/$test.o $build/emulated_*.o $build/address_csrc_program.cpp.o $build/address_csrc_buffer.cpp.o"
      if [ "$test" = cuda_products ]; then objects="$build/$test.o $build/products_*.o $build/emulated_csrc_tests_*.o"; fi
      link_and_run "$test" address "$address" "$objects" "" ;;
    math) link_and_run math address "$address" "$build/math.o $build/kernel_*.o" 4099 ;;  # every 4099th float
    *) link_and_run "$test" address "$address" "$build/$test.o $build/kernel_*.o" "" ;;
  esac
done
run_jobs
