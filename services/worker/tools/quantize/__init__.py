"""`octavo quantize`: a checkpoint in 16 or 32 bits to FP8, matrix by matrix.

Twice over the source: first what decides the scales (the largest weights, and the largest inputs
over a text), then the codes. At most one matrix is in memory at once, beside the embeddings and the
states of the calibration text; a GGUF file is converted to such a folder first.

scheme.py     what can be asked for
source.py     the folder to read, and which of its matrices become FP8
gguf_source.py   a GGUF file, as a folder
streamed.py   the model, its matrices left in their files
calibrate.py  the text, through the model, to the largest inputs
pieces.py     a stored tensor, some rows at a time
scales.py     from the largest values to scales as they are stored
write.py      the tensors of the new folder
folder.py     its other files, and how it takes its place
quantized.py  all of it
"""
