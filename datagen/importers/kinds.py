"""The kind of a LLaVA-style row. The data sets do not state it; these rules are ours.

The 80k/150k/158k sets come in three files whose names say it (``conversation_58k``, ``detail_23k``,
``complex_reasoning_77k``); where they are merged, several turns are a conversation and a request from the fixed list of
descriptions is a detail. mix-665k and NeXT are told apart by the format clause that ends a question, then by the folder
of the picture.
"""

from __future__ import annotations

import re

from datagen.records import Format, Turn

FILES = (("complex_reasoning", "reasoning"), ("detail_", "detail"), ("conversation_", "conversation"))
CLAUSES = (
    ("grounding", r"bounding box coordinate|short description for this region"),
    ("caption", r"one-sentence caption|describe the image (?:concisely|briefly)|short caption"),
    ("choice", r"option'?s letter from the given choices"),
    (
        "ocr",
        r"reference ocr token|\bocr\b|what is written|author of this book|title of this book|genre of this book",
    ),
    ("vqa", r"single word or phrase|in one word"),
)
FOLDERS = (
    ("ocr_vqa", "ocr"),
    ("textvqa", "ocr"),
    ("chartqa", "chart"),
    ("dvqa", "chart"),
    ("docvqa", "ocr"),
    ("synthdog", "ocr"),
    ("gqa", "vqa"),
    ("vg", "vqa"),
    ("ai2d", "choice"),
)
_CLAUSES = [(kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in CLAUSES]
_DETAIL = re.compile(
    r"\b(?:describe|description|explain the visual|analy[sz]e the image|characterize the image|portray|narrate|"
    r"clarify the contents|write a (?:terse|detailed)|offer a|provide a|give a|present a)\b.*"
    r"\b(?:image|picture|photo|scene|photograph)\b",
    re.IGNORECASE | re.DOTALL,
)
DETAIL_QUESTION, DETAIL_ANSWER = 160, 200  # characters


def label_kind(turns: tuple[Turn, ...], answer_format: Format, image_id: str, file_name: str) -> str:
    """conversation, detail, reasoning, grounding, caption, choice, ocr, chart, vqa, or text (no picture)."""
    for part, kind in FILES:
        if part in file_name:
            return kind
    if not image_id:
        return "text"
    questions = [turn.text for turn in turns if turn.role == "user"]
    folder = _folder(image_id)
    for kind, pattern in _CLAUSES:
        # Mixed rows repeat one task; the clause may stand in the first turn only.
        if pattern.search(questions[0]):
            # A question that OCR tokens are given for asks for a caption only where it says so.
            return folder if kind == "vqa" and folder in ("ocr", "chart") else kind
    if answer_format == "choice":
        return "choice"
    if folder:
        return folder
    if len(questions) > 1:
        return "conversation"
    answer = next((turn.text for turn in turns if turn.role == "assistant"), "")
    is_detail = (
        len(questions[0]) <= DETAIL_QUESTION and len(answer) >= DETAIL_ANSWER and _DETAIL.search(questions[0])
    )
    return "detail" if is_detail else "reasoning"


def _folder(image_id: str) -> str:
    folders = image_id.lower().split("/")[:-1]
    return next((kind for name, kind in FOLDERS if any(part.startswith(name) for part in folders)), "")
