"""One scenario with one seed, from an empty store to a verdict."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cluster.datasets import dataset_exists
from cluster.errors import UserError
from cluster.manifest import code_version
from tests.chaos.injector import EngineProcess, Injector, end
from tests.chaos.nodes import REPO, Nodes
from tests.chaos.proxy import FaultProxy
from tests.chaos.scenarios import Scenario
from tests.chaos.stage import TIMEOUT_S, Books, Datagen, Train, environment, undisturbed
from tests.cluster import s3_servers

TICK_S, PROGRESS_EVERY_S = 0.05, 0.2
ENGINE_S = 0.15
# Falls that no scenario allows are healed all the same, to see what is lost by them; not for ever.
MOST_RERUNS = 5
BUCKET = "chaos"


@dataclass
class Result:
    """What happened, and whether everything held. ``falls`` are ends of commands that nobody killed."""

    scenario: str
    seed: int
    stage: str
    storage: str
    injected: dict[str, int] = field(default_factory=dict)
    not_fired: int = 0
    processes_killed: int = 0
    requests: int = 0
    reruns: int = 0
    falls: list[str] = field(default_factory=list)
    seconds: float = 0.0
    reader: dict[str, Any] = field(default_factory=dict)
    books: Books = field(default_factory=Books)
    broken: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.broken


def run(scenario: Scenario, seed: int, out: Path) -> Result:
    """Run it below ``out``; logs of the commands and the verdict stay there.

    Raises:
        s3_servers.Unavailable: the store of this scenario cannot be had on this machine.
    """
    folder = out / f"{scenario.name}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    result = Result(scenario.name, seed, scenario.stage, scenario.storage)
    engine = None
    if scenario.stage == "datagen" and scenario.engine == "http":
        engine = EngineProcess(folder / "calls", ENGINE_S)
    try:
        with _store(scenario, folder) as (place, variables):
            pipeline = _pipeline(scenario, place, folder, engine)
            whole = _undisturbed(scenario, out, engine)
            with entered(variables):
                pipeline.prepare()
            if engine is not None:
                engine.log.write_bytes(b"")
            _disturbed(scenario, seed, folder, pipeline, engine, place, variables, result)
            with entered(variables):
                _judge(scenario, pipeline, whole, folder, result)
    finally:
        if engine is not None:
            engine.kill()
    (folder / "result.json").write_text(json.dumps(asdict(result), indent=1))
    return result


@contextlib.contextmanager
def _store(scenario: Scenario, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A place to work below, and the variables that lead to it."""
    match scenario.storage:
        case "local":
            yield str(folder / "store"), {}
        case "small":
            place = folder / "small"
            place.mkdir()
            mounted = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True
            )
            if mounted.returncode:
                raise s3_servers.Unavailable("a small file system needs the right to mount one")
            try:
                yield str(place / "store"), {}
            finally:
                subprocess.run(["umount", "-l", str(place)], check=True)
        case "moto":
            with s3_servers.moto() as server:
                yield new_bucket(server.environment), server.environment
        case "swift":
            with s3_servers.swift(folder / "swift") as server:
                yield new_bucket(server.environment), server.environment


def new_bucket(variables: Mapping[str, str]) -> str:
    """A bucket on an empty server, and a prefix in it."""
    import boto3

    with entered(variables):
        boto3.client("s3", endpoint_url=variables["AWS_ENDPOINT_URL"]).create_bucket(Bucket=BUCKET)
    return f"s3://{BUCKET}/run"


def _pipeline(scenario: Scenario, place: str, folder: Path, engine: EngineProcess | None) -> Datagen | Train:
    if scenario.stage == "train":
        return Train(place, folder, workers=[1, 2])
    base_url = engine.base_url if engine else ""
    return Datagen(
        place, shards=scenario.shards, base_url=base_url, model=_model(scenario), actors=scenario.nodes
    )


def _model(scenario: Scenario) -> str:
    return "starter" if scenario.engine == "vllm" else ""


def _undisturbed(scenario: Scenario, out: Path, engine: EngineProcess | None) -> str:
    """Output of the run that nobody disturbs, on local files; made once for all scenarios of its kind and every
    version of the code."""
    home = out / "undisturbed" / code_version() / f"{scenario.stage}-{scenario.shards}-{scenario.engine}"
    pipeline: Datagen | Train
    if scenario.stage == "train":
        home.mkdir(parents=True, exist_ok=True)
        pipeline = Train(str(home), home, workers=0)
    else:
        pipeline = _pipeline(scenario, str(home), home, engine)  # type: ignore[assignment]
    if not (home / "complete").exists():
        pipeline.prepare()
        undisturbed(pipeline, {})
        (home / "complete").touch()
    return pipeline.output


def _disturbed(
    scenario: Scenario,
    seed: int,
    folder: Path,
    pipeline: Datagen | Train,
    engine: EngineProcess | None,
    place: str,
    variables: Mapping[str, str],
    result: Result,
) -> None:
    """The run with everything in its way, started again as often as a person would."""
    drivers: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(entered(variables))
        (folder / "tmp").mkdir()
        own = {"L2T_CACHE": str(folder / "cache"), "TMPDIR": str(folder / "tmp")}
        proxied, proxy = {**variables, **own}, None
        if variables:
            half = scenario.storage != "moto"  # which stores half a body with 200
            proxy = FaultProxy(
                variables["AWS_ENDPOINT_URL"], (), seed=_mixed(scenario, seed), half_bodies=half
            )
            stack.enter_context(proxy)
            proxied["AWS_ENDPOINT_URL"] = proxy.url
        nodes = Nodes(environment(proxied), scenario.nodes, cpus=scenario.drivers)
        stack.callback(nodes.close)
        injector = Injector(
            scenario.events,
            _mixed(scenario, seed),
            nodes=nodes,
            drivers=lambda: drivers,
            engine=engine,
            small=folder / "small" if scenario.storage == "small" else None,
        )
        if proxy is not None:
            proxy.watch = injector.watch
            proxy.faults = scenario.faults
            proxy.restart_clock()
        reader = _reader(pipeline.output, scenario.stage, variables)
        stack.callback(end, reader)

        def start() -> subprocess.Popen[bytes]:
            number = len(list(folder.glob("driver-*.log")))
            variables_now = {**environment(proxied), "RAY_ADDRESS": nodes.address}
            with open(folder / f"driver-{number}.log", "wb") as log:
                return subprocess.Popen(
                    pipeline.command(),
                    cwd=REPO,
                    env=variables_now,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

        began = time.monotonic()
        drivers += [start() for _ in range(scenario.drivers)]
        stack.callback(lambda: [end(process) for process in drivers])
        progress, looked, fell = 0.0, 0.0, 0
        finished = 0
        while finished < scenario.drivers:
            time.sleep(TICK_S)
            if time.monotonic() - began > TIMEOUT_S:
                result.broken.append(f"not done after {TIMEOUT_S} s")
                break
            if time.monotonic() - looked > PROGRESS_EVERY_S:
                progress, looked = pipeline.progress() / pipeline.total, time.monotonic()
            injector.tick(progress)
            for process in [p for p in drivers if p.poll() is not None]:
                drivers.remove(process)
                if process.returncode == 0:
                    finished += 1
                    continue
                killed = injector.drivers_killed > result.reruns - fell
                if not killed:
                    fell += 1
                    result.falls.append(_last_words(folder, process.returncode))
                    time.sleep(3)  # as long as a person needs
                if result.reruns >= MOST_RERUNS:
                    result.broken.append(f"given up after {MOST_RERUNS} reruns")
                    finished = scenario.drivers
                    break
                result.reruns += 1
                drivers.append(start())
        result.seconds = round(time.monotonic() - began, 1)
        result.injected = dict(injector.fired)
        result.not_fired = len(injector.waiting)
        result.processes_killed = injector.processes_killed
        if proxy is not None:
            result.injected |= proxy.seen.faults
            result.requests = sum(proxy.seen.requests.values())
        said, _ = reader.communicate(b"", timeout=120)
        result.reader = json.loads(said) if said else {"wrong": ["the reader died"]}


def _judge(scenario: Scenario, pipeline: Datagen | Train, whole: str, folder: Path, result: Result) -> None:
    """Read what came of it, and say what does not hold."""
    if scenario.stage == "datagen" and not dataset_exists(pipeline.output):
        result.broken.append("nothing was published")
    else:
        try:
            result.books = pipeline.books(whole, folder / "calls")
        except (UserError, ValueError, KeyError, OSError) as error:
            result.broken.append(f"the result cannot be read: {type(error).__name__}: {error}")
    result.broken += verdict(scenario, result)


def verdict(scenario: Scenario, result: Result) -> list[str]:
    """What of all that must hold, whatever was done, does not; and something must have been done."""
    broken, books = [], result.books
    if result.not_fired:
        broken.append(f"{result.not_fired} of the story's events never happened")
    if scenario.faults and not {fault.kind for fault in scenario.faults} & result.injected.keys():
        broken.append("no fault of the storage was injected")
    if len(result.falls) > scenario.reruns or (
        result.falls and not (scenario.reruns and _may_fall(scenario))
    ):
        broken.append(
            f"the command fell {len(result.falls)} times without having been killed: {result.falls[0]}"
        )
    if any("Traceback" in words for words in result.falls):
        broken.append("a command ended in a traceback instead of a sentence")
    broken += [f"a reader saw: {sight}" for sight in result.reader["wrong"]]
    if result.reader.get("versions", 0) > 1:
        broken.append(f"readers saw {result.reader['versions']} different data sets")
    broken += books.broken
    if books.redone > scenario.redone_at_most:
        broken.append(f"{books.redone:.0%} of the work redone, at most {scenario.redone_at_most:.0%} may be")
    for name in ("lost", "doubled", "different"):
        if number := getattr(books, name):
            broken.append(f"{number} rows {name}")
    return broken


def _may_fall(scenario: Scenario) -> bool:
    """Whether a full store may end a command, in one sentence."""
    return any(e.what == "disk_full" for e in scenario.events) or any(
        f.kind == "full" for f in scenario.faults
    )


def _last_words(folder: Path, code: int) -> str:
    """Exit code and the end of what the command that ended last said."""
    newest = max(folder.glob("driver-*.log"), key=lambda path: path.stat().st_mtime)
    text = newest.read_text(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    return f"exit {code}: {'Traceback … ' if 'Traceback' in text else ''}{' | '.join(lines[-2:])[-600:]}"


def _reader(uri: str, stage: str, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.chaos.reader", uri, stage]
    return subprocess.Popen(
        command, cwd=REPO, env=environment(variables), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def _mixed(scenario: Scenario, seed: int) -> int:
    """A seed of its own for every scenario."""
    return int.from_bytes(hashlib.sha256(f"{scenario.name} {seed}".encode()).digest()[:4], "big")


@contextlib.contextmanager
def entered(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables of the environment for the body of a ``with``."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
