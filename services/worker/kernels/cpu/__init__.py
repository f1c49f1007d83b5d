"""The backend for CPUs: C++ kernels that multiply from FP8 bytes, called through ctypes.

native/     the kernels, written once for all instruction sets
build.py    compiles them, for the instruction sets that this machine can run
library.py  loads the best of what was built (services/worker/cpu_library)
kernels.py  the operations of `Kernels` on top of it
"""
