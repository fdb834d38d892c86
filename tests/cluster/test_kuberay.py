"""The files for Kubernetes: KubeRay's own CRD schemas (where they are: L2T_KUBERAY_CRDS names the folder with
rayclusters.yaml and rayjobs.yaml), Kubernetes' schemas for the rest, what KubeRay's operator refuses by code, and what
this project promises of them.
"""

from __future__ import annotations

import copy
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cluster.errors import UserError
from cluster.kuberay.job import CLUSTER, STAGES, job, to_yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster" / "kuberay"
KUBERNETES = "1.33"
RAY = re.search(r"ray\[.*\]==([\d.]+)", (ROOT / "pyproject.toml").read_text())[1]  # type: ignore[index]
VERSION = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]  # type: ignore[index]
ARGUMENTS = {
    "corpus": ["llava", "s3://b/l2t/mix665k.json", "--images", "s3://b/images", "--out", "s3://b/l2t"],
    "datagen": ["comvint-full", "corpus=s3://b/corpora/x", "output=s3://b/instructions/x", "actors=16"],
    "curate": ["s3://b/instructions/x", "--out", "s3://b/instructions/y"],
    "train": [
        "llava15-7b-l2t",
        "data=[{corpus: s3://b/c, instructions: s3://b/i}]",
        "output=s3://b/checkpoints/x",
    ],
    "eval": ["run", "l2t", "models.x=s3://b/checkpoints/x/model", "output=s3://b/evals"],
    "bootstrap": ["starter", "model=s3://b/checkpoints/x", "root=s3://b"],
}


def documents(name: str) -> list[dict[str, Any]]:
    return [d for d in yaml.safe_load_all((FOLDER / name).read_text()) if d]


def ray_cluster() -> dict[str, Any]:
    (found,) = documents("raycluster.yaml")
    return found


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [d for d in documents("access.yaml") if d["kind"] == kind]


# KubeRay's schemas ------------------------------------------------------------------------------------------------


@cache
def crd(plural: str) -> jsonschema.Draft202012Validator:
    folder = os.environ.get("L2T_KUBERAY_CRDS")
    if not folder:
        pytest.skip("L2T_KUBERAY_CRDS names no folder with KubeRay's rayclusters.yaml and rayjobs.yaml")
    crd = yaml.load((Path(folder) / f"{plural}.yaml").read_text(), Loader=yaml.CSafeLoader)
    (version,) = [v for v in crd["spec"]["versions"] if v["name"] == "v1"]
    return jsonschema.Draft202012Validator(_strict(version["schema"]["openAPIV3Schema"], top=True))


def _strict(schema: Any, *, top: bool = False) -> Any:
    """No key that the schema does not name; the API server would drop it in silence. Also Kubernetes' own two types."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: value if key in ("enum", "default") else _strict(value) for key, value in schema.items()}
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    open_ended = made.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in made
    if isinstance(made.get("properties"), dict) and "type" in made and not open_ended:
        made["additionalProperties"] = False
    if top:
        made["properties"]["metadata"] = {"type": "object"}  # the API server's own
    return made


def errors(plural: str, document: dict[str, Any]) -> list[str]:
    return [f"{'.'.join(map(str, e.absolute_path))}: {e.message}" for e in crd(plural).iter_errors(document)]


def test_the_cluster_keeps_kuberays_schema() -> None:
    assert errors("rayclusters", ray_cluster()) == []


@pytest.mark.parametrize("stage", STAGES)
def test_the_job_of_every_stage_keeps_kuberays_schema(stage: str) -> None:
    assert errors("rayjobs", yaml.safe_load(to_yaml(job(stage, ARGUMENTS[stage])))) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("authOption",), {}),
        (("authOptions", "mode"), "tokens"),
        (("autoscalerOptions", "version"), "v3"),
        (("workerGroupSpecs", 0, "maxReplica"), 3),
        (("workerGroupSpecs", 0, "template", "spec", "toleration"), []),
        (("headGroupSpec", "template", "spec", "containers", 0, "resources", "limit"), {}),
        (("headGroupSpec", "template", "spec", "terminationGracePeriodSeconds"), "soon"),
    ],
)
def test_and_the_schema_check_finds_slips(path: tuple[Any, ...], value: object) -> None:
    broken = copy.deepcopy(ray_cluster())
    place = broken["spec"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert errors("rayclusters", broken)


# Kubernetes' schemas ----------------------------------------------------------------------------------------------


def core_errors(document: dict[str, Any]) -> str:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="the package kubernetes-validate has the schemas"
    )
    try:
        validate.validate(document, KUBERNETES, strict=True)
    except validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    return ""


@pytest.mark.parametrize(
    "document", documents("access.yaml"), ids=lambda d: f"{d['kind']}-{d['metadata']['name']}"
)
def test_what_surrounds_it_keeps_kubernetes_schema(document: dict[str, Any]) -> None:
    assert core_errors(document) == ""


def templates() -> Iterator[tuple[str, dict[str, Any]]]:
    spec = ray_cluster()["spec"]
    yield "head", spec["headGroupSpec"]["template"]
    for group in spec["workerGroupSpecs"]:
        yield group["groupName"], group["template"]


def pods() -> list[Any]:
    submitter = job("train", [])["spec"]["submitterPodTemplate"]
    return [pytest.param(template, id=name) for name, template in [*templates(), ("submitter", submitter)]]


@pytest.mark.parametrize("template", pods())
def test_pods_keep_kubernetes_schema(template: dict[str, Any]) -> None:
    metadata = {"name": "x", **template["metadata"]}
    assert (
        core_errors({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}) == ""
    )


def test_and_this_check_finds_slips_too() -> None:
    claim = of_kind("PersistentVolumeClaim")[0]
    assert core_errors({**claim, "spec": {**claim["spec"], "accessMode": []}})


@pytest.mark.parametrize("template", pods())
def test_mounts_ports_and_volumes_belong_together(template: dict[str, Any]) -> None:
    spec = template["spec"]
    volumes = [volume["name"] for volume in spec.get("volumes", [])]
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    assert len(volumes) == len(set(volumes))
    assert {m["name"] for c in containers for m in c.get("volumeMounts", [])} == set(volumes)
    names = [c["name"] for c in containers]
    assert len(names) == len(set(names))
    for container in containers:
        places = [m["mountPath"] for m in container.get("volumeMounts", [])]
        assert len(places) == len(set(places))


# What KubeRay's operator refuses by code (ray-operator/controllers/ray/utils/validation.go) ------------------------


def test_the_operators_own_rules() -> None:
    spec = ray_cluster()["spec"]
    assert spec["rayVersion"] == RAY  # named, and at least 2.52, or tokens are refused
    for _, template in templates():
        assert (
            template["spec"].get("restartPolicy", "Never") == "Never"
        )  # the second autoscaler restarts pods itself
        assert "RAY_enable_autoscaler_v2" not in str(template)
        # The volume that the autoscaler shares with Ray must be this one, or there are two on one path.
        assert {"name": "ray-logs", "mountPath": "/tmp/ray"} in template["spec"]["containers"][0][
            "volumeMounts"
        ]
    for stage in STAGES:
        made = job(stage, ARGUMENTS[stage])
        assert len(made["metadata"]["name"]) <= 47 and re.fullmatch(
            "[a-z][a-z0-9-]*", made["metadata"]["name"]
        )
        assert "clusterSelector" not in made["spec"]  # excludes backoffLimit
        assert made["spec"]["submitterPodTemplate"]["spec"]["restartPolicy"] in ("Never", "OnFailure")


# What the project promises ----------------------------------------------------------------------------------------


def test_images_are_pinned_and_equal() -> None:
    for name, template in templates():
        spec = template["spec"]
        build = "gpu" if "nvidia.com/gpu" in spec["containers"][0]["resources"]["limits"] else "cpu"
        assert spec["containers"][0]["image"] == f"CHANGE-ME/l2t:{VERSION}-{build}", name
        assert {c["image"] for c in spec["initContainers"]} == {f"CHANGE-ME/l2t:{VERSION}-cpu"}


def test_tokens_are_on_and_come_from_a_secret() -> None:
    spec = ray_cluster()["spec"]
    assert spec["authOptions"] == {"mode": "token", "secretName": "l2t-ray-token"}
    text = "".join((FOLDER / name).read_text() for name in ("raycluster.yaml", "access.yaml"))
    assert "RAY_AUTH_MODE" not in text  # nothing that could set it otherwise


def test_nothing_secret_is_in_clear() -> None:
    for document in [ray_cluster(), *documents("access.yaml"), job("train", [])]:
        assert document["kind"] != "Secret"
        for variable in _variables(document):
            if re.search("key|secret|token|password", variable["name"], re.I):
                assert "secretKeyRef" in variable["valueFrom"], variable["name"]


def _variables(node: Any) -> Iterator[dict[str, Any]]:
    for item in node if isinstance(node, list) else node.values() if isinstance(node, dict) else ():
        yield from _variables(item)
    if isinstance(node, dict):
        yield from node.get("env") or ()


def test_the_dashboard_is_not_public() -> None:
    head = ray_cluster()["spec"]["headGroupSpec"]
    assert head["serviceType"] == "ClusterIP" and not head.get("enableIngress")


@pytest.mark.parametrize(("name", "template"), list(templates()))
def test_a_pod_that_goes_has_time_to_drain(name: str, template: dict[str, Any]) -> None:
    spec = template["spec"]
    (drain,) = [
        int(v["value"])
        for v in spec["containers"][0]["env"]
        if v["name"] == "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
    ]
    assert spec["terminationGracePeriodSeconds"] >= drain + 15
    # `ray stop` there would kill the raylet before it has drained.
    assert all("lifecycle" not in container for container in spec["containers"])


def test_ray_drains_when_a_pod_is_ended(tmp_path: Path) -> None:
    """KubeRay starts Ray as ``bash -c "ulimit …; ray start …"``: the signal must reach Ray, not end at the shell."""
    script = tmp_path / "ray"
    script.write_text(
        "#!/bin/bash\ntrap 'echo drained; exit 1' TERM\necho up\nwhile true; do sleep 0.05; done\n"
    )
    script.chmod(0o755)
    pod = subprocess.Popen(
        ["bash", "-c", "--", f"ulimit -n ${{RAY_START_ULIMIT_OPEN_FILES:-256}}; {script} start --block"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert pod.stdout is not None and pod.stdout.readline() == "up\n"
    pod.send_signal(signal.SIGTERM)
    assert pod.communicate(timeout=20)[0] == "drained\n"


def test_logs_are_kept_to_the_last_line(tmp_path: Path) -> None:
    keeper = ray_cluster()["spec"]["headGroupSpec"]["template"]["spec"]["initContainers"][0]
    assert keeper["restartPolicy"] == "Always"  # a sidecar: ends after Ray
    (script,) = keeper["args"]
    logs = tmp_path / "ray" / "session_latest" / "logs"
    logs.mkdir(parents=True)
    (logs / "raylet.out").write_text("early\n")
    script = script.replace("/tmp/ray", str(tmp_path / "ray")).replace(
        "/logs/$", str(tmp_path / "kept") + "/$"
    )
    process = subprocess.Popen([*keeper["command"], script], env={**os.environ, "POD_NAME": "pod-1"})
    kept = tmp_path / "kept" / "pod-1" / "raylet.out"
    try:
        deadline = time.monotonic() + 20
        while not kept.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        (logs / "raylet.out").write_text("early\nlate\n")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert kept.read_text() == "early\nlate\n"


@pytest.mark.parametrize(("name", "template"), list(templates()))
def test_gpu_pods_ask_for_what_they_may_take(name: str, template: dict[str, Any]) -> None:
    resources = template["spec"]["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"]  # else the kernel kills what Ray thinks it has
    tolerated = {t["key"] for t in template["spec"].get("tolerations", [])}
    assert ("nvidia.com/gpu" in tolerated) == (name in ("datagen", "train"))
    assert ("cloud.google.com/gke-spot" in tolerated) == (name in ("cpu", "datagen"))
    assert template["spec"]["nodeSelector"] == {"l2t/pool": "cpu" if name == "head" else name}


@pytest.mark.parametrize("template", pods())
def test_nobody_is_root(template: dict[str, Any]) -> None:
    spec = template["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] == 1000
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }


def test_budgets_choose_the_pods_that_must_stay() -> None:
    labels = {name: template["metadata"]["labels"] for name, template in templates()}
    chosen = {}
    for budget in of_kind("PodDisruptionBudget"):
        wanted = budget["spec"]["selector"]["matchLabels"]
        names = [name for name, has in labels.items() if wanted.items() <= has.items()]
        chosen[budget["metadata"]["name"]] = names
        most = sum(
            g["maxReplicas"] for g in ray_cluster()["spec"]["workerGroupSpecs"] if g["groupName"] in names
        )
        assert budget["spec"]["minAvailable"] > most
    assert chosen == {"l2t-head": ["head"], "l2t-train": ["train"]}


def test_who_may_talk_to_whom() -> None:
    (policy,) = of_kind("NetworkPolicy")
    spec = policy["spec"]
    everyone = spec["podSelector"]["matchLabels"]
    for param in pods():
        assert everyone.items() <= param.values[0]["metadata"]["labels"].items()
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    for rule in spec["ingress"]:
        assert rule["from"]  # no rule lets in everybody
        (peer,) = rule["from"]
        within = peer == {"podSelector": {"matchLabels": everyone}}
        assert within or {p["port"] for p in rule["ports"]} in ({8265}, {8080})
    blocks = [peer["ipBlock"] for rule in spec["egress"] for peer in rule["to"] if "ipBlock" in peer]
    assert all("169.254.0.0/16" in block["except"] for block in blocks)


def test_accounts_and_claims_that_pods_name_exist() -> None:
    accounts = {d["metadata"]["name"]: d for d in of_kind("ServiceAccount")}
    for name, template in templates():
        spec = template["spec"]
        account = accounts[spec["serviceAccountName"]]
        assert {"eks.amazonaws.com/role-arn", "iam.gke.io/gcp-service-account"} <= set(
            account["metadata"]["annotations"]
        )
        # Only the head talks to Kubernetes: its autoscaler does.
        assert spec.get("automountServiceAccountToken", True) == (name == "head")
        claims = [
            v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v
        ]
        assert claims == [d["metadata"]["name"] for d in of_kind("PersistentVolumeClaim")]


# The command ------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cluster.kuberay.job", *arguments], cwd=ROOT, capture_output=True, text=True
    )


def test_the_same_command_is_the_same_job() -> None:
    first = run("train", "llava15-7b-l2t", "data=[{corpus: s3://b/c}]")
    assert (
        first.returncode == 0
        and first.stdout == run("train", "llava15-7b-l2t", "data=[{corpus: s3://b/c}]").stdout
    )
    made = yaml.safe_load(first.stdout)
    assert made["spec"]["entrypoint"] == "l2t train llava15-7b-l2t 'data=[{corpus: s3://b/c}]'"
    assert made["spec"]["rayClusterSpec"] == ray_cluster()["spec"]
    assert made["metadata"]["name"] != job("train", ["other"])["metadata"]["name"]
    assert "&id" not in first.stdout


def test_results_do_not_go_with_the_pods() -> None:
    with pytest.raises(UserError, match=r"output=runs/x.*s3://bucket/path"):
        job("train", ["llava15-7b-l2t", "output=runs/x"])
    assert job("train", ["llava15-7b-l2t", "output=s3://b/x"])["kind"] == "RayJob"


def test_a_file_without_a_cluster_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"no RayCluster can be read from it; start from {CLUSTER}"):
        job("eval", [], FOLDER / "access.yaml")
    done = run("--cluster", str(tmp_path / "none"), "eval")
    assert done.returncode == 2 and done.stderr.startswith("error: ")
