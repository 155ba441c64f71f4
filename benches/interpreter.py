"""Times the programs of programs.py under the TorchScript interpreter: python interpreter.py FIGURES.json

Writes the median of a call in microseconds by name, as `programs --peers FIGURES.json` reads it.
"""
import json
import statistics
import sys
import time

import torch

import programs

# As in programs.rs.
SIZES = {"tensor_loop": 1000, "string_build": 50_000, "string_numbers": 50_000, "string_join": 100_000}

torch.set_num_threads(1)
figures = {}
for name, function in vars(programs).items():
    if getattr(function, "__module__", "") != "programs":
        continue
    scripted, n = torch.jit.script(function), SIZES.get(name, 1_000_000)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        scripted(n)
        times.append((time.perf_counter() - start) * 1e6)
    figures[name] = statistics.median(times)
with open(sys.argv[1], "w") as file:
    json.dump(figures, file, indent=1)
