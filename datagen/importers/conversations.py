"""A row's conversation as an accepted or rejected record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from datagen.importers.dialogue import Dialogue, read_dialogue
from datagen.importers.kinds import label_kind
from datagen.importers.options import IMPORTER_VERSION, ImportOptions
from datagen.importers.rejects import BadRow, printable, storable
from datagen.records import GateResult, Record, Turn, record_id

KEPT_TEXT = 4000  # characters of a rejected row


def conversation_record(
    options: ImportOptions,
    where: str,
    row: Mapping[str, Any],
    conversation: object,
    image_ids: Sequence[str],
    pictures: Mapping[str, str],
) -> Record:
    """The record of one row.

    Its id comes from the importer, the row's id, its pictures and its turns: the same row has the same id wherever
    and whenever it is imported. A rejected row keeps its text as a ``draft`` turn, and refers to no picture, since
    those of its shard may be rejects themselves.
    """
    row_id = str(row.get("id", ""))
    name = record_id(options.importer, row_id, list(image_ids), json.dumps(conversation, default=str))
    try:
        for image_id in image_ids:
            if reason := pictures.get(image_id, "missing_file"):
                raise BadRow(f"image:{reason}", f"picture {image_id}")
        dialogue = read_dialogue(conversation, len(image_ids))
    except BadRow as error:
        text = json.dumps({"id": row_id, "conversations": conversation}, default=str, ensure_ascii=False)
        kept = storable(text[:KEPT_TEXT])
        return rejected_record(options, where, error.reason, str(error), kept=kept, name=name)
    return _accepted(options, where, name, dialogue, tuple(image_ids))


def rejected_record(
    options: ImportOptions, where: str, reason: str, detail: str, *, kept: str = "", name: str = ""
) -> Record:
    """A row that could not be taken, with what it held as far as that can be stored."""
    return Record(
        id=name or record_id(options.importer, where, reason),
        image_ids=(),
        kind="unknown",
        format="open",
        conversation=(Turn(role="draft", text=kept),) if kept else (),
        state="rejected",
        reason=reason,
        program=f"import-{options.importer}",
        program_version=IMPORTER_VERSION,
        gates=(GateResult(name=reason, passed=False, detail=printable(detail)),),
        source=f"{options.importer}:{where}",
    )


def _accepted(
    options: ImportOptions, where: str, name: str, dialogue: Dialogue, image_ids: tuple[str, ...]
) -> Record:
    turns = tuple(turn for turn in dialogue.turns if turn.role != "system")
    first = image_ids[0] if image_ids else ""
    return Record(
        id=name,
        image_ids=tuple(dict.fromkeys(image_ids)),
        kind=label_kind(turns, dialogue.format, first, where),
        format=dialogue.format,
        conversation=dialogue.turns,
        options=dialogue.options,
        answer_index=dialogue.answer_index,
        state="accepted",
        program=f"import-{options.importer}",
        program_version=IMPORTER_VERSION,
        gates=dialogue.gates,
        source=f"{options.importer}:{where}",
    )
