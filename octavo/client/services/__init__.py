"""The gateway's own clients: of tokenizers and of worker groups, on connections that last.

connection.py, replicas.py          one server, and all that stand behind a name
worker.py                           requests on one Run stream; run_outbox.py, worker_wire.py
tokenizer.py, replicated_tokenizer.py   one tokenizer, and all of one kind as one; tokenizer_pool.py
decode_stream.py, durable_decoder.py    decoders on one stream, and one that outlives it
"""
