"""Benchmarks: dlcore and, where installed, other libraries, side by side in one run.

`cases` lists what is measured and what it should reach, `adapters` says how each library does it,
`worker` is the process a library runs in, `runner` interleaves the samples, `report` writes the
table, the JSON file and the picture.
"""
