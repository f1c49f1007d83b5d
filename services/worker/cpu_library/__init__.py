"""The compiled kernels as files: what they are built for, where they lie, and what runs on them.

No torch: the front plans memory by what its ranks will run. What the kernels do is in kernels/cpu.

instruction_sets.py   which of them this CPU has
compilation.py        compiles kernels/cpu/native
choice.py             whether a model is computed by them here
"""
