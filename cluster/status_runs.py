"""Runs that are no data set, in words: a training run, a bootstrap loop, a folder that holds any of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from cluster import storage
from cluster.bootstrap.loop import decisions_of, following, loop_at
from cluster.errors import UserError
from cluster.live import Live, read_live
from cluster.log import run_id
from cluster.manifest import dataset_exists
from cluster.stages import STOPPED
from cluster.vitals import AGAIN, progress, state_of

SHOWN = 60
Describe = Callable[[str], str]


def config_of(uri: str) -> dict[str, Any]:
    """The resolved config of a training run or a bootstrap loop, {} where none was begun here."""
    place = storage.join(uri, "config.yaml")
    if not storage.exists(place):
        return {}
    try:
        found = yaml.safe_load(storage.read_bytes(place))
    except yaml.YAMLError as error:
        raise UserError(f"{place}: not YAML ({error}). Restore it.") from error
    return found if isinstance(found, dict) else {}


def training(uri: str, config: dict[str, Any]) -> str:
    """A training run: steps, loss, what it would resume from, its last sign of life."""
    live, line = read_live(uri), _last_line(uri)
    mode = f", {config['mode']}" if config.get("stage") == "finetune" else ""
    lines = [f"{uri}\nkind     training run ({config.get('stage')}{mode})", f"run      {run_id(uri)}"]
    lines.append(f"state    {_training_state(uri, live)}")
    if live:
        lines.append(f"steps    {progress(live)}")
    elif line:
        lines.append(f"steps    {line['step']:,}")
    if line:
        lines.append(f"loss     {_losses(line)}")
        speed = f"{line['tokens_per_s']:,.0f} tokens/s, " if line.get("tokens_per_s") else ""
        lines.append(
            f"speed    {speed}{line['samples_per_s']:g} samples/s on {line['workers']} workers, "
            f"{line['data_wait_share']:.0%} of the time waiting for data"
        )
        lines.append(f"rows     {line['used']:,} used, {line['rejected']:,} rejected")
    states = [f"{state['step']:,}" for state in (_json(uri, "state", "latest.json") or {}).get("states", [])]
    lines.append(f"states   after step {', '.join(states)}" if states else "states   none stored yet")
    if storage.exists(storage.join(uri, "run.html")):
        lines.append(f"page     {storage.join(uri, 'run.html')}")
    return "\n".join(lines)


def _training_state(uri: str, live: Live | None) -> str:
    if done := _json(uri, "done.json"):
        return f"finished in {done['seconds']:,.0f} s; the model is in {storage.join(uri, 'model')}"
    if storage.exists(place := storage.join(uri, STOPPED)):
        return f"failed: {storage.read_bytes(place).decode(errors='replace')}"
    return state_of(live) if live else f"begun, no worker has reported yet ({AGAIN} if none runs)"


def _losses(line: dict[str, Any]) -> str:
    parts = {
        name.removeprefix("loss_"): value
        for name, value in line.items()
        if name.startswith("loss_") and value is not None
    }
    shown = ", ".join(f"{name} {value:.4f}" for name, value in parts.items())
    total = f"{line['loss']:.4f}" if line["loss"] is not None else "none yet"
    return f"{total} at step {line['step']:,}" + (f" ({shown})" if shown else "")


def _last_line(uri: str) -> dict[str, Any] | None:
    place = storage.join(uri, "log.jsonl")
    lines = storage.read_bytes(place).splitlines() if storage.exists(place) else []
    return dict(json.loads(lines[-1])) if lines else None


def bootstrap(uri: str, describe: Describe) -> str:
    """A bootstrap loop: what became of each round, and what the present one is doing."""
    loop = loop_at(uri)
    decisions = list(decisions_of(loop))
    lines = [f"{uri}\nkind     bootstrap loop {loop.name!r}, {loop.rounds} rounds"]
    for decided in decisions:
        measured = f", gain {decided.gain.value:+.1f} % ± {decided.gain.se:.1f}" if decided.gain else ""
        lines.append(f"round {decided.round:<2} {decided.outcome}{measured}: {decided.reason}")
    state = following(loop, decisions)
    if state is None:
        return "\n".join([*lines, f"state    finished after {len(decisions)} rounds"])
    lines.append(f"state    round {state.number} is not decided yet ({AGAIN} if it does not run)")
    for place in (state.drafts, state.run):
        if known(place):
            lines += ["", describe(place)]
    return "\n".join(lines)


def known(uri: str) -> bool:
    """Whether something that has a status of its own was begun at ``uri``."""
    return (
        dataset_exists(uri) or storage.exists(storage.join(uri, "plan.json")) or is_run(config_of(uri)) != ""
    )


def is_run(config: dict[str, Any]) -> str:
    """``training`` or ``bootstrap`` by what a config says, "" where it is neither."""
    if "stage" in config and "output" in config:
        return "training"
    return "bootstrap" if {"rounds", "root", "name", "datagen", "train"} <= config.keys() else ""


def folder(uri: str, summary: Describe) -> str:
    """One line for each data set and run in a folder and in its folders; "" where there is none."""
    found = [f"  {_line(place, summary)}" for place, _ in zip(_within(uri), range(SHOWN), strict=False)]
    return "\n".join([f"{uri}\nkind     folder with", *found]) if found else ""


def _line(place: str, summary: Describe) -> str:
    try:
        return summary(place)
    except UserError as error:  # one that cannot be read hides none of the others
        return f"{place}  {error}"


def _within(uri: str) -> Iterator[str]:
    for child in _children(uri):
        if known(child):
            yield child
        else:
            yield from filter(known, _children(child))


def _children(uri: str) -> list[str]:
    """Folders right below; what lies in them is not listed."""
    from pyarrow.fs import FileSelector, FileType

    filesystem, path = storage.filesystem(uri)
    found = filesystem.get_file_info(FileSelector(path, allow_not_found=True))
    names = sorted(info.base_name for info in found if info.type == FileType.Directory)
    return [storage.join(uri, name) for name in names if not name.startswith(".")]


def _json(uri: str, *names: str) -> dict[str, Any] | None:
    place = storage.join(uri, *names)
    return dict(json.loads(storage.read_bytes(place))) if storage.exists(place) else None
