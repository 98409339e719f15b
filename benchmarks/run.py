"""Benchmarks of dlcore beside other libraries: the same as the command `dlcore bench`.

    python benchmarks/run.py --only gemm --peers numpy,torch --json result.json

The cases and what they should reach are in dlcore/bench/cases.py, the other libraries in
dlcore/bench/adapters. `--python /other/venv/bin/python` finds libraries of another environment.
"""

import sys

from dlcore.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
