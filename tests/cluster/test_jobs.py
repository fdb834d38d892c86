"""`l2t submit` and plain `ray job submit` on a live head with token authentication."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cluster import cli, jobchecks, jobs, storage
from cluster.datasets import commit_shard, freeze, iter_tables, pending_shards, plan_dataset
from cluster.errors import UserError
from cluster.jobattempts import submission_id
from datagen.corpus import to_table
from tests.cluster.heads import REPO, Head, head
from tests.datagen.conftest import row
from tests.datagen.http_engine import PoisonedEngine, settings
from tests.local_http import answering

SECRET = "wJalrXUtnFEMIKbPxRfiCYEXAMPLEKEY"


# --- what travels ---


def test_the_package_is_small_and_holds_only_the_code() -> None:
    found = jobchecks.contents(REPO)
    weights = sum(size for name, size in found.items() if name.endswith(".safetensors"))
    assert sum(found.values()) - weights < 4e6
    assert weights < 12e6, "the starter's two models are all the weights that travel"
    assert {name.split("/")[0] for name in found if "/" in name} == {"cluster", "datagen", "train", "eval"}
    assert {"cluster/jobs.py", "cluster/dashboards/l2t.json", "pyproject.toml"} <= found.keys()
    assert not [name for name in found if "__pycache__" in name]


def test_what_else_lies_in_the_folder_stays_here(tmp_path: Path) -> None:
    (tmp_path / ".rayignore").write_text((REPO / ".rayignore").read_text())
    stay = (
        ".venv/lib/x.py", "venv/x.py", "runs/demo/a.parquet", "tests/test_x.py", "downloads/coco.json", "big.tar",
        ".git/config", ".env", "cluster/.env.local", "cluster/id.pem", "cluster/__pycache__/x.pyc", "notes/x.yaml",
        "credentials.json", ".aws/credentials",
    )  # fmt: skip
    go = (
        "cluster/cli.py",
        "datagen/presets/deep/x.yaml",
        "mine.yaml",
        "configs/other.yaml",
        "pyproject.toml",
    )
    for name in (*stay, *go):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert jobchecks.contents(tmp_path).keys() == set(go)


def test_a_large_folder_is_refused_with_its_largest_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "cli.py").write_text("x")
    with open(tmp_path / "big.bin", "wb") as file:
        file.truncate(jobchecks.LIMIT_BYTES + 1)
    with pytest.raises(UserError, match=r"takes 100 MiB(.|\n)*104\.9 MB  big\.bin"):
        jobchecks.working_dir(str(tmp_path))
    with pytest.raises(UserError, match="does not hold the code"):
        jobchecks.working_dir(str(tmp_path / "cluster"))
    assert jobchecks.working_dir("none") is None
    assert jobchecks.working_dir("s3://bucket/code.zip") == "s3://bucket/code.zip"
    with pytest.raises(UserError, match="holds a password") as told:
        jobchecks.working_dir("https://me:pa55word@host/code.zip")
    assert "pa55word" not in str(told.value)


REMOTE, LOCAL = "http://head.example:8265", "http://127.0.0.1:8265"


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "corpus=runs/x"],
        ["demo", "output=x"],
        ["demo", "data=[{corpus: s3://b/c, instructions: runs/y}]"],
        ["run", "starter", "models.l2t=./m"],
        ["starter", "--out", "runs/world"],
        ["run", "--report=page.html"],
        ["tests/cluster"],
        ["demo", "templates.list=README.md"],
        ["~/mine.yaml"],
    ],
)
def test_a_relative_path_is_refused_with_a_way_out(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPO)
    with pytest.raises(UserError, match=r"s3://"):
        jobchecks.check_arguments(arguments, REMOTE, str(REPO))
    with pytest.raises(UserError, match=r"write it in full: /|Put configs into configs/"):
        jobchecks.check_arguments(arguments, LOCAL, str(REPO))


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "corpus=s3://b/c", "output=/shared/x"],
        ["llava15-7b-l2t", "model=Qwen/Qwen2-VL-7B", "steps=4", "lr={connector: 1e-3}"],
        ["train/presets/demo-l2t.yaml", "output=s3://b/x"],
        ["starter", "--images", "24", "--out", "s3://b/w"],
        ["run", "starter", "tasks=[a, b]", "models.x=s3://b/m"],
        ["demo", "x=[", "output=s3://b/x"],
    ],
)
def test_what_means_the_same_everywhere_is_taken(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPO)
    jobchecks.check_arguments(arguments, REMOTE, str(REPO))


def test_a_job_writes_nothing_into_the_copy_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A preset's relative output is seen only in the job itself."""
    copy = tmp_path / "session/runtime_resources/working_dir_files/_ray_pkg_1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    with pytest.raises(UserError, match=r"runs/x/.*deleted after it"):
        plan_dataset("runs/x", kind="corpus", name="x", shards=1, config={})
    (tmp_path / "made").mkdir()
    for write in (
        lambda: storage.write_bytes("runs/x", b""),
        lambda: storage.upload_dir(tmp_path / "made", "runs/x"),
    ):
        with pytest.raises(UserError, match="deleted after it"):
            write()
    plan_dataset(str(tmp_path / "x"), kind="corpus", name="x", shards=1, config={})


def test_no_secret_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    for given in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN=x", "HARMLESS=" + SECRET, "PROXY=http://me:pw@host"):
        with pytest.raises(UserError, match="looks like a secret"):
            jobchecks.environment([given])
    with pytest.raises(UserError, match="the value of AWS_SECRET_ACCESS_KEY") as told:
        jobchecks.check_arguments([f"key={SECRET}"], LOCAL, None)
    assert SECRET not in str(told.value)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    chosen = jobchecks.environment(["AWS_REGION", "AWS_ENDPOINT_URL=http://s3:9000"])
    assert chosen["AWS_REGION"] == "eu-central-1" and chosen["L2T_CODE_VERSION"]
    assert SECRET not in json.dumps(chosen)
    with pytest.raises(UserError, match="not set here"):
        jobchecks.environment(["NOT_THERE_AT_ALL"])


def test_stages_are_the_commands_and_ids_follow_from_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(jobs.STAGES) == cli.COMMANDS.keys() - {"demo", "submit", "view"}
    assert submission_id("train", ["a", "b"]) == submission_id("train", ["a", "b"])
    assert len({submission_id(s, a) for s in ("train", "eval") for a in (["a b"], ["a", "b"], [])}) == 6
    assert cli.main(["submit", "trian", "x"]) == 2 and "did you mean 'train'" in capsys.readouterr().err
    assert cli.main(["submit", "demo"]) == 2 and "on this machine" in capsys.readouterr().err
    assert cli.main(["submit"]) == 2 and "what is to be run?" in capsys.readouterr().err


def test_no_server(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # What the command line says wins over the environment; Ray's own client has it the other way round.
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:10")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:11")
    assert cli.main(["submit", "--address", "127.0.0.1:9", "--list"]) == 2
    told = capsys.readouterr().err
    assert (
        "no Ray job server answers at http://127.0.0.1:9: Failed to connect to Ray at address: http://127.0.0.1:9"
        in told
    )


# --- on a head ---


@pytest.fixture(scope="module")
def running() -> Iterator[Head]:
    with head(AWS_SECRET_ACCESS_KEY=SECRET) as made:
        yield made


def submit(on: Head, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return on.call("cluster", "submit", *arguments, **more)


def by_hand(on: Head, name: str, code: str) -> None:
    """A job of Ray's own, whatever it does."""
    ray = str(Path(sys.executable).parent / "ray")
    entry = ["--", "python", "-c", code]
    done = subprocess.run(
        [ray, "job", "submit", "--no-wait", "--submission-id", name, *entry],
        env={**on.environment, "RAY_AUTH_MODE": "token"}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def state(on: Head, job: str) -> str:
    return str(json.loads(on.get(f"{on.jobs}/api/jobs/{job}"))["status"])


def test_the_exit_code_is_the_drivers_and_a_second_time_is_a_second_attempt(running: Head) -> None:
    first = submit(running, "status", "/nowhere")
    assert first.returncode == 2 and "error: /nowhere: no dataset was begun here" in first.stdout
    name = submission_id("status", ["/nowhere"])
    assert f"submitted {name}:" in first.stdout and f"{name}: FAILED" in first.stdout
    assert f"submitted {name}-2:" in submit(running, "status", "/nowhere").stdout
    listed = submit(running, "--list").stdout
    assert re.search(rf"{name}  +FAILED", listed) and re.search(rf"{name}-2  +FAILED", listed)
    told = submit(running, "--status", "status", "/nowhere").stdout
    assert f"{name}-2\nstate    FAILED" in told and "exit     2" in told
    assert "no job 'l2t-x'" in submit(running, "--follow", "l2t-x").stderr
    # No token, no entry; and the job's own metadata tell no secret to those who have one.
    refused = submit(running, "--list", RAY_AUTH_TOKEN_PATH="/nonexistent")
    assert refused.returncode == 2 and "asks for its token" in refused.stderr
    assert SECRET not in running.get(f"{running.jobs}/api/jobs/")


@pytest.mark.slow
def test_any_exit_code(running: Head) -> None:
    by_hand(running, "seven", "raise SystemExit(7)")
    assert submit(running, "--follow", "seven").returncode == 7
    by_hand(running, "killed", "import os; os.kill(os.getpid(), 9)")
    assert submit(running, "--follow", "killed").returncode == 137


class Cutting:
    """A proxy that cuts its connections when told to."""

    def __init__(self, target: str) -> None:
        self.target = target.removeprefix("http://").split(":")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self.listener.accept()
            except OSError:
                return
            there = socket.create_connection((self.target[0], int(self.target[1])))
            self.open += [here, there]
            for source, sink in ((here, there), (there, here)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        for end in self.open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.open.clear()


@pytest.mark.slow
def test_the_log_goes_on_over_a_connection_that_breaks(running: Head, tmp_path: Path) -> None:
    code = (
        "import os, time\n"
        "for i in range(60):\n"
        f"    while i in (20, 40) and not os.path.exists(f'{tmp_path}/{{i}}'): time.sleep(0.1)\n"
        "    print('line', i, 'gr\\u00fcn', flush=True)\n"
    )
    by_hand(running, "talker", code)
    proxy = Cutting(running.jobs)
    following = running.spawn("cluster", "submit", "--address", proxy.address, "--follow", "talker")
    assert following.stdout is not None
    heard = []
    for line in following.stdout:
        heard.append(line)
        if line.startswith(("line 19 ", "line 39 ")):
            proxy.cut()
            (tmp_path / str(int(line.split()[1]) + 1)).touch()
    _, errors = following.communicate(timeout=60)
    proxy.listener.close()
    assert following.returncode == 0
    assert [line for line in heard if line.startswith("line")] == [f"line {i} grün\n" for i in range(60)]
    assert errors.count("connection to talker lost") == 2 and "runs on" in errors


@pytest.mark.slow
def test_control_c_leaves_the_job_running(running: Head) -> None:
    by_hand(running, "sleeper", "import time; print('awake', flush=True); time.sleep(300)")
    following = running.spawn("cluster", "submit", "--follow", "sleeper")
    assert following.stdout is not None
    for line in following.stdout:
        if "awake" in line:
            break
    following.send_signal(signal.SIGINT)
    _, errors = following.communicate(timeout=60)
    assert following.returncode == 130
    at = running.environment["RAY_API_SERVER_ADDRESS"]
    assert "sleeper runs on" in errors and f"l2t submit --address {at} --stop sleeper" in errors
    assert state(running, "sleeper") == "RUNNING"
    assert "STOPPED" in submit(running, "--stop", "sleeper").stdout
    assert state(running, "sleeper") == "STOPPED"


@pytest.mark.slow
def test_a_job_that_waits_says_for_what(running: Head) -> None:
    waiting = running.spawn("cluster", "submit", "--cpus", "100", "status", "/elsewhere")
    assert waiting.stderr is not None
    said = next(line for line in waiting.stderr if "has been waiting" in line)
    assert "asks for 100 CPU" in said and re.search(r"\d of 8 CPU free", said)
    waiting.send_signal(signal.SIGINT)
    waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    told = submit(running, "--status", "status", "/elsewhere").stdout
    assert "PENDING" in told and "asks     100 CPU" in told and "waits" in told
    assert "as soon as it starts" in submit(running, "--stop", "status", "/elsewhere").stdout


# --- a real stage ---


FEW = ("in_flight=1", "rows_in_flight=4")


class Slow(PoisonedEngine):
    """An engine that leaves time to be stopped in."""

    pause = 0.0

    def do_POST(self) -> None:
        time.sleep(self.pause)
        super().do_POST()


@pytest.fixture
def engine() -> Iterator[str]:
    with answering(Slow) as address:
        yield f"{address}/v1"


def write_corpus(uri: str, shards: int) -> str:
    """Four pictures a shard."""
    plan_dataset(uri, kind="corpus", name="corpus", shards=shards, config={})
    for k in range(shards):
        commit_shard(uri, k, {"rows": to_table([row(k * 4 + i) for i in range(4)])})
    freeze(uri)
    return uri


def ids(uri: str) -> list[str]:
    return [i for s in ("rows", "rejects") for t in iter_tables(uri, s) for i in t.column("id").to_pylist()]


@pytest.mark.slow
def test_stopped_in_the_middle_and_submitted_again_it_finishes_with_the_same_ids(
    running: Head, tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_corpus(str(tmp_path / "corpus"), shards=6)
    ray = str(Path(sys.executable).parent / "ray")
    plain = subprocess.run(
        [ray, "job", "submit", "--working-dir", ".", "--", "python", "-m", "datagen",
         *settings(engine, corpus, str(tmp_path / "plain"), *FEW)],
        cwd=REPO, env={**running.environment, "RAY_AUTH_MODE": "token"},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert plain.returncode == 0, plain.stdout[-2000:]

    monkeypatch.setattr(Slow, "pause", 0.5)
    output = str(tmp_path / "made")
    command = ["datagen", *settings(engine, corpus, output, *FEW)]
    # Two people at once: one job.
    both = [running.spawn("cluster", "submit", *command) for _ in range(2)]
    deadline = time.monotonic() + 150
    while not list(Path(output, "commits").glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    stopped = submit(running, "--stop", *command)
    told = [process.communicate(timeout=60)[0] for process in both]
    assert sorted(text.split()[0] for text in told) == ["attached", "submitted"], told
    assert [process.returncode for process in both] == [130, 130]
    assert "STOPPED" in stopped.stdout and all("STOPPED" in text for text in told)
    assert pending_shards(output), "it was stopped in the middle"
    seen = submit(running, "status", output)
    assert "stopped" in seen.stdout and "interrupted" in seen.stdout

    monkeypatch.setattr(Slow, "pause", 0.0)
    again = submit(running, *command)
    name = submission_id("datagen", command[1:])
    assert again.returncode == 0 and f"submitted {name}-2:" in again.stdout, again.stdout[-2000:]
    made = ids(output)
    assert len(made) == len(set(made)) and sorted(made) == sorted(ids(str(tmp_path / "plain")))


def test_the_token_is_asked_for_before_ray_is_imported(tmp_path: Path) -> None:
    """Ray reads RAY_AUTH_MODE while it is imported."""
    (tmp_path / "token").write_text("0" * 64)
    code = (
        "import os, sys; from cluster.runtime import use_token; use_token(); "
        "print(os.environ.get('RAY_AUTH_MODE'), 'ray' in sys.modules)"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    for place, mode in ((tmp_path / "token", "token"), (tmp_path / "none", "None")):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**clean, "RAY_AUTH_TOKEN_PATH": str(place)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.split() == [mode, "False"]
