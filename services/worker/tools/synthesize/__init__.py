"""Writes checkpoints of random weights in Friendli's FP8 dialect, whole enough to be served.

shapes.py    the sizes that have a name
metadata.py  what a GGUF of that shape would say: prepare/ makes the JSON files from it
weights.py   the random tensors
"""
