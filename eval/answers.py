"""Stored answers as the scorers take them: with the verdicts of a judge where there are any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from cluster.datasets import iter_tables, manifest_hash, read_manifest
from cluster.errors import UserError
from eval.results import RESULT_SCHEMA


def answer_tables(uri: str, verdicts: str = "") -> Iterator[pa.Table]:
    """The answers at ``uri``, shard by shard; ``verdicts`` is what `l2t eval judge` made of them."""
    if not verdicts:
        return iter_tables(uri, schema=RESULT_SCHEMA)
    from eval.judge_stage import judged_tables

    return judged_tables(uri, verdicts)


def verdicts_by_answers(uris: Sequence[str], answers: Sequence[str]) -> dict[str, str]:
    """Data sets of verdicts by the URI of the answers they are about.

    Raises:
        UserError: verdicts on answers that are not among these, or two on the same.
    """
    by_hash = {manifest_hash(uri): uri for uri in answers}
    found: dict[str, str] = {}
    for uri in uris:
        about = by_hash.get(str(read_manifest(uri).config.get("answers")))
        if about is None:
            raise UserError(f"{uri}: verdicts on answers that are not compared; give these answers too")
        if about in found:
            raise UserError(f"{about} has verdicts of two judges, {found[about]} and {uri}; give one of them")
        found[about] = uri
    return found


def unjudged(tasks: Sequence[str], verdicts: str) -> list[str]:
    """Tasks that say nothing yet, as their answers wait for a judge."""
    from eval.judge import is_judged

    return [] if verdicts else [task for task in tasks if is_judged(task)]
