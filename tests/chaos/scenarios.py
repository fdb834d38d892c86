"""What is done to whom: scenarios as data.

A scenario names a stage, a store, what is killed (`Event`, at instants drawn from the seed) and what the store
does (`proxy.Fault`). `ALL` is the list that the report goes through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tests.chaos.proxy import Fault

What = Literal[
    "actor",  # one process that holds an engine, or a training worker
    "engine",  # the engine's own process
    "worker",  # any process that Ray started for the run
    "node",  # a whole machine
    "holder",  # the machine on which most of the run's actors, hence their results, live
    "driver",
    "head",  # and with it the cluster
    "zero",  # every worker node; new ones come a while later
    "preempt",  # a notice, then the machine goes
    "shrink",  # a machine less, and none comes for it
    "grow",  # a machine more
    "disk_full",  # a ballast takes the last bytes, and is gone a while later
    "elsewhere",  # the cluster is lost, and the run is continued on another of another size
]
Stage = Literal["datagen", "train"]
Storage = Literal["local", "small", "moto", "swift"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something happens ``times`` times, each at an instant of its own.

    Attributes:
        window: between which shares of the run's progress (shards committed, steps stored) the instants are drawn.
        upload: instead, the instant at which an object whose key matches is on its way to the store.
    """

    what: What
    times: int = 1
    window: tuple[float, float] = (0.1, 0.7)
    upload: str = ""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One story.

    Attributes:
        storage: ``small`` is a local file system of a few MB of its own.
        drivers: that run the same command at once.
        reruns: how often the command may be given again; where nothing but the driver's own death or a full disk
            may end a run, 0 says so.
        redone_at_most: share of the work that may be done again.
        quick: among the default tests.
    """

    name: str
    stage: Stage = "datagen"
    storage: Storage = "local"
    events: tuple[Event, ...] = ()
    faults: tuple[Fault, ...] = ()
    drivers: int = 1
    nodes: int = 2
    reruns: int = 0
    engine: Literal["http", "vllm"] = "http"
    shards: int = 16
    redone_at_most: float = 0.4
    quick: bool = False


def _kills(what: What, times: int = 1, **more: object) -> tuple[Event, ...]:
    return (Event(what=what, times=times, **more),)  # type: ignore[arg-type]


HICCUPS = (
    Fault(kind="error500", share=0.04),
    Fault(kind="slowdown", share=0.04),
    Fault(kind="reset", share=0.02),
    Fault(kind="lost_response", share=0.04),
    Fault(kind="cut_request", share=0.03),
    Fault(kind="cut_response", share=0.03),
    Fault(kind="slow", share=0.05, hold_s=0.5),
)
# The client gives up after 60 s (cluster.s3_store).
STALL = (Fault(kind="stall", share=0.02, times=2, hold_s=70),)
FULL = (Fault(kind="full", method="PUT", path="/data/", share=0.3, times=2),)

# Swift checks signatures, lengths and sums as a real store does; moto's conditional put is atomic, Swift's is not.
STORAGE: tuple[tuple[str, tuple[Storage, ...], tuple[Fault, ...], int, tuple[Event, ...]], ...] = (
    ("errors-500", ("swift",), (Fault(kind="error500", share=0.1),), 0, ()),
    ("throttled", ("swift",), (Fault(kind="slowdown", share=0.15),), 0, ()),
    (
        "cut",
        ("swift",),
        tuple(f for f in HICCUPS if f.kind in ("reset", "cut_request", "cut_response")),
        0,
        (),
    ),
    ("slow", ("swift",), (Fault(kind="slow", share=0.3, hold_s=1.0),), 0, ()),
    ("timed-out", ("swift",), STALL, 0, ()),
    ("answer-lost", ("moto", "swift"), (Fault(kind="lost_response", share=0.25),), 0, ()),
    ("store-full", ("swift",), FULL, 4, ()),
    ("hiccups-and-kills", ("moto", "swift"), HICCUPS, 1, (*_kills("actor"), *_kills("driver"))),
)

ALL: tuple[Scenario, ...] = (
    Scenario(name="calm"),
    Scenario(name="brief", storage="moto", faults=HICCUPS, events=_kills("actor"), shards=8, quick=True),
    Scenario(name="actor-killed", events=_kills("actor", 2)),
    Scenario(name="engine-killed", events=_kills("engine", 2)),
    Scenario(name="worker-killed", events=_kills("worker", 3)),
    Scenario(name="node-killed", events=_kills("node", 2), nodes=3),
    Scenario(name="node-with-objects-killed", events=_kills("holder"), nodes=3),
    Scenario(name="driver-killed", events=_kills("driver", 2), reruns=2),
    Scenario(name="head-killed", events=_kills("head"), reruns=1),
    Scenario(name="to-zero-and-up", events=_kills("zero")),
    Scenario(name="preempted", events=_kills("preempt")),
    Scenario(name="disk-full", storage="small", events=_kills("disk_full"), reruns=4),
    Scenario(
        name="everything-killed",
        events=(*_kills("actor", 2), *_kills("node"), *_kills("driver")),
        reruns=1,
        nodes=3,
    ),
    Scenario(name="engine-of-vllm", engine="vllm", events=(*_kills("engine"), *_kills("actor")), shards=6),
    *(
        Scenario(name=f"{name}-{store}", storage=store, faults=faults, reruns=reruns, events=events)
        for name, stores, faults, reruns, events in STORAGE
        for store in stores
    ),
    *(
        Scenario(
            name=f"two-drivers-{store}", storage=store, drivers=2, nodes=3, faults=faults, redone_at_most=1.0
        )
        for store, faults in (("local", ()), ("moto", HICCUPS), ("swift", HICCUPS))
    ),
    Scenario(name="train-calm", stage="train"),
    Scenario(name="train-worker-killed", stage="train", events=_kills("actor", 2)),
    Scenario(name="train-node-killed", stage="train", events=_kills("node"), nodes=2),
    Scenario(
        name="train-shrinks-and-grows",
        stage="train",
        events=(*_kills("shrink", window=(0.1, 0.3)), *_kills("grow", window=(0.4, 0.6))),
    ),
    Scenario(name="train-preempted", stage="train", events=_kills("preempt")),
    Scenario(name="train-driver-killed", stage="train", events=_kills("driver"), reruns=1),
    Scenario(name="train-head-killed", stage="train", events=_kills("head"), reruns=1),
    Scenario(name="train-calm-moto", stage="train", storage="moto"),
    Scenario(name="train-hiccups-moto", stage="train", storage="moto", faults=HICCUPS),
    Scenario(name="train-hiccups-swift", stage="train", storage="swift", faults=HICCUPS),
    Scenario(
        name="train-listing-stale-swift",
        stage="train",
        storage="swift",
        faults=(Fault(kind="stale_listing", hold_s=5),),
        events=_kills("driver"),
        reruns=1,
    ),
    *(
        Scenario(
            name=f"train-half-a-checkpoint-{store}",
            stage="train",
            storage=store,
            reruns=1,
            events=_kills("elsewhere", upload=r"/state/step-\d+-\w+/part"),
        )
        for store in ("moto", "swift")
    ),
)
BY_NAME = {scenario.name: scenario for scenario in ALL}
