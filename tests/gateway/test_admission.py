"""Places for requests and bytes, and their release."""

from __future__ import annotations

import asyncio

import pytest

from gateway.admission import Admission
from octavo.errors import InvalidArgumentError, ResourceExhaustedError, UnavailableError


async def test_requests_and_bytes_are_bounded() -> None:
    admission = Admission(max_requests=2, max_bytes=10)
    with admission.admit(6):
        with pytest.raises(ResourceExhaustedError) as raised, admission.admit(5):
            pass
        assert raised.value.metadata["value"] == "11"
        assert raised.value.metadata["limit"] == "10"
        assert raised.value.retry_delay_ms
        full = pytest.raises(ResourceExhaustedError, match="2 open requests")
        with admission.admit(4), full, admission.admit(0):
            pass
    assert admission.num_requests == 0
    with admission.admit(10):
        pass


@pytest.mark.parametrize(
    ("num_bytes", "num_outputs", "field", "limit"),
    [(11, 1, "chat", "at most 10 bytes"), (1, 3, "sampling.n", "at most 2, the gateway's limit")],
)
async def test_what_never_fits_is_wrong_whatever_else_is_open(
    num_bytes: int, num_outputs: int, field: str, limit: str
) -> None:
    admission = Admission(max_requests=2, max_bytes=10)
    for num_open in (0, 1):
        with admission.admit(1, num_outputs=1 + num_open):
            with pytest.raises(InvalidArgumentError) as raised:
                admission.admit(num_bytes, num_outputs=num_outputs, input_field="chat").__enter__()
            assert raised.value.metadata["field"] == field
            assert raised.value.metadata["limit"].startswith(limit)
            assert raised.value.retry_delay_ms is None
    assert admission.num_requests == 0


async def test_a_place_is_given_back_whatever_happens() -> None:
    admission = Admission(max_requests=1, max_bytes=10)
    with pytest.raises(ZeroDivisionError), admission.admit(1):
        raise ZeroDivisionError
    assert admission.num_requests == 0


async def test_a_drain_refuses_and_waits() -> None:
    admission = Admission(max_requests=2, max_bytes=10)
    with admission.admit(1):
        admission.drain()
        idle = asyncio.create_task(admission.wait_until_idle())
        await asyncio.sleep(0)
        assert not idle.done()
        with pytest.raises(UnavailableError) as raised:
            admission.admit(1).__enter__()
        assert raised.value.reason == "DRAINING"
    await idle
