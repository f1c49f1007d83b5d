"""Fuzzing of services/worker/checkpoint: broken, lying and hostile checkpoints.

    python -m tests.fuzzing --seconds 600

Starts from the valid checkpoints of tests/fixtures, one or more for each dialect, and unquantised
ones. Each execution takes a case of the corpus, changes what checkpoints are made of (config.json,
the index, headers, tensors, bytes, files), and loads it as a rank does. What is allowed is a load,
or an error of Octavo's that is one line. Anything else is a finding and is written down: another
exception, or more than five seconds. Cases that reach new code join the corpus, with --keep.

seeds.py       the valid checkpoints
mutations.py   the changes
execution.py   one load
corpus.json    cases that reach all the code that was reached: a seed's name, and the numbers of the
               changes that were made to it
result.json  what the last long campaign came to
"""
