"""`octavo synthesize`: checkpoints of random weights in any dialect, whole enough to be served.

shapes.py      the sizes that have a name
metadata.py    what a GGUF of that shape would say: prepare/ makes the JSON files from it
weights.py     the random tensors
checkpoint.py  the folder
"""
