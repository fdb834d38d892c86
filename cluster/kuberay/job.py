"""``python -m cluster.kuberay.job <stage> …``: a stage as a RayJob, for ``kubectl apply -f -``.

The job brings a cluster of its own, that of raycluster.yaml, and takes it down when it is done. A driver that dies,
with its head or without, is started again in a new cluster, where the stage continues from what is published. The
job's name follows from its command, so that the same command twice is the same job.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import sys
from pathlib import Path
from typing import Any

import yaml

from cluster.errors import UserError
from cluster.jobchecks import check_arguments

CLUSTER = Path(__file__).parent / "raycluster.yaml"
STAGES = ("corpus", "datagen", "curate", "train", "eval", "bootstrap")
# Work of the driver itself, which goes to a worker of the group `cpu`, because the head has little to give.
DRIVER_CPUS = {"corpus": 8}
RETRIES = 5
KEEP_S = 3600
EXAMPLES = """examples:
  python -m cluster.kuberay.job datagen comvint-full corpus=s3://b/corpora/x output=s3://b/instructions/x actors=16 \\
      | kubectl apply -f -
  python -m cluster.kuberay.job train llava15-7b-l2t output=s3://b/checkpoints/x > job.yaml
"""


def job(stage: str, arguments: list[str], cluster: Path = CLUSTER) -> dict[str, Any]:
    """The RayJob that runs ``l2t <stage> <arguments>`` on the cluster that a file describes.

    Raises:
        UserError: the file holds no RayCluster; an argument is a path of this machine, which goes with the cluster's
            pods, or holds a secret.
    """
    check_arguments(arguments, "kubernetes:8265", None)
    command = shlex.join(["l2t", stage, *arguments])
    spec = _cluster_spec(cluster)
    head = spec["headGroupSpec"]["template"]["spec"]
    labels = {"app.kubernetes.io/part-of": "l2t"}
    container = {
        "name": "submitter",
        "image": head["containers"][0]["image"],
        "resources": {kind: {"cpu": "500m", "memory": "1Gi"} for kind in ("requests", "limits")},
        "securityContext": head["containers"][0]["securityContext"],
    }
    made: dict[str, Any] = {
        "entrypoint": command,
        "backoffLimit": RETRIES,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": KEEP_S,
        "submitterPodTemplate": {
            "metadata": {"labels": {**labels, "l2t/role": "submitter"}},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "nodeSelector": head["nodeSelector"],
                "securityContext": head["securityContext"],
                "containers": [container],
            },
        },
        "rayClusterSpec": spec,
    }
    if stage in DRIVER_CPUS:
        made["entrypointNumCpus"] = DRIVER_CPUS[stage]
    name = f"l2t-{stage}-{hashlib.sha256(command.encode()).hexdigest()[:12]}"
    metadata = {"name": name, "labels": {**labels, "l2t/stage": stage}}
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata, "spec": made}


def _cluster_spec(path: Path) -> dict[str, Any]:
    try:
        documents = yaml.safe_load_all(path.read_text())
        return next(d["spec"] for d in documents if isinstance(d, dict) and d.get("kind") == "RayCluster")
    except (OSError, yaml.YAMLError, StopIteration, KeyError) as error:
        raise UserError(f"{path}: no RayCluster can be read from it; start from {CLUSTER}") from error


class _Plain(yaml.SafeDumper):
    """Without anchors: whoever reads the job sees every line where it counts."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def to_yaml(made: dict[str, Any]) -> str:
    """The job as YAML."""
    return yaml.dump(made, Dumper=_Plain, sort_keys=False, width=110)


def main(argv: list[str]) -> int:
    """Print the job; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m cluster.kuberay.job",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--cluster", type=Path, default=CLUSTER, help="YAML with the RayCluster (default: the shipped)"
    )
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the stage's own arguments")
    args = parser.parse_args(argv)
    try:
        print(to_yaml(job(args.stage, args.arguments, args.cluster)), end="")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
