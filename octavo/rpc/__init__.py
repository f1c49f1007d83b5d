"""The gRPC server, channel and error model that every process shares."""

import os

# gRPC's C core writes lines of its own to stderr, for example for a busy port, which Octavo reports
# itself. Read when grpc is first imported; a user's own setting wins.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
