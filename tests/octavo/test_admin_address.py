"""octavo.admin_address: only this machine may reach the admin calls."""

from __future__ import annotations

import pytest

from octavo.admin_address import check_loopback


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.0.0.9:9000", "[::1]:1", "localhost:65535"])
def test_the_loopback_is_taken(address: str) -> None:
    assert check_loopback(address) == address


@pytest.mark.parametrize("address", ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "example.org:1"])
def test_what_others_can_reach_is_refused_with_the_reason(address: str) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:9000: whoever reaches"):
        check_loopback(address)


@pytest.mark.parametrize("address", ["9000", ":9000", "127.0.0.1", "[::1]:x", "localhost:65536"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        check_loopback(address)
