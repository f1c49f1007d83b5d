"""Fuzzing of what reads model folders: broken, lying and hostile checkpoints.

    python -m tests.fuzzing --seconds 600

Starts from the valid checkpoints of tests/fixtures, one or more for each dialect, and unquantised
ones. Each execution takes a case of the corpus, changes what checkpoints are made of (config.json,
the index, headers, tensors, bytes, files), and gives it to all who read such folders: a rank loads
it, the front looks whether it can be served, `octavo inspect` describes it. What each of them may
do is read it, or raise an error of Octavo's that is one line. Anything else is a finding and is
written down: another exception, or more than five seconds. Cases that reach new code join the
corpus, with --keep.

seeds.py       the valid checkpoints
mutations.py   the changes
execution.py   one case, read by all
corpus.json    cases that reach all the code that was reached: a seed's name, and the numbers of the
               changes that were made to it
result.json  what the last long campaign came to
"""
