"""Clients: `octavo.Client` and `octavo.AsyncClient` of a server; in services/ the gateway's own.

client.py, stream.py, session.py    for threads; the same with async_ for asyncio
calls.py, generation_request.py     what is sent
generation_types.py, model_types.py what comes back; generation_wire.py, gathering.py make it
session_requests.py                 many generations on one stream
retries.py, timeouts.py, failure.py when a call is made again, ends, fails
addresses.py, defaults.py           where a server is
"""

import octavo.rpc  # noqa: F401 - quiets gRPC's C core, which must come before gRPC is imported
