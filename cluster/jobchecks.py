"""What must hold before a job travels: the folder is small, no argument means this machine, no secret goes along."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from cluster.auth import host_of, is_loopback
from cluster.errors import UserError
from cluster.manifest import code_version

# The job server's limit on an upload (measured: above it HTTP 413). Code has a few MB.
LIMIT_BYTES = 100 * 2**20
SECRET_NAME = re.compile(
    r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_KEY", re.IGNORECASE
)
SECRET_LENGTH = 8
# Settings and options that name data; their values are places, never names of a hub.
PLACES = frozenset(
    ("corpus", "instructions", "output", "root", "out", "benchmarks", "images", "html", "report", "json")
)
ENVIRONMENT = {
    # A stopped driver hears Ctrl-C: it says what it keeps, and its status is "interrupted" and not a silence.
    "RAY_JOB_STOP_SIGNAL": "SIGINT",
    "RAY_JOB_STOP_WAIT_TIME_S": "60",
}


def working_dir(place: str) -> str | None:
    """What Ray is to upload, None for nothing.

    Raises:
        UserError: it is no folder, does not hold this project, is too large, or its address holds a secret.
    """
    if place == "none":
        return None
    if "://" in place:
        if urlsplit(place).password or _secret_in(place):
            raise UserError(
                "--working-dir holds a password, and who sees the dashboard can read it there. Name a place that needs "
                "none, or give a folder."
            )
        return place
    folder = Path(place).expanduser().resolve()
    if not (folder / "cluster" / "cli.py").is_file():
        raise UserError(
            f"{folder} does not hold the code (cluster/, datagen/, ...). Run this in a checkout, name one with "
            "--working-dir, or say --working-dir none where the cluster's image has it."
        )
    sizes = contents(folder)
    total = sum(sizes.values())
    if total > LIMIT_BYTES:
        largest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
        listed = "\n".join(f"  {size / 1e6:8.1f} MB  {name}" for name, size in largest)
        raise UserError(
            f"{folder} would be uploaded with {total / 1e6:.0f} MB; the job server takes {LIMIT_BYTES >> 20} MiB. "
            f"Leave data out with .rayignore (the one of this project lets only code pass). The largest:\n{listed}"
        )
    return str(folder)


def contents(folder: Path) -> dict[str, int]:
    """Size by path of every file that travels, by Ray's own reading of .rayignore and .gitignore."""
    # No public function tells; the one that packs goes over the same.
    from ray._private.runtime_env.packaging import _dir_travel

    found: dict[str, int] = {}

    def see(path: Path) -> None:
        if path.is_file():
            found[str(path.relative_to(folder))] = path.stat().st_size

    quiet = logging.getLogger("l2t.quiet")
    quiet.setLevel(logging.ERROR)
    _dir_travel(folder, [], see, include_gitignore=True, logger=quiet)
    return found


def environment(given: list[str]) -> dict[str, str]:
    """The job's environment variables.

    Raises:
        UserError: one looks like a secret: the job server hands all of them out in clear (GET /api/jobs).
    """
    chosen = {**ENVIRONMENT, "L2T_CODE_VERSION": code_version()}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals and name not in os.environ:
            raise UserError(f"--env {name}: it is not set here; write {name}=VALUE")
        chosen[name] = value if equals else os.environ[name]
        if SECRET_NAME.search(name) or urlsplit(chosen[name]).password or _secret_in(chosen[name]):
            raise UserError(
                f"--env {name}: this looks like a secret, and everybody who sees the dashboard could read it there. "
                "Give it to the nodes instead: an instance role or service account (see cluster/launch), or the "
                "environment that `ray start` is run in."
            )
    return chosen


def check_arguments(arguments: list[str], address: str, folder: str | None) -> None:
    """No argument may name a file of this machine, or hold a secret.

    Raises:
        UserError: one does; the message says the way out.
    """
    for text in arguments:
        if name := _secret_in(text):
            raise UserError(
                f"an argument holds the value of {name}, and who sees the dashboard can read a job's command. "
                "Programs here take secrets from the environment of the cluster's nodes."
            )
    travelling: set[str] | None = None
    for key, value in _places(arguments):
        if os.path.isabs(value) or "://" in value or re.fullmatch(r"[\d.]*", value):
            continue
        local = Path(folder or ".", value)
        if travelling is None and folder:
            travelling = set(contents(Path(folder)))
        if local.is_file() and os.path.normpath(value) in (travelling or ()):
            continue  # a config beside the code: it is there, too
        if key in PLACES or value.startswith(("./", "../", "~")) or local.exists():
            raise UserError(_relative(key, value, address, local.is_file()))


def _relative(key: str, value: str, address: str, is_file: bool) -> str:
    shown = f"{key}={value}" if key else value
    message = f"{shown}: a job runs in a copy of the working directory, so a path relative to this folder "
    if is_file:
        return (
            message + "is not there. Put configs into configs/ (it travels along), or use storage (s3://...)."
        )
    if is_loopback(host_of(address)):
        there = os.path.abspath(os.path.expanduser(value))
        return message + f"means nothing there. On this machine write it in full: {there}"
    return message + (
        "means nothing there. Copy the data to storage that every node reaches (aws s3 cp --recursive) and name it "
        "as s3://bucket/path, or give an absolute path of a file system that all nodes share."
    )


def _secret_in(text: str) -> str:
    """Name of the secret of our own environment whose value ``text`` holds, "" where it holds none."""
    for name, value in os.environ.items():
        if (
            SECRET_NAME.search(name)
            and not name.endswith("_PATH")
            and len(value) >= SECRET_LENGTH
            and value in text
        ):
            return name
    return ""


def _places(arguments: list[str]) -> Iterator[tuple[str, str]]:
    """(last part of the key, text) of everything in a command line that may be a place; key "" where there is none."""
    option = ""
    for text in arguments:
        if text.startswith("--"):
            option, equals, value = text[2:].partition("=")
            if equals:
                yield option, value
                option = ""
            continue
        key, equals, value = text.partition("=")
        if equals and re.fullmatch(r"[\w.-]+", key):
            yield from _leaves(key.rsplit(".", 1)[-1], value)
        else:
            yield option, text
        option = ""


def _leaves(key: str, text: str) -> Iterator[tuple[str, str]]:
    """Texts of a setting's value, which is YAML."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return  # the stage itself says what is wrong with it
    yield from _walk(key, value)


def _walk(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for item in value:
            yield from _walk(key, item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _walk(str(name), item)
