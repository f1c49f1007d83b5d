"""`octavo inspect`: what a checkpoint is and what it needs, by its JSON files and headers alone.

No tensor is read and torch is not imported, so that it takes a moment for any size.

dialect.py     what the weights are stored as
inspected.py   everything that is said of a checkpoint
warnings.py    what is odd about it
devices.py     the memory of devices, and of this machine
report.py      the same for a person
printable.py   what files say, in a line
"""
