"""Where the tests run."""

import os
import signal

import pytest

import dlcore


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Ctrl-C arrives, here and in child processes: what a shell starts in the background ignores
    it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory):
    """A folder of its own, and child processes that import the dlcore under test: the sources in
    the working folder lack the compiled module."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(dlcore.__file__)))
    before = os.getcwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", package, prepend=os.pathsep)
        os.chdir(tmp_path_factory.mktemp("elsewhere"))
        yield
        os.chdir(before)


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same weights and masks, whatever ran before it: none depends on luck."""
    dlcore.utils.set_random_seed(0)
