"""How a run is doing right now, stored beside what it writes: ``l2t status`` needs nothing but the URI."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import Field

from cluster import storage
from cluster.config import Config
from cluster.manifest import parse, to_json


class Live(Config):
    """A run as its driver last saw it. Tokens and calls are those that reached engines, in this attempt only."""

    started: str = Field(description="ISO 8601, UTC; of this attempt, not of the first")
    updated: str
    inputs_done: int = 0
    inputs_total: int = 0
    counts: dict[str, int] = Field(default_factory=dict, description="rows by terminal state, this attempt")
    calls: int = 0
    tokens_prompt: int = 0
    tokens_cached: int = 0
    tokens_completion: int = 0
    engine_running: int = Field(default=0, description="calls in work over all engines, at their last word")
    engine_slots: int = 0
    engine_deaths: int = 0
    quarantined: int = Field(default=0, description="rows that killed engines")
    gpus: float = 0
    accepted: tuple[str, ...] = Field(default=("accepted", "kept_original"), description="states that count")

    @property
    def seconds(self) -> float:
        """Wall time of the attempt."""
        return (datetime.fromisoformat(self.updated) - datetime.fromisoformat(self.started)).total_seconds()

    def gpu_hours(self) -> float:
        """GPU time held so far."""
        return self.gpus * self.seconds / 3600


def timestamp() -> str:
    """Now, with the precision that rates need."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_live(uri: str, live: Live) -> None:
    """Store the state beside a dataset."""
    storage.write_bytes(storage.join(uri, "live.json"), to_json(live))


def read_live(uri: str) -> Live | None:
    """What the driver last said, None where it never did."""
    place = storage.join(uri, "live.json")
    return parse(Live, storage.read_bytes(place), place) if storage.exists(place) else None
