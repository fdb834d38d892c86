"""``l2t submit``: run a command of ``l2t`` as a Ray job on a cluster, with its log and its exit code here.

A convenience over ``ray job submit --working-dir . -- python -m datagen ...``, which works as well, but knows exit
codes 0 and 1 only. The submission id follows from the command, so the same command twice is one job: while that runs,
the second attaches to it; when it has ended, it is run again, and the stage continues where it was. Ctrl-C leaves
the job running.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

from cluster.auth import refuse_open_jobs
from cluster.cli import COMMANDS, EXIT_INTERRUPTED
from cluster.errors import UserError, did_you_mean
from cluster.runtime import use_token

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

# Commands that are about this machine: they open pages here, run on it on purpose, or talk to clusters themselves.
HERE = ("demo", "submit", "view")
STAGES = tuple(name for name in COMMANDS if name not in HERE)
ADDRESS = "http://127.0.0.1:8265"
EXAMPLES = """examples:
  ray start --head --node-ip-address 127.0.0.1 --port 6379
  l2t submit datagen demo corpus=s3://bucket/corpora/x output=s3://bucket/instructions/x
  l2t submit --address http://head:8265 --gpus 1 train llava15-7b-l2t data.0.corpus=s3://... output=s3://bucket/runs/x
  l2t submit --no-wait eval run starter models.mine=s3://bucket/checkpoints/x/model ...
  l2t submit --list                 the jobs of the cluster
  l2t submit --follow ID            the log of a job, to its end; so does the same command again
  l2t submit --stop ID              ends a job; the same command continues it
  l2t submit --status ID            state, times, what it asks for (instead of ID also the whole command)

Storage credentials of a job are those of the cluster's nodes (an instance role, a service account, the environment that
`ray start` was given). They never travel with a job: everybody who may see the dashboard could read them there.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="l2t submit",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--address", help=f"the head's job server (default: RAY_API_SERVER_ADDRESS, else {ADDRESS})"
    )
    made.add_argument("--id", help="submission id (default: follows from the command)")
    made.add_argument("--no-wait", action="store_true", help="submit and return")
    made.add_argument(
        "--working-dir",
        default=".",
        metavar="PLACE",
        help="folder that is uploaded, kept small by its .rayignore; a URI of a .zip; or none, where the "
        "cluster's image has the code (default: this folder)",
    )
    made.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="set in the job, without a value as it is here; anybody on the cluster can read it",
    )
    made.add_argument("--cpus", type=float, help="CPUs that the driver itself takes (default: none)")
    made.add_argument(
        "--gpus", type=float, help="GPUs that the driver itself takes: for `train` with workers=0"
    )
    made.add_argument("--memory-gib", type=float, help="memory that the driver itself takes")
    made.add_argument(
        "--resource",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="custom resource of the driver; it ties it to nodes that have it",
    )
    what = made.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="jobs of the cluster, newest last")
    what.add_argument("--stop", action="store_true", help="end the job")
    what.add_argument("--status", action="store_true", help="tell how the job is doing")
    what.add_argument("--follow", action="store_true", help="show the job's log to its end, submit nothing")
    made.add_argument("stage", nargs="?", help=", ".join(STAGES))
    made.add_argument(
        "arguments", nargs=argparse.REMAINDER, help="the stage's own arguments, as `l2t` takes them"
    )
    return made


def main(argv: list[str]) -> int:
    """Submit and follow, or look after a job; the job's own exit code (130 where it was stopped)."""
    args = parser().parse_args(argv)
    use_token()
    address = args.address or os.environ.get("RAY_API_SERVER_ADDRESS") or ADDRESS
    args.address = address if "://" in address else f"http://{address}"
    if args.list:
        from cluster.jobview import listing

        print(listing(connect(args.address)))
        return 0
    if args.stage is None:
        raise UserError(f"what is to be run? One of {', '.join(STAGES)}; see l2t submit --help")
    if args.stop or args.status or args.follow:
        return _look_after(args)
    return submit(args)


def connect(address: str) -> JobSubmissionClient:
    """A client of the job server.

    Raises:
        UserError: none answers there, it refuses us, or it obeys everybody.
    """
    refuse_open_jobs(address)
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    # Ray's client lets this and RAY_ADDRESS win over the address it is given: the job would go to another cluster.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    # Its client tells of every ignore file it reads, three times.
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise UserError(
            f"the cluster at {address} asks for its token and does not accept what this machine has. Put the "
            "cluster's token into ~/.ray/auth_token, or name its file in RAY_AUTH_TOKEN_PATH."
        ) from error
    except (ConnectionError, RuntimeError) as error:
        raise UserError(
            f"no Ray job server answers at {address}: {error}\n"
            "Start a cluster (`ray start --head --node-ip-address 127.0.0.1`) or name its head with --address http://<head>:8265"
        ) from error


def submit(args: argparse.Namespace) -> int:
    """Submit the command, or attach to the job that runs it, and see it to its end."""
    from cluster import jobchecks
    from cluster.jobattempts import submission_id, submit_or_attach

    if args.stage not in STAGES:
        why = (
            " runs on this machine, not as a job." if args.stage in HERE else did_you_mean(args.stage, STAGES)
        )
        raise UserError(f"stage {args.stage!r}{why} Stages: {', '.join(STAGES)}")
    folder = jobchecks.working_dir(args.working_dir)
    jobchecks.check_arguments(args.arguments, args.address, folder)
    environment = jobchecks.environment(args.env)
    client = connect(args.address)
    # `exec`: signals reach Python and not a shell before it.
    command = shlex.join(["python", "-m", "cluster", args.stage, *args.arguments])
    asks = _asks(args)
    job, attached = submit_or_attach(
        client,
        args.id or submission_id(args.stage, args.arguments),
        entrypoint=f"exec {command}",
        runtime_env={"env_vars": environment, **({"working_dir": folder} if folder else {})},
        metadata={"asks": _in_words(asks)},
        **asks,
    )
    print(f"attached to {job}, which runs already" if attached else f"submitted {job}: {command}", flush=True)
    if args.no_wait:
        print(_hints(args.address, job))
        return 0
    return _follow(client, job, args.address)


def _look_after(args: argparse.Namespace) -> int:
    """--stop, --status, --follow: of an id, or of the newest job of a command."""
    from cluster.jobattempts import newest, stop, submission_id
    from cluster.jobview import describe

    client = connect(args.address)
    base = args.id or (submission_id(args.stage, args.arguments) if args.stage in STAGES else args.stage)
    found = newest(client, base)
    if found is None:
        raise UserError(f"no job {base!r} at {args.address}; `l2t submit --list` shows those there are")
    if args.follow:
        return _follow(client, found, args.address)
    if args.stop:
        stop(client, found)
    print(describe(client, found))
    return 0


def _follow(client: JobSubmissionClient, job: str, address: str) -> int:
    from ray.job_submission import JobStatus

    from cluster.joblogs import follow

    try:
        info = follow(client, job, sys.stdout)
    except KeyboardInterrupt:
        print(f"\n{job} runs on.\n{_hints(address, job)}", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(f"{job}: {info.status.value}", flush=True)
    if info.status == JobStatus.SUCCEEDED:
        return 0
    if info.driver_exit_code is None:
        if info.status == JobStatus.FAILED:
            print(info.message, file=sys.stderr)
            return 1
        return EXIT_INTERRUPTED
    if info.driver_exit_code == 127:
        print(
            "There is no `python` on the head's PATH: start Ray from an activated environment.",
            file=sys.stderr,
        )
    # As a shell says it of a process that a signal ended.
    return info.driver_exit_code if info.driver_exit_code > 0 else 128 - info.driver_exit_code


def _hints(address: str, job: str) -> str:
    at = "" if address == ADDRESS else f"--address {address} "
    return "\n".join(
        f"  {what:<7} l2t submit {at}{option} {job}"
        for what, option in (("attach:", "--follow"), ("stop:", "--stop"), ("state:", "--status"))
    )


def _asks(args: argparse.Namespace) -> dict[str, Any]:
    """What the driver asks for, as Ray's client takes it."""
    custom = {}
    for text in args.resource:
        name, _, number = text.partition("=")
        try:
            custom[name] = float(number)
        except ValueError:
            raise UserError(f"--resource {text}: write NAME=NUMBER") from None
    asked = {
        "entrypoint_num_cpus": args.cpus,
        "entrypoint_num_gpus": args.gpus,
        "entrypoint_memory": int(args.memory_gib * 2**30) if args.memory_gib else None,
        "entrypoint_resources": custom or None,
    }
    return {key: value for key, value in asked.items() if value}


def _in_words(asks: dict[str, Any]) -> str:
    words = []
    for key, value in asks.items():
        match key:
            case "entrypoint_num_cpus":
                words.append(f"{value:g} CPU")
            case "entrypoint_num_gpus":
                words.append(f"{value:g} GPU")
            case "entrypoint_memory":
                words.append(f"{value / 2**30:g} GiB memory")
            case _:
                words += [f"{number:g} {name}" for name, number in value.items()]
    return ", ".join(words)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
