"""The table that a serving benchmark prints, a line as soon as it is known."""

from __future__ import annotations

from typing import Any

_ROLES = ("client", "gateway", "tokenizer", "front", "rank")
_COLUMNS = "{:<8} {:>9} {:>8} {:>6} {:>20} {:>18} {:>5} {:>28} {:>7} {:>6}  {}"


def header() -> str:
    """Two lines: what the columns are."""
    return (
        _COLUMNS.format(
            *("door", "load", "tokens/s", "ratio", "first token ms", "inter-token ms", "good"),
            *("cores: cl/gw/tok/front/rank", "others", "quiet", "errors"),
        )
        + "\n"
        + _COLUMNS.format("", "", "", "", "p50/p90/p99", "p50/p90/p99", *[""] * 5)
    )


def line(figure: dict[str, Any]) -> str:
    """One load through one door."""
    return _COLUMNS.format(
        figure["door"],
        figure["load"],
        figure["tokens_per_s"],
        _ratio(figure["delivered_to_engine"]),
        _percentiles(figure["first_token_ms"]),
        _percentiles(figure["inter_token_ms"]),
        _ratio(figure["good_share"]),
        _cores(figure),
        f"{figure['others_share']:.2f}",
        f"{figure['quiet_rounds']}/{figure['rounds']}",
        _errors(figure),
    )


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percentiles(values: dict[str, float] | None) -> str:
    return "-" if values is None else "/".join(f"{value:.0f}" for value in values.values())


def _cores(figure: dict[str, Any]) -> str:
    """CPU seconds a second of each role."""
    cpu_s, seconds = figure["cpu_s"], figure["seconds"]
    return "/".join(f"{cpu_s[role] / seconds:.2f}" if role in cpu_s else "-" for role in _ROLES)


def _errors(figure: dict[str, Any]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in figure["errors"].items()) or "none"
