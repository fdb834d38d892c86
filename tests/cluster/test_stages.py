"""Stages: their failure is one clear error, overrides survive the command line, and no child outlives its parent."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cluster.config import Config, load_config
from cluster.errors import UserError
from cluster.stages import override, run_stage

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.text(alphabet="ab /:[]{},'\"=#-", max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=2),
    max_leaves=6,
)


@given(values)
def test_override_carries_any_value(value):
    key, _, text = override("a.b", value).partition("=")
    assert key == "a.b" and yaml.safe_load(text) == value
    assert "\n" not in text


class Example(Config):
    name: str = ""
    data: tuple[str, ...] = ()


def test_override_is_what_the_config_loader_reads(tmp_path):
    uris = ["s3://bucket/a b", "C: [x]"]
    config = load_config(Example, tmp_path, None, [override("data", uris), override("name", "1.5")])
    assert list(config.data) == uris and config.name == "1.5"


def test_failed_stage_names_itself():
    with pytest.raises(UserError, match=r"exit code 1.*no_such_module"):
        run_stage("no_such_module", [])


def test_child_dies_with_a_killed_parent(tmp_path):
    marker = tmp_path / "pid"
    (tmp_path / "sleeper.py").write_text(
        f"import os, time\nopen({str(marker)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", "from cluster.stages import run_stage; run_stage('sleeper', [])"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])},
    )
    deadline = time.monotonic() + 30
    while not (marker.exists() and marker.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    child = int(marker.read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while time.monotonic() < deadline:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        with open(f"/proc/{child}/stat") as stat:
            if stat.read().split()[2] == "Z":
                return
        time.sleep(0.05)
    pytest.fail("the stage outlived its parent")
