"""``l2t submit``: run any stage as a Ray job on a cluster, with its logs and exit code here.

It is a convenience over ``ray job submit --working-dir . -- python -m datagen ...``, which works as well. The
submission id follows from the command, so the same command twice attaches to the running job instead of starting it
again, and a failed or stopped job is submitted anew (the stages themselves continue where they were).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import shlex
import sys

from cluster.errors import UserError

STAGES = {
    "corpus": "datagen.corpus_cli",
    "datagen": "datagen",
    "train": "train",
    "eval": "eval",
    "bootstrap": "cluster.bootstrap",
}
EXAMPLES = """examples:
  ray start --head --port 6379
  l2t submit datagen demo corpus=s3://bucket/corpora/x output=s3://bucket/instructions/x
  l2t submit --address http://head:8265 train llava15-7b-l2t workers=8
  l2t submit --no-wait eval starter models.mine=s3://bucket/checkpoints/x
"""


def submission_id(stage: str, arguments: list[str]) -> str:
    """Stable id of a command: the same stage with the same arguments is the same job."""
    return f"l2t-{stage}-" + hashlib.sha256(shlex.join([stage, *arguments]).encode()).hexdigest()[:12]


def main(argv: list[str]) -> int:
    """Submit, follow the log, return the job's own exit code (1 where the job gave none)."""
    parser = argparse.ArgumentParser(
        prog="l2t submit",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--address", default="http://127.0.0.1:8265", help="the head's job server")
    parser.add_argument("--id", help="submission id (default: follows from the command)")
    parser.add_argument("--no-wait", action="store_true", help="submit and return")
    parser.add_argument("--working-dir", default=".", help="uploaded for the job; .rayignore keeps it small")
    parser.add_argument("stage", choices=sorted(STAGES))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the stage's own arguments")
    args = parser.parse_args(argv)
    return submit(args)


def submit(args: argparse.Namespace) -> int:
    """The submission itself; imports Ray."""
    from ray.job_submission import JobStatus, JobSubmissionClient

    job = args.id or submission_id(args.stage, args.arguments)
    try:
        client = JobSubmissionClient(args.address)
    except (ConnectionError, RuntimeError) as error:
        raise UserError(
            f"no Ray job server answers at {args.address}: {error}\n"
            "Start a cluster (`ray start --head`) or name its head with --address http://<head>:8265"
        ) from error
    known = {info.submission_id: info.status for info in client.list_jobs()}
    finished = (JobStatus.FAILED, JobStatus.STOPPED, JobStatus.SUCCEEDED)
    if known.get(job) in finished:
        client.delete_job(job)
        known.pop(job)
    if job in known:
        print(f"attached to {job} ({known[job]})")
    else:
        command = shlex.join(["python", "-m", STAGES[args.stage], *args.arguments])
        client.submit_job(
            entrypoint=command, submission_id=job, runtime_env={"working_dir": args.working_dir}
        )
        print(f"submitted {job}: {command}")
    if args.no_wait:
        return 0
    asyncio.run(_follow(client, job))
    info = client.get_job_info(job)
    print(f"{job}: {info.status}")
    if info.status == JobStatus.SUCCEEDED:
        return 0
    return info.driver_exit_code or 1


async def _follow(client, job: str) -> None:  # type: ignore[no-untyped-def]  # ray's client, imported lazily
    async for lines in client.tail_job_logs(job):
        sys.stdout.write(lines)
        sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
