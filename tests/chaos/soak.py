"""Runs with faults on, one after the other for a long time, on one cluster: does anything grow?

Every round is a whole datagen run through the fault proxy with a kill in it, and its rows are compared with those of
an undisturbed run. Between rounds, when nothing is in work, what the cluster holds is counted: processes, their
memory and file descriptors, temporary files; during rounds the driver is measured. A line is fitted to each series.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from cluster import storage
from tests.bench.machine import machine
from tests.chaos.injector import EngineProcess, Injector, end
from tests.chaos.nodes import REPO, Nodes
from tests.chaos.proxy import FaultProxy
from tests.chaos.run import ENGINE_S, entered, new_bucket
from tests.chaos.scenarios import HICCUPS, Event
from tests.chaos.stage import Datagen, environment, undisturbed
from tests.cluster import s3_servers

SHARDS = 16
KILLS = (Event(what="actor"), Event(what="worker"), Event(what="node"))
# The first rounds fill pools and caches.
WARM_UP = 2
# What a series may rise over the whole soak, as a share of its mean, before it counts as growing.
TOLERANCE = 0.05


@dataclass
class Sample:
    """The cluster between two rounds, and the driver of the round before at its largest."""

    minutes: float
    processes: int
    memory_mb: float
    descriptors: int
    temporary_files: int
    temporary_mb: float
    driver_mb: float
    driver_descriptors: int


def soak(minutes: float, seed: int, out: Path) -> int:
    """Go on for so long; 0 when nothing grew and no row went missing."""
    out.mkdir(parents=True, exist_ok=True)
    engine = EngineProcess(out / "calls", ENGINE_S)
    samples: list[Sample] = []
    broken: list[str] = []
    faults = 0
    try:
        whole = Datagen(str(out / "undisturbed"), shards=SHARDS, base_url=engine.base_url)
        whole.prepare()
        undisturbed(whole, {})
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(s3_servers.moto())
            stack.enter_context(entered(server.environment))
            place = new_bucket(server.environment)
            proxy = FaultProxy(server.environment["AWS_ENDPOINT_URL"], seed=seed, half_bodies=False)
            stack.enter_context(proxy)
            temporary = out / "tmp"
            temporary.mkdir(exist_ok=True)
            proxied = {**server.environment, "AWS_ENDPOINT_URL": proxy.url, "TMPDIR": str(temporary)}
            nodes = Nodes(environment(proxied), 2, cpus=1)
            variables = environment(proxied)  # with what starting the cluster added for loopback
            stack.callback(nodes.close)
            pipeline = Datagen(place, shards=SHARDS, base_url=engine.base_url)
            pipeline.prepare()
            began, number = time.monotonic(), 0
            while time.monotonic() - began < 60 * minutes:
                pipeline.output = storage.join(place, f"instructions/round-{number}")
                proxy.faults = HICCUPS
                driver, injector = _round(
                    pipeline, nodes, engine, variables, seed + number, KILLS[number % 3], out
                )
                proxy.faults = ()
                faults += sum(injector.fired.values())
                engine.log.write_bytes(b"")
                books = pipeline.books(whole.output, Path("none"))
                broken += [f"round {number}: {b}" for b in books.broken]
                if books.lost or books.doubled or books.different:
                    broken.append(f"round {number}: {asdict(books)}")
                for uri in storage.list_prefix(pipeline.output):
                    storage.delete(uri)
                samples.append(_sample((time.monotonic() - began) / 60, nodes, temporary, driver))
                print(samples[-1], flush=True)
                number += 1
            faults += sum(proxy.seen.faults.values())
    finally:
        engine.kill()
    return _report(samples, broken, faults, out)


def _round(
    pipeline: Datagen,
    nodes: Nodes,
    engine: EngineProcess,
    variables: dict[str, str],
    seed: int,
    event: Event,
    out: Path,
) -> tuple[tuple[float, int], Injector]:
    """One run to its end; returns the most memory (MB) and descriptors that its driver had."""
    drivers: list[subprocess.Popen[bytes]] = []
    injector = Injector((event,), seed, nodes=nodes, drivers=lambda: drivers, engine=engine, small=None)
    with open(out / "driver.log", "wb") as log:
        process = subprocess.Popen(
            pipeline.command(),
            cwd=REPO,
            env={**variables, "RAY_ADDRESS": nodes.address},
            stdout=log,
            stderr=log,
        )
    drivers.append(process)
    memory, descriptors = 0.0, 0
    try:
        while process.poll() is None:
            time.sleep(0.3)
            injector.tick(pipeline.progress() / pipeline.total)
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                seen = psutil.Process(process.pid)
                memory = max(memory, seen.memory_info().rss / 1e6)
                descriptors = max(descriptors, seen.num_fds())
        if process.returncode:
            raise RuntimeError(f"a round fell: {(out / 'driver.log').read_text()[-1500:]}")
    finally:
        end(process)
    while injector.later:  # a replacement that is still to come
        time.sleep(0.3)
        injector.tick(0)
    return (memory, descriptors), injector


def _sample(minutes: float, nodes: Nodes, temporary: Path, driver: tuple[float, int]) -> Sample:
    time.sleep(8)  # Ray lets idle workers and the processes of a finished job go after a moment
    memory = descriptors = number = 0
    for pid in nodes.everything():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process = psutil.Process(pid)
            memory += process.memory_full_info().uss  # not counted twice where processes share pages
            # Ray's log monitor keeps the logs of workers open, dead ones' too, up to 200.
            descriptors += process.num_fds() if "log_monitor.py" not in " ".join(process.cmdline()) else 0
            number += 1
    files = [
        Path(folder) / name
        for root in (temporary, nodes.folder)
        for folder, _, names in os.walk(root)
        if "/logs" not in folder  # which Ray keeps on purpose, and rotates
        # A killed node leaves its sockets and ports in the session that local nodes share; a machine takes them along.
        if "/sockets" not in folder
        for name in names
        if "_port_" not in name
    ]
    size = sum(path.lstat().st_size for path in files if path.exists())
    return Sample(
        minutes=round(minutes, 2),
        processes=number,
        memory_mb=round(memory / 1e6, 1),
        descriptors=descriptors,
        temporary_files=len(files),
        temporary_mb=round(size / 1e6, 2),
        driver_mb=round(driver[0], 1),
        driver_descriptors=driver[1],
    )


def _report(samples: Sequence[Sample], broken: list[str], faults: int, out: Path) -> int:
    """Means and slopes; what rises by more than the tolerance, and surely, counts as growing."""
    kept = list(samples[WARM_UP:])
    lines = ["| series | mean | a minute | standard error | over the soak |", "|---|---|---|---|---|"]
    if len(kept) >= 4:
        for name in asdict(kept[0]):
            if name == "minutes":
                continue
            values = [float(getattr(s, name)) for s in kept]
            slope, error = fit([s.minutes for s in kept], values)
            rise = slope * (kept[-1].minutes - kept[0].minutes)
            mean = statistics.fmean(values)
            lines.append(
                f"| {name} | {mean:,.1f} | {slope:+.3f} | {error:.3f} | {rise / max(mean, 1):+.1%} |"
            )
            if rise > TOLERANCE * max(mean, 1) and slope > 2 * error:
                broken.append(f"{name} grows by {slope:.3f} a minute")
    else:
        lines.append(f"| too short: {len(samples)} rounds | | | | |")
        broken.append("too short to say whether anything grows")
    said = f"{len(samples)} rounds, {samples[-1].minutes if samples else 0:.0f} minutes, {faults} faults injected"
    text = "\n".join([f"On {machine('ray')}.", "", f"{said}.", "", *lines, "", *(f"- {b}" for b in broken)])
    (out / "soak.md").write_text(text + "\n")
    (out / "soak.json").write_text(
        json.dumps({"samples": [asdict(s) for s in samples], "faults": faults, "broken": broken}, indent=1)
    )
    print(text)
    return int(bool(broken))


def fit(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Slope of the least-squares line and its standard error."""
    slope, intercept = statistics.linear_regression(x, y)
    residuals = [b - (slope * a + intercept) for a, b in zip(x, y, strict=True)]
    spread = sum((a - statistics.fmean(x)) ** 2 for a in x)
    return slope, (sum(r * r for r in residuals) / (len(x) - 2) / spread) ** 0.5
