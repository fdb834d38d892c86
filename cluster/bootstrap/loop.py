"""The loop: a state machine over what is published.

A round that has a decision is over and never touched again; in any other, every stage passes over what it has finished
before and goes on with the rest. So there is no state of the loop's own that a kill could leave wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml
from pydantic import ValidationError

from cluster import storage
from cluster.bootstrap.config import OPERATIONAL, BootstrapConfig
from cluster.bootstrap.decision import (
    Decision,
    Gain,
    Indicator,
    Outcome,
    crossings,
    gain_of,
    promotion,
    text_indicators,
    vc_indicator,
)
from cluster.bootstrap.round import Round, Stage, rows_of
from cluster.errors import UserError
from cluster.manifest import first_reason, parse, to_json
from cluster.stages import STOPPED, run_stage
from cluster.storage import join

Say = Callable[[str], None]


def run_rounds(config: BootstrapConfig, say: Say = print) -> list[Decision]:
    """Run what is left of the loop; all decisions, the earlier ones too.

    Raises:
        UserError: bad input, another loop under this name, or a stage that failed (its own message stands above).
    """
    begin(config)
    decisions: list[Decision] = []
    while (state := following(config, decisions)) is not None:
        decided = read_decision(config, state.number)
        if decided is None:
            decided = run_round(state, say)
            _record(config, decided)
        decisions.append(decided)
        say(f"round {decided.round}: {decided.outcome}: {decided.reason}")
    return decisions


def following(config: BootstrapConfig, decisions: Sequence[Decision]) -> Round | None:
    """The round after these; None where the loop is over."""
    if len(decisions) >= config.rounds or (decisions and decisions[-1].ends):
        return None
    promoted = tuple(d.round for d in decisions if d.outcome == "promoted")
    if len(decisions) - (promoted[-1] if promoted else 0) > config.promotion.patience:
        return None
    incumbent = promoted[-1] if promoted else 0
    return Round(config=config, number=len(decisions) + 1, incumbent=incumbent, promoted=promoted)


def run_round(state: Round, say: Say = print) -> Decision:
    """Every stage of a round, and what becomes of it.

    Raises:
        UserError: a stage failed for a reason that somebody can put right; the round goes on when run again.
    """
    config, indicators = state.config, list[Indicator]()
    try:
        for stage in state.writing():
            _run(state, stage, say)
    except UserError:
        if reason := _stopped(state.drafts):
            return _decided(state, "nothing_written", reason)
        raise
    if config.datagen is not None:
        if not rows_of(state.pairs):
            return _decided(state, "nothing_written", _NOTHING.format(uri=state.drafts))
        _run(state, state.observing(), say)
        found = json.loads(storage.read_bytes(state.diversity))
        indicators += text_indicators(found, config.collapse)
        # Before the training: what it would learn from is already known to be poor.
        if reason := crossings(indicators):
            return _decided(state, "collapsed", reason, indicators)
    try:
        _run(state, state.training(), say)
    except UserError:
        if reason := _stopped(state.run):
            return _decided(state, "diverged", reason, indicators)
        raise
    measuring = state.measuring()
    if measuring is None:
        return _decided(state, "promoted", "no validation set is given, so it was not judged", indicators)
    _run(state, measuring, say)
    summary, candidate = state.summary(), f"round{state.number}"
    indicators += vc_indicator(summary, candidate, config.collapse)
    gain = gain_of(summary, candidate, config.promotion)
    outcome, reason = promotion(gain, config.promotion)
    if crossed := crossings(indicators):
        outcome, reason = "collapsed", crossed
    return _decided(state, outcome, reason, indicators, gain, _values(summary))


_NOTHING = (
    "none of the written pairs is left to learn from; l2t view {uri} shows where they went. A model that was trained "
    "longer with mode l2t writes better ones."
)


def _values(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Value and error of every task and model."""
    return {
        task["task"]: {name: {"value": e["value"], "se": e["se"]} for name, e in task["models"].items()}
        for task in summary["tasks"]
    }


def _decided(
    state: Round,
    outcome: Outcome,
    reason: str,
    indicators: Sequence[Indicator] = (),
    gain: Gain | None = None,
    results: Mapping[str, Any] | None = None,
) -> Decision:
    return Decision(
        round=state.number,
        incumbent=state.incumbent,
        outcome=outcome,
        reason=reason,
        mixture=state.mixture(),
        gain=gain,
        indicators=tuple(indicators),
        results=dict(results or {}),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _run(state: Round, stage: Stage, say: Say) -> None:
    """A stage here, or as a job of the cluster with the same arguments."""
    say(f"[round {state.number}] {stage.name}")
    if state.config.address is None:
        run_stage(stage.module, stage.arguments)
        return
    word = stage.arguments[0] if stage.module == "cluster" else stage.module
    rest = stage.arguments[1:] if stage.module == "cluster" else stage.arguments
    run_stage("cluster", ["submit", f"--address={state.config.address}", word, *rest])


def _stopped(uri: str) -> str:
    """Why a stage stopped of its own accord, where it did."""
    place = join(uri, STOPPED)
    return storage.read_bytes(place).decode() if storage.exists(place) else ""


def begin(config: BootstrapConfig) -> None:
    """Store the loop's config, or find that this very loop was begun. Until a round is decided its settings may be put
    right; what its stages have begun, they guard themselves.

    Raises:
        UserError: a loop with other settings has a finished round under this name.
    """
    place = join(config.home, "config.yaml")
    if storage.exists(place) and read_decision(config, 1) is not None:
        before = _stored(place)
        mine, theirs = (c.model_dump(mode="json", exclude=OPERATIONAL) for c in (config, before))  # type: ignore[arg-type]
        if differ := [key for key in mine if mine[key] != theirs[key]]:
            raise UserError(
                f"{place}: another loop has run under this name; it differs in {', '.join(differ)}. Give this one a "
                "name of its own (name=...)."
            )
    storage.write_bytes(place, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode())


def loop_at(home: str) -> BootstrapConfig:
    """The loop that keeps its records at ``home``, ``<root>/bootstrap/<name>``; root and name are those of this URI, as
    the folder may have been copied, or the root given relative to another one.

    Raises:
        UserError: there is none, or its settings cannot be read.
    """
    place = join(home, "config.yaml")
    if not storage.exists(place):
        raise UserError(
            f"{home} holds no loop: there is no {place}; l2t bootstrap makes it, as <root>/bootstrap/<name>"
        )
    root, between, name = storage.absolute(home).rpartition("/bootstrap/")
    if not between or "/" in name or root.endswith("/"):  # s3://bootstrap/name is a bucket of that name
        raise UserError(
            f"{home}: a loop is read from <root>/bootstrap/<name>, beside what it made; copy all of it"
        )
    return _stored(place).model_copy(update={"root": root, "name": name})


def _stored(place: str) -> BootstrapConfig:
    try:
        return BootstrapConfig.model_validate(yaml.safe_load(storage.read_bytes(place)))
    except (ValidationError, yaml.YAMLError) as error:
        reason = first_reason(error) if isinstance(error, ValidationError) else error
        raise UserError(f"{place}: not the config of a bootstrap loop ({reason}). Restore it.") from error


def read_decision(config: BootstrapConfig, number: int) -> Decision | None:
    """The decision about a round, None where there is none yet."""
    place = _place(config, number)
    return parse(Decision, storage.read_bytes(place), place) if storage.exists(place) else None


def decisions_of(config: BootstrapConfig) -> Iterator[Decision]:
    """Those that were made, from the first round on."""
    number = 1
    while (found := read_decision(config, number)) is not None:
        yield found
        number += 1


def _record(config: BootstrapConfig, decision: Decision) -> None:
    storage.put_if_absent(_place(config, decision.round), to_json(decision))


def _place(config: BootstrapConfig, number: int) -> str:
    return join(config.home, f"round-{number}.json")
