"""Load for a running product, and what its clients saw of it.

workload.py    which requests: prompts and lengths from a seed
sample.py      what a client saw of one request
doors.py       the ways in: unary, stream and session over gRPC, events over HTTP
grpc_doors.py, http_door.py
load.py        when requests are sent: closed loop, and open loop with Poisson arrivals
summary.py     percentiles, tokens per second, goodput, errors by reason
"""
