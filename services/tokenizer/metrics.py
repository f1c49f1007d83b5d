"""What a tokenizer process counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class TokenizerMetrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter(
            "octavo_tokenizer_calls", "Calls answered.", ["method"], registry=self.registry
        )
        self.decoded_ids = Counter(
            "octavo_tokenizer_decoded_ids", "Ids decoded on streams.", registry=self.registry
        )
        self.open_decoders = Gauge(
            "octavo_tokenizer_open_decoders", "Stream decoders open.", registry=self.registry
        )
