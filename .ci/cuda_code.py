"""What nvcc made: cuda_code.py LOG MODULE. The log of a build with `-Xptxas -v` must show no
spilled registers, and the module must hold code for all GPUs that are supported."""

import collections
import re
import struct
import sys

WANTED = {("code", 80), ("code", 90), ("PTX", 90)}

# Kernels (a part of their mangled names) that may spill, and why.
MAY_SPILL = {}


def spills(log):
    """(kernel, architecture, bytes) of all that spill."""
    entry = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
    bytes_of = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
    name, arch = None, None
    for line in log:
        if match := entry.search(line):
            name, arch = match.groups()
        elif (match := bytes_of.search(line)) and (n := sum(map(int, match.groups()))):
            yield name, arch, n


def code(module):
    """Counter of (kind, architecture) in the fat binaries of a module."""
    found, at = collections.Counter(), 0
    while (at := module.find(struct.pack("<I", 0xBA55ED50), at)) >= 0:
        _, version, header, size = struct.unpack_from("<IHHQ", module, at)
        end = at + header + size
        if version != 1 or end > len(module):
            at += 4
            continue
        at += header
        while at < end:
            kind, _, header, size = struct.unpack_from("<HHIQ", module, at)
            (arch,) = struct.unpack_from("<I", module, at + 28)
            found[{1: "PTX", 2: "code"}.get(kind, kind), arch] += 1
            at += header + size
    return found


def main(log, module):
    with open(log, encoding="utf-8") as file:
        spilled = [s for s in spills(file) if not any(part in s[0] for part in MAY_SPILL)]
    with open(module, "rb") as file:
        contents = file.read()
    found = code(contents)
    print(f"{len(contents)} bytes:", ", ".join(f"{kind} {arch}" for kind, arch in sorted(found)))
    for name, arch, n in spilled:
        print(f"{name}: {n} bytes spilled on {arch}")
    if missing := WANTED - set(found):
        print("missing:", missing)
    sys.exit(bool(spilled or missing))


main(*sys.argv[1:])
