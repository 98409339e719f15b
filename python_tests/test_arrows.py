"""Who may use whom: `import` and `#include` lines, held against the design's arrows.

cli, bench, io, distributed -> models -> layers, losses, optimizers, ... -> ops -> program ->
backends -> the native modules. Nothing points up, but inside a function (which runs when all is
loaded) ops, program and backends, which together make one compiler, may name each other.
"""

import ast
import os
import re

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGE = os.path.join(ROOT, "dlcore")

# Room -> height. A file may import rooms of its own height or below.
HEIGHTS = {
    "absent": 0, "config": 0, "lookup": 0, "dtype_policies": 0, "tree": 0,
    "backends": 1, "scopes": 1,
    "program": 2,
    "ops": 3,
    "random": 4,
    "data": 5, "datasets": 5, "utils": 5, "preprocessing": 5,
    "activations": 5, "constraints": 5, "initializers": 5, "regularizers": 5, "losses": 5,
    "metrics": 5,
    "layers": 5, "optimizers": 5, "schedules": 5, "callbacks": 5,
    "models": 6, "mixed_precision": 6, "backend": 6,
    "io": 7, "saving": 7, "distributed": 7, "bench": 7, "check": 7,
    "cli": 8, "__main__": 8,
}  # fmt: skip
COMPILER = {"backends", "program", "ops"}
# What a graph and its emitted form are: the words in which work is handed down to the backends.
HANDED_DOWN = {
    "program.dtypes", "program.emit", "program.graph", "program.halves", "program.widen",
}  # fmt: skip
NATIVE = {"_cpu", "_cuda"}


def python_files():
    for folder, _, names in os.walk(PACKAGE):
        for name in names:
            if name.endswith(".py"):
                yield os.path.relpath(os.path.join(folder, name), PACKAGE)


def room(path):
    return path.split(os.sep)[0].removesuffix(".py")


def imports(tree):
    """(dotted name, line, inside a function) of every import."""
    inner = {
        id(node)
        for f in ast.walk(tree)
        if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(f)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield name, node.lineno, id(node) in inner


def allowed(user, name, lazily):
    """Whether a file of room `user` may import dlcore.`name`."""
    used = name.split(".")[0]
    if used in NATIVE:
        return user == "backends"
    if user == "backends" and ".".join(name.split(".")[:2]) in HANDED_DOWN:
        return True
    if used not in HEIGHTS:  # a name of the package itself, as Sequential
        return user in ("cli", "bench", "check", "io", "models", "callbacks", "utils", "datasets")
    if lazily and {user, used} <= COMPILER:
        return True
    # Saving is asked for by models and callbacks, but written above them.
    if lazily and used in ("io", "saving"):
        return user in ("models", "callbacks", "cli", "utils")
    return HEIGHTS[used] <= HEIGHTS[user]


@pytest.mark.parametrize("path", sorted(python_files()))
def test_python_arrows(path):
    user = room(path)
    if user == "__init__":
        return
    assert user in HEIGHTS, f"{path}: give its room a height here"
    with open(os.path.join(PACKAGE, path), encoding="utf-8") as file:
        tree = ast.parse(file.read())
    for used, line, lazily in imports(tree):
        if used.split(".")[0] == "cupy":
            assert user == "backends" or path == os.path.join("bench", "adapters", "gpu.py"), (
                f"{path}:{line}: only backends may import cupy, and what measures it"
            )
        elif used.startswith("dlcore."):
            name = used.removeprefix("dlcore.")
            assert allowed(user, name, lazily), f"{path}:{line}: {user} must not import {name}"


def test_an_import_of_the_package_is_light():
    """What is not needed to start is imported inside functions."""
    heavy = {"tqdm", "safetensors", "matplotlib", "urllib", "zipfile", "argparse", "subprocess"}
    for path in python_files():
        if room(path) in ("cli", "bench", "check", "io"):
            continue
        with open(os.path.join(PACKAGE, path), encoding="utf-8") as file:
            tree = ast.parse(file.read())
        top = {used.split(".")[0] for used, _, lazily in imports(tree) if not lazily}
        assert not top & heavy, f"{path}: import {top & heavy} inside the function that uses it"


def sources():
    for folder, _, names in os.walk(os.path.join(ROOT, "csrc")):
        for name in names:
            if name.endswith((".h", ".cpp", ".cu", ".cuh", ".def")):
                yield os.path.relpath(os.path.join(folder, name), os.path.join(ROOT, "csrc"))


def forbidden(path, included):
    """Why the file `path` of csrc must not include `included`, or None."""
    place = os.path.dirname(path)
    if included in ("Python.h", "pybind11.h") or included.startswith(("pybind11/", "numpy/")):
        return None if place.startswith("bind") else "only csrc/bind/ knows Python"
    if place.startswith("cpu") and "cuda" in included:
        return "the CPU backend does not know CUDA"
    if place.startswith("cuda") and re.search(r"\bcpu/", included):
        return "the CUDA backend does not know the CPU's"
    if place in ("bind", "bind/cpu") and "cuda" in included:
        return "only bind/cuda knows CUDA"
    if place in ("bind", "bind/cuda") and re.search(r"\bcpu/", included):
        return "only bind/cpu knows the CPU's kernels"
    if place == "cuda/kernels" and re.search(r"(^|/)(program|cuda_program|device)\.h$", included):
        return "kernels do not know who runs them"
    if place == "common" and re.search(r"\b(cpu|cuda|bind)/", included):
        return "common arithmetic stands alone"
    if place.startswith("cpu/kernels"):
        if re.search(r"(^|/)(team|program|cpu_program|cpu)\.h$|bind/", included):
            return "kernels do not know who runs them"
        containers = {
            "vector",
            "string",
            "map",
            "unordered_map",
            "functional",
            "memory",
            "iostream",
        }
        if included in containers:
            return "its inline functions would be shared between instruction sets"
    if not place.startswith("bind") and "bind/" in included:
        return "arrows go down only"
    return None


@pytest.mark.parametrize("path", sorted(sources()))
def test_include_arrows(path):
    with open(os.path.join(ROOT, "csrc", path), encoding="utf-8") as file:
        for line, text in enumerate(file, 1):
            match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', text)
            why = match and not path.startswith("tests") and forbidden(path, match.group(1))
            assert not why, f"csrc/{path}:{line}: {text.strip()}: {why}"
