"""What runs on a machine with a GPU and without a network: `make gpu`, or `make gpu PART=engine`.

    make gpu-wheels                      here: the wheels that are missing there, into .wheels/
    make gpu [PART="tests engine"]       there: every part, or the named ones
    make gpu DEVICE=cpu PART=engine      anywhere: the same code without a GPU

A part is a module with one function, `run`, and a line in parts.py. Each runs in a process of its
own with a time limit; one that fails or hangs stops no other. After each, the results file and its
table are written anew: what was measured survives a cut.

parts.py        the table of parts
runner.py       runs them, one after the other; standard library only
report.py       the results file and its table
part_process.py one part: `python -m benchmarks.gpu.part_process`
gather_wheels.py  what `make gpu-wheels` does
"""
