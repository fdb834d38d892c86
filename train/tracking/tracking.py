"""TensorBoard, MLflow and Weights & Biases as places that points go to; each library is imported when asked for."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from cluster.errors import UserError
from train.tracking.trackerfiles import Folder, Known

PROJECT = "l2t"
MLFLOW_BATCH = 100  # parameters that a server takes at once
MLFLOW_VALUE = 500  # characters of one that every server takes
# Messages of clients hold addresses, and those may hold passwords.
_IN_ADDRESS = re.compile(r"://[^/\s]*@")
_SECRET = re.compile(r"KEY|TOKEN|PASSWORD|SECRET")


class TensorBoard:
    """Event files in ``<run>/tensorboard``: ``tensorboard --logdir <run>/tensorboard``."""

    def __init__(self, run: str, config: Mapping[str, Any], step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(
                "trackers: TensorBoard is not installed; pip install tensorboard, or take it out of trackers"
            ) from error
        self._folder = Folder(run, "tensorboard")
        # Points after the step that a run continues from are void, also those of a run that begins anew.
        self._writer = SummaryWriter(str(self._folder.path), purge_step=step + 1)
        if step == 0:
            self._writer.add_text("config", f"```\n{json.dumps(config, indent=1)}\n```", 0)

    def write(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        # A run that is killed continues from its checkpoint and does not send what came before it again.
        self._writer.flush()
        self._folder.keep()

    def close(self) -> None:
        self._writer.close()
        self._folder.close()


class MLflow:
    """A run in the experiment ``$MLFLOW_EXPERIMENT_NAME``, else ``l2t``, on ``$MLFLOW_TRACKING_URI``."""

    def __init__(self, run: str, config: Mapping[str, Any]) -> None:
        # By default its client tries a server that does not answer for many minutes, and reports its use to its makers.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        try:
            from mlflow.entities import Metric, Param
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise UserError(
                "trackers: MLflow is not installed; pip install mlflow-skinny, or take it out of trackers"
            ) from error
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            raise UserError(
                "trackers: MLflow needs to know where; set MLFLOW_TRACKING_URI to a server (https://...) or a local "
                "database (sqlite:///mlflow.db, which needs the whole of mlflow)"
            )
        self._metric = Metric
        self._known = Known(run, "mlflow")
        try:
            self._client = MlflowClient()
            if self._known.run_id is None:
                self._known.write(self._new_run(run, config, Param), 0)
            else:
                self._client.update_run(self._known.run_id, status="RUNNING")
        except (MlflowException, ImportError) as error:
            raise UserError(
                f"trackers: MLflow at MLFLOW_TRACKING_URI cannot be used ({_reason(error, 'MLFLOW_')}); check the "
                "address and the credentials (MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and _PASSWORD), or "
                f"take mlflow out of trackers. Where another server has this run, delete {run}/trackers.json"
            ) from error

    def _new_run(self, run: str, config: Mapping[str, Any], param: Any) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(name)
        run_id = self._client.create_run(experiment_id, run_name=_name(run)).info.run_id
        settings = [param(key, value[:MLFLOW_VALUE]) for key, value in _flat("", config)]
        for at in range(0, len(settings), MLFLOW_BATCH):
            self._client.log_batch(run_id, params=settings[at : at + MLFLOW_BATCH])
        return run_id

    def write(self, step: int, values: dict[str, float]) -> None:
        if step <= self._known.step:
            return
        now = time.time_ns() // 1_000_000
        assert self._known.run_id is not None
        self._client.log_batch(
            self._known.run_id,
            metrics=[self._metric(name, value, now, step) for name, value in values.items()],
        )
        self._known.write(self._known.run_id, step)

    def close(self) -> None:
        assert self._known.run_id is not None
        self._client.set_terminated(self._known.run_id)


class WandB:
    """A run in the project ``$WANDB_PROJECT``, else ``l2t``; with ``WANDB_MODE=offline`` files in ``<run>/wandb``."""

    def __init__(self, run: str, config: Mapping[str, Any]) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # to its makers
        try:
            import wandb
        except ImportError as error:
            raise UserError(
                "trackers: Weights & Biases is not installed; pip install wandb, or take it out of trackers"
            ) from error
        self._known = Known(run, "wandb")
        self._folder = Folder(run, "wandb")
        try:
            self._run = self._begin(wandb, run, config)
        except wandb.Error as error:
            raise UserError(
                f"trackers: Weights & Biases cannot be used ({_reason(error, 'WANDB_')}); set WANDB_API_KEY, or run "
                "`wandb login`, or set WANDB_MODE=offline and `wandb sync` later, or take wandb out of trackers"
            ) from error
        if self._known.run_id is None:
            self._known.write(self._run.id, 0)

    def _begin(self, wandb: Any, run: str, config: Mapping[str, Any]) -> Any:
        # Without this, init would ask for a key on the terminal, where nobody may be.
        online = wandb.setup().settings.mode not in ("offline", "dryrun", "disabled")
        if online and not wandb.login(prompt=False, verify=False):
            raise wandb.Error("no key is known")
        # Only numbers and settings: no code, no command line, no packages, no output of the terminal.
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            save_code=False,
            x_disable_meta=True,
            x_save_requirements=False,
            init_timeout=60,
        )
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=self._known.run_id,
            name=_name(run),
            dir=str(self._folder.path.parent),  # it makes its folder ``wandb`` there
            config=dict(config),
            resume="allow",
            settings=settings,
        )

    def write(self, step: int, values: dict[str, float]) -> None:
        if step <= self._known.step:
            return
        self._run.log(values, step=step)
        self._known.write(self._run.id, step)
        self._folder.keep()

    def close(self) -> None:
        import wandb

        self._run.finish()
        # `finish` may return before its process has written the last points (seen with 0.31 on a busy machine).
        wandb.teardown()
        self._folder.close()


def _name(run: str) -> str:
    return run.rstrip("/").rsplit("/", 1)[-1]


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """Settings as MLflow has them: ``lr.connector`` and text; what is empty or None is left out."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _flat(f"{prefix}.{i}", inner)
    elif value is not None and str(value):
        yield prefix, str(value)


def _reason(error: Exception, prefix: str) -> str:
    """The first line of an error, without passwords; only its kind where it repeats a secret of the environment."""
    said = _IN_ADDRESS.sub("://", (str(error).strip().splitlines() or [""])[0])[:300]
    secrets = [v for key, v in os.environ.items() if key.startswith(prefix) and _SECRET.search(key) and v]
    return type(error).__name__ if not said or any(secret in said for secret in secrets) else said
