"""What the group is, as GetWorker says it."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.v1 import worker_pb2
from services.worker.front.group import Group
from services.worker.front.submit_check import ACCEPTED_FIELDS, MAX_TOP_LOGPROBS
from services.worker.link.messages import Ready


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """What the front knows before any rank has loaded."""

    model_name: str
    checkpoint_fingerprint: str
    tokenizer_fingerprint: str
    max_step_tokens: int
    max_running: int
    max_waiting: int
    max_waiting_prompt_tokens: int


def describe_worker(group: Group, served: Served) -> worker_pb2.GetWorkerResponse:
    """All that is known; what only a loaded rank knows is absent until one has loaded."""
    response = worker_pb2.GetWorkerResponse(
        worker_id=group.worker_id,
        instance_id=group.instance_id,
        ranks=group.num_ranks,
        model=served.model_name,
        checkpoint_fingerprint=served.checkpoint_fingerprint,
        tokenizer_fingerprint=served.tokenizer_fingerprint,
        capacity=worker_pb2.Capacity(
            max_step_tokens=served.max_step_tokens,
            max_running=served.max_running,
            max_waiting=served.max_waiting,
            max_waiting_prompt_tokens=served.max_waiting_prompt_tokens,
        ),
        capabilities=worker_pb2.WorkerCapabilities(
            fields=ACCEPTED_FIELDS,
            max_outputs=group.max_outputs,
            max_top_logprobs=MAX_TOP_LOGPROBS,
        ),
    )
    if group.ready is not None:
        _add_loaded(response, group.ready)
    return response


def _add_loaded(response: worker_pb2.GetWorkerResponse, ready: Ready) -> None:
    response.max_context_tokens = ready.max_context_tokens
    response.vocabulary_size = ready.vocabulary_size
    response.eos_token_ids.extend(ready.eos_token_ids)
    response.defaults.MergeFrom(
        worker_pb2.WorkerDefaults(
            temperature=ready.temperature, top_p=ready.top_p, top_k=ready.top_k
        )
    )
    response.numerics_fingerprint = ready.numerics_fingerprint
    response.dtype = ready.dtype
    response.capacity.kv_blocks = ready.kv_blocks
    response.capacity.kv_block_tokens = ready.kv_block_tokens
