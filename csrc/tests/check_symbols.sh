#!/bin/sh
# Nothing compiled for one instruction set may be linked into another's path, or run before the choice is made.
#   csrc/tests/check_symbols.sh BUILD_FOLDER
set -eu
for level in baseline avx2 avx512; do
  objects=$(find "$1" -path "*dl_$level.dir*" -name '*.o')
  [ -n "$objects" ] || { echo "no objects of $level in $1"; exit 1; }
  # shellcheck disable=SC2086
  if nm -C $objects | grep -E ' [WVu] ' | grep -v "dl::$level::"; then
    echo "weak symbols outside dl::$level: see above"; exit 1
  fi
  if readelf -SW $objects | grep -E 'init_array|ctors'; then
    echo "$level has initialisers, which run at load on any CPU"; exit 1
  fi
done
echo "symbols: ok"
