"""`octavo quantize`: a 16-bit checkpoint to FP8, tensor by tensor, in a dialect that others read.

source.py     the 16-bit folder: as it is, or made of a GGUF file
calibrate.py  how large the inputs of each matrix get on a text
scales.py     what the codes of each matrix are multiplied by
convert.py    reads, rounds and writes
"""
