"""Channels to a server: for asyncio, and for threads."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

MAX_MESSAGE_BYTES = 32 * 1024 * 1024

# How long a ping may stay unanswered: between the services, on a network of their own; and between
# a server and its clients, whose networks lose packets and change.
INTERNAL_PING_TIMEOUT_S = 2.0
PUBLIC_PING_TIMEOUT_S = 10.0

_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # What one attempt to connect may take: a busy peer needs more than the first pause.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


def keepalive_options(ping_timeout_s: float) -> Sequence[tuple[str, int]]:
    """A ping each second. A stopped peer still acknowledges TCP; only a ping that stays unanswered
    for ping_timeout_ms tells (keepalive_timeout_ms does not; measured: 2.1 s against 60 s).
    """
    return (
        ("grpc.keepalive_time_ms", 1_000),
        ("grpc.http2.ping_timeout_ms", int(1_000 * ping_timeout_s)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )


def open_channel(
    address: str, *, ping_timeout_s: float = INTERNAL_PING_TIMEOUT_S
) -> grpc.aio.Channel:
    """A channel to host:port that notices a dead or stopped peer within about 3 s."""
    options = (*_OPTIONS, *keepalive_options(ping_timeout_s))
    return grpc.aio.insecure_channel(address, options=options)


def open_public_channel(address: str) -> grpc.aio.Channel:
    """A channel to a gateway, over whatever lies between."""
    return open_channel(address, ping_timeout_s=PUBLIC_PING_TIMEOUT_S)


def open_blocking_channel(address: str) -> grpc.Channel:
    """The same for threads: a call blocks the one that makes it."""
    options = (*_OPTIONS, *keepalive_options(PUBLIC_PING_TIMEOUT_S))
    channel = grpc.insecure_channel(address, options=options)
    _blocking_channels.add(channel)
    return channel


_blocking_channels: weakref.WeakSet[grpc.Channel] = weakref.WeakSet()


@atexit.register
def _close_blocking_channels() -> None:
    """Before Python stops the threads of calls that are open: one that stops while it holds a
    call's lock would hold up the end of the process for good.
    """
    for channel in list(_blocking_channels):
        channel.close()
