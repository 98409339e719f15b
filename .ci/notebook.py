"""Runs the code cells of notebooks, one after the other, as a script: .ci/notebook.py FILE..."""

import json
import os
import sys

for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        cells = json.load(file)["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names = {"__name__": "__main__"}
    for number, source in enumerate(sources, 1):
        print(f"-- {os.path.basename(path)}, cell {number} of {len(sources)}")
        exec(compile(source, f"{path}, cell {number}", "exec"), names)
