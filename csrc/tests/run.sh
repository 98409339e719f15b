#!/bin/sh
# Builds and runs csrc/tests/*_test.cpp: all under AddressSanitizer and UndefinedBehaviorSanitizer, the team and the
# program runner under ThreadSanitizer too.      csrc/tests/run.sh [name...]    e.g. csrc/tests/run.sh team program
# CXX: the compiler.  DLCORE_TEST_BUILD: the folder for objects.
# Tests of kernels run at two widths: 32-byte vectors, and 64-byte ones, which the compiler splits without AVX-512.
set -eu
cd "$(dirname "$0")/../.."
CXX=${CXX:-g++}
build=${DLCORE_TEST_BUILD:-build/tests}
common="-std=gnu++20 -g -Wall -Wextra -Werror -Wno-psabi -Wno-unknown-pragmas -fno-math-errno -fno-trapping-math \
  -ffp-contract=fast -Icsrc -pthread"
address="-O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
thread="-O1 -fsanitize=thread"
case $(uname -m)$(grep -cm1 avx2 /proc/cpuinfo || true) in
  x86_641) narrow="-march=x86-64-v3 -DDL_LEVEL=avx2"; wide="-march=x86-64-v3 -DDL_LEVEL=avx512 -DDL_VECTOR_BYTES=64" ;;
  *) narrow="-DDL_LEVEL=baseline"; wide="-DDL_LEVEL=avx512 -DDL_VECTOR_BYTES=64" ;;
esac
if [ $# -eq 0 ]; then
  for file in csrc/tests/*_test.cpp; do name=${file##*/}; set -- "$@" "${name%_test.cpp}"; done
fi
mkdir -p "$build"
jobs="$build/jobs"
: >"$jobs"
compile() {  # source, object, flags
  echo "$CXX $common $3 -c $1 -o $build/$2" >>"$jobs"
}
runner="csrc/program.cpp csrc/buffer.cpp csrc/cpu/team.cpp"

for file in $runner; do
  compile "$file" "address_$(basename "$file").o" "$address"
  compile "$file" "thread_$(basename "$file").o" "$thread"
done
kernels=
for test in "$@"; do
  case $test in
    team | program)
      for kind in address thread; do
        eval "flags=\$$kind"
        compile "csrc/tests/${test}_test.cpp" "${kind}_$test.o" "$flags"
      done ;;
    *)
      kernels=yes
      compile "csrc/tests/${test}_test.cpp" "narrow_$test.o" "$address $narrow"
      compile "csrc/tests/${test}_test.cpp" "wide_$test.o" "$address $wide" ;;
  esac
done
if [ -n "$kernels" ]; then
  for file in csrc/cpu/kernels/*.cpp; do
    compile "$file" "narrow_kernel_$(basename "$file").o" "$address $narrow"
    compile "$file" "wide_kernel_$(basename "$file").o" "$address $wide"
  done
fi
xargs -P "$(nproc)" -I{} sh -c '{}' <"$jobs"

for test in "$@"; do
  case $test in
    team | program)
      for kind in address thread; do
        eval "flags=\$$kind"
        $CXX $flags -pthread "$build/${kind}_$test.o" "$build/${kind}"_program.cpp.o "$build/${kind}"_buffer.cpp.o \
          "$build/${kind}"_team.cpp.o -o "$build/${kind}_$test"
        echo "$test ($kind sanitizer)"
        "$build/${kind}_$test"
      done ;;
    *)
      for width in narrow wide; do
        $CXX $address -pthread "$build/${width}_$test.o" "$build/${width}"_kernel_*.o -o "$build/${width}_$test"
        echo "$test ($width vectors)"
        "$build/${width}_$test"
      done ;;
  esac
done
