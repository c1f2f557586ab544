"""Speed and memory on one device, beside segment-anything in PyTorch: `python -m benchmarks --device gpu all`.

`rows.py` lists what is measured. Each row runs in a process of its own (`child.py`); several compile at once, and are
then measured one after the other (`suite.py`). `--device cpu --preset tiny --size 64` runs the same rows small.
"""
