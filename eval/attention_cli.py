"""``l2t eval attention``: attention on the picture before the answer, for any number of checkpoints, and its page."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from eval.modelworker import ModelWorker

if TYPE_CHECKING:
    import pyarrow as pa

    from eval.attention import AttentionJob, Watcher
    from eval.config import GoldSet
    from eval.samples import Chunk, Pictured

EXAMPLES = """examples:
  l2t eval attention --models l2t=runs/demo/checkpoints/l2t/model vit=runs/demo/checkpoints/vit/model \\
      --corpus runs/world/corpora/starter-test --instructions runs/world/instructions/starter-test-questions \\
      --output runs/demo/attention --page runs/demo/attention.html
  l2t eval attention --models starter=starter ... --tasks color caption --limit 64
  l2t eval attention --models llava=llava-hf/llava-1.5-7b-hf --benchmarks runs/benchmarks --tasks vqav2 gqa \
      --output runs/llava/attention --dtype bfloat16 --gpu --batch 16

The first model is the one that the others are compared with. A stopped command continues; a finished one only
writes the page anew.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, measure what is missing, write the page; returns the exit code."""
    parser = _parser()
    args = parser.parse_args(None if argv is None else list(argv))
    from cluster.errors import UserError
    from eval.config import GoldSet

    try:
        models = dict(_named(text) for text in args.models)
        uris = measure(
            models,
            gold=GoldSet(corpus=args.corpus, instructions=args.instructions, benchmarks=args.benchmarks),
            output=args.output,
            tasks=args.tasks,
            limit=args.limit,
            chunk=args.chunk,
            batch=args.batch,
            dtype=args.dtype,
            use_gpu=args.gpu,
            workers=args.workers,
        )
        if args.page:
            from eval.attention_page import write_page

            write_page(uris, args.page, samples=args.samples, title=args.title)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*uris, *([args.page] if args.page else []), sep="\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="l2t eval attention",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--models", nargs="+", required=True, metavar="NAME=MODEL", help="checkpoints by name"
    )
    parser.add_argument("--corpus", default="", metavar="URI", help="test pictures of the starter world")
    parser.add_argument(
        "--instructions", default="", metavar="URI", help="gold instructions of these pictures"
    )
    parser.add_argument(
        "--benchmarks",
        default="",
        metavar="URI",
        help="root that benchmarks were imported to, for their tasks",
    )
    parser.add_argument("--output", required=True, metavar="URI", help="below it one data set per checkpoint")
    parser.add_argument("--tasks", nargs="+", help="names of the task table (default: the starter suite)")
    parser.add_argument(
        "--limit", type=int, default=64, help="samples per task, chosen by a hash of their id"
    )
    parser.add_argument("--chunk", type=int, default=96, help="samples that are committed together")
    parser.add_argument("--batch", type=int, default=8, help="samples of one forward pass")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--gpu", action="store_true", help="one GPU per worker")
    parser.add_argument("--workers", type=int, default=1, help="processes, each with a model of its own")
    parser.add_argument(
        "--page", metavar="URI", help="also write a page with overlays there (ending in .html)"
    )
    parser.add_argument("--samples", type=int, default=24, help="samples shown on the page")
    parser.add_argument("--title", default="Attention on the picture", help="heading of the page")
    return parser


def _named(text: str) -> tuple[str, str]:
    from cluster.errors import UserError

    name, equals, model = text.partition("=")
    if not (equals and name and model):
        raise UserError(f"--models {text}: write name=model, such as l2t=runs/demo/checkpoints/l2t/model")
    return name, model


def measure(
    models: Mapping[str, str],
    *,
    gold: GoldSet,
    output: str,
    tasks: Sequence[str] | None = None,
    limit: int | None = 64,
    chunk: int = 96,
    batch: int = 8,
    dtype: str = "float32",
    use_gpu: bool = False,
    workers: int = 1,
) -> list[str]:
    """Make the attention data set of every checkpoint that has none yet; URIs in the order of ``models``.

    Args:
        gold: where pictures and rows are; its ``names`` follow from the tasks.

    Raises:
        UserError: bad input, or an output that holds another run.
    """
    from cluster import storage
    from cluster.config import hash_of
    from cluster.datasets import freeze, manifest_hash, plan_dataset
    from cluster.errors import UserError, did_you_mean
    from cluster.models import local_folder
    from cluster.revision import text_revision, weights_revision
    from eval.attention import AttentionJob
    from eval.samples import select
    from eval.tasks import SUITES, TASKS

    names = tuple(tasks or SUITES["starter"])
    for name in names:
        if name not in TASKS:
            raise UserError(f"task {name!r} is unknown{did_you_mean(name, TASKS)}")
    wanted = [TASKS[name] for name in names]
    benchmarks = tuple(dict.fromkeys(task.benchmark for task in wanted if task.benchmark))
    if benchmarks and not gold.benchmarks:
        raise UserError("--benchmarks is missing: the root that `l2t eval import --output` was given")
    if not all(task.benchmark for task in wanted) and not (gold.corpus and gold.instructions):
        raise UserError("--corpus and --instructions are missing: the starter world's pictures and questions")
    gold = gold.model_copy(update={"names": benchmarks})
    chunks = select(gold, wanted, limit, chunk, pictured=True)
    jobs = []
    for name, model in models.items():
        folder = local_folder(model)
        revision = weights_revision(folder)
        settings: dict[str, Any] = {
            "what": "attention",
            "revision": revision,
            "text": text_revision(folder),
            "tasks": {task.name: [task.prompt, task.open_prompt] for task in wanted},
            "limit": limit,
            "chunk": chunk,
            "gold_set": gold.model_dump(mode="json"),
            "gold": [manifest_hash(uri) for uri in gold.parents],
            "dtype": dtype,
        }
        uri = storage.join(output, f"{name}-{revision[:8]}-attention-{hash_of(settings)[:6]}")
        plan_dataset(
            uri,
            kind="eval",
            name=uri.rsplit("/", 1)[-1],
            shards=len(chunks),
            config=settings,
            parents=gold.parents,
            models={name: revision},
        )
        jobs.append(
            AttentionJob(
                uri=uri, name=name, revision=revision, model=folder, gold=gold, batch=batch, dtype=dtype,
                use_gpu=use_gpu,
            )
        )  # fmt: skip
    _run(jobs, chunks, workers)
    for job in jobs:
        freeze(job.uri)
    return [job.uri for job in jobs]


def _run(jobs: Sequence[AttentionJob], chunks: Sequence[Chunk], workers: int) -> None:
    from cluster.datasets import pending_shards
    from cluster.errors import UserError
    from cluster.progress import Progress
    from cluster.runtime import init_ray

    todo = [(j, k) for j, job in enumerate(jobs) for k in pending_shards(job.uri)]
    if not todo:
        return
    total = len(jobs) * sum(len(chunk.picks) for chunk in chunks)
    left = sum(len(chunks[k].picks) for _, k in todo)
    with (
        init_ray(),
        Progress(total, unit="samples", label="attention", done=total - left) as progress,
    ):
        progress.advance(0, note="loading the model")
        for done in _stream(jobs, chunks, todo, workers):
            if done["error"]:
                raise UserError(done["error"])
            progress.advance(int(done["samples"]))


def _stream(
    jobs: Sequence[AttentionJob], chunks: Sequence[Chunk], todo: Sequence[tuple[int, int]], workers: int
) -> Iterator[dict[str, Any]]:
    """Chunks through a pool of actors; each yields its accounting as it finishes."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = -1  # a long model load is not a hang
    work = [{"job": j, "index": k} for j, k in todo]
    done = ray.data.from_items(work, override_num_blocks=len(work)).map_batches(
        AttentionWorker,
        fn_constructor_kwargs={"jobs": list(jobs), "chunks": [list(chunks)] * len(jobs)},
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(work))),
        num_cpus=1,
        num_gpus=int(jobs[0].use_gpu),
    )
    yield from done.iter_rows()


class AttentionWorker(ModelWorker["AttentionJob", "Watcher"]):
    """Attention on the picture."""

    tokens: ClassVar[dict[str, str]] = {"prompt": "tokens"}

    def schema(self) -> pa.Schema:
        """See `ModelWorker`."""
        from eval.attention import ATTENTION_SCHEMA

        return ATTENTION_SCHEMA

    def load(self, job: AttentionJob, device: str) -> Watcher:
        """See `ModelWorker`."""
        from eval.attention import Watcher

        return Watcher(job.model, job.dtype, device)

    def read(
        self, model: Watcher, job: AttentionJob, chunk: Chunk, items: list[Pictured]
    ) -> list[dict[str, Any]]:
        """See `ModelWorker`."""
        from eval.attention import rows_of

        return rows_of(model, job, chunk, items)
