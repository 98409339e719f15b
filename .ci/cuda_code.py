"""What nvcc made: cuda_code.py LOG MODULE. The log of a build with `-Xptxas -v` must show no
spilled registers beyond those listed here, the module must hold code for all GPUs that are
supported, and kernels for tensor cores must use them, which is seen where there is cuobjdump."""

import collections
import os
import re
import shutil
import struct
import subprocess
import sys

WANTED = {("code", 80), ("code", 90), ("PTX", 90)}

# Tensor cores, and what feeds them: ldmatrix, asynchronous copies; Hopper's, the engine that copies
# boxes, registers that one warpgroup gives to others.
TENSOR = {"_tensor": {"HMMA", "LDSM", "LDGSTS"}, "_hopper": {"HGMMA", "UTMALDG", "USETMAXREG"}}

# What ptxas says when products of Hopper wait for each other, or registers are not given.
SERIALIZED = re.compile(r"\(C75\d\d\).*")

# Registers put aside around a loop and not in it, as the machine code of gemm shows: their cost is
# lost in the loop's.
FEW_BYTES = 128

# Kernels that spill more: bytes, as stores and loads in the code, and why that is well.
MAY_SPILL = {
    "affine_sample_grad<float>": (256, "a gradient that training hardly asks for"),
    "affine_sample_grad<double>": (256, "a gradient that training hardly asks for"),
    "layer_norm_grad<float, 1, 16>": (320, "rows in registers, of odd lengths only"),
}


def spills(log):
    """(function, architecture, bytes) of all that spill."""
    entry = re.compile(r"Compiling entry function '\w+' for '(\w+)'")
    function = re.compile(r"Function properties for (\w+)")
    bytes_of = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
    arch = name = None
    for line in log:
        if match := entry.search(line):
            arch = match[1]
        elif match := function.search(line):
            name = match[1]
        elif (match := bytes_of.search(line)) and (n := sum(map(int, match.groups()))):
            yield name, arch, n


def readable(name):
    """`gemm<Tile<float, 4>>` of a mangled name, without namespaces and parameters."""
    try:
        text = subprocess.run(["c++filt", name], capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return name
    text = re.sub(r"\(anonymous namespace\)::|dl::cuda::|^void ", "", text)
    return re.sub(r"\(dl::cuda::\w+\)|\((\w+)\)(?=\d)", "", text).split("(")[0]


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


def wanted_code(function):
    """Instructions that a kernel must have, by its name."""
    return next((code for part, code in TENSOR.items() if part in function), set())


def without_tensor_cores(module):
    """(function, architecture, what it lacks) of the kernels named for tensor cores; None where
    nothing can read machine code."""
    reader = shutil.which("cuobjdump", path=f"{os.environ.get('PATH', '')}:/usr/local/cuda/bin")
    if reader is None:
        return None
    used, key = {}, None
    text = subprocess.Popen([reader, "-sass", module], stdout=subprocess.PIPE, text=True)
    for line in text.stdout:
        if match := re.search(r"arch = (\w+)", line):
            arch = match[1]
        elif match := re.search(r"Function : (\w+)", line):
            key = match[1], arch
            if wanted_code(match[1]):
                used[key] = set()
        elif key in used and (match := re.search(r"\*/\s+(?:@!?U?P\w+ )?([A-Z]\w+)", line)):
            used[key].add(match[1])
    lacks = {key: wanted_code(key[0]) - found for key, found in used.items()}
    return [(readable(name), arch, lack) for (name, arch), lack in lacks.items() if lack]


def main(log, module):
    with open(log, encoding="utf-8") as file:
        lines = file.readlines()
    spilled = {(readable(name), arch): n for name, arch, n in spills(lines)}
    serialized = [match[0] for line in lines if (match := SERIALIZED.search(line))]
    with open(module, "rb") as file:
        contents = file.read()
    found = code(contents)
    print(f"{len(contents)} bytes:", ", ".join(f"{kind} {arch}" for kind, arch in sorted(found)))
    wrong = False
    for (name, arch), n in sorted(spilled.items()):
        may, why = MAY_SPILL.get(name, (FEW_BYTES, "a few"))
        wrong |= n > may
        print(f"{name} on {arch}: {n} bytes spilled, " + (why if n <= may else f"more than {may}"))
    lacking = without_tensor_cores(module)
    if lacking is None:
        print("tensor cores: not looked for, there is no cuobjdump")
    for warning in serialized:
        print(warning)
    for name, arch, what in lacking or ():
        print(f"{name} on {arch}: without {', '.join(sorted(what))}")
    if missing := WANTED - set(found):
        print("missing:", missing)
    sys.exit(wrong or bool(missing) or bool(lacking) or bool(serialized))


main(*sys.argv[1:])
