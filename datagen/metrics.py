"""The run in Prometheus' terms, through Ray's own exporter: ``l2t_rows``, ``l2t_calls``, ``l2t_tokens``,
``l2t_engine_running`` and ``l2t_engine_slots``, with the data set as a tag."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Metrics:
    """Counters and gauges of one worker."""

    def __init__(self, dataset: str) -> None:
        from ray.util.metrics import Counter, Gauge

        tags = ("dataset",)
        self._rows = Counter("l2t_rows", "rows by terminal state", ("dataset", "arm", "state"))
        self._calls = Counter("l2t_calls", "calls that reached an engine", tags)
        self._tokens = Counter("l2t_tokens", "tokens of engine calls", ("dataset", "kind"))
        self._running = Gauge("l2t_engine_running", "calls in work", tags)
        self._slots = Gauge("l2t_engine_slots", "calls that fit a batch", tags)
        self._dataset = {"dataset": dataset}

    def add(self, several: Iterable[Mapping[str, int]], running: int, slots: int) -> None:
        """Counts since the last time, keyed as the worker reports them (``state/<arm>/<state>``, ``tokens_<kind>``)."""
        for key, number in (item for counts in several for item in counts.items()):
            if number <= 0:
                continue
            if key == "calls":
                self._calls.inc(number, self._dataset)
            elif key.startswith("tokens_"):
                self._tokens.inc(number, {**self._dataset, "kind": key.removeprefix("tokens_")})
            elif key.startswith("state/"):
                _, arm, state = key.split("/", 2)
                self._rows.inc(number, {**self._dataset, "arm": arm, "state": state})
        self._running.set(running, self._dataset)
        self._slots.set(slots, self._dataset)
