"""What the documents say holds: examples and commands of the README, examples of docstrings."""

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys

import pytest

import dlcore

README = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "README.md")


def blocks(language):
    with open(README, encoding="utf-8") as file:
        return re.findall(rf"^```{language}\n(.*?)^```", file.read(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("i", range(len(blocks("python"))))
def test_python_example(i, tmp_path):
    subprocess.run([sys.executable, "-c", blocks("python")[i]], cwd=tmp_path, check=True)


def test_two_commands():
    assert blocks("bash") == [
        "pip install . && dlcore train\n",
        'pip install ".[test]" && pytest\n',
    ]


def test_folders_exist():
    root = os.path.dirname(README)
    with open(README, encoding="utf-8") as file:
        table = file.read().split("## What is in each folder")[1].split("##")[0]
    named = re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
    for cell in named:
        for name in re.findall(r"`([\w/]+)`", cell):
            places = [os.path.join(root, name), os.path.join(root, "dlcore", name)]
            assert any(os.path.exists(p) or os.path.exists(p + ".py") for p in places), name


def modules():
    return sorted(
        m.name
        for m in pkgutil.walk_packages(dlcore.__path__, "dlcore.")
        if m.name.split(".")[-1] not in ("_cpu", "_cuda", "worker", "__main__")
    )


@pytest.mark.parametrize("name", modules())
def test_docstring_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not failed
