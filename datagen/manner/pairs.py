"""Which answers are measured, and what each said before it was rewritten.

An answer is one assistant turn. Its earlier text comes from the rewrite program, which keeps the originals in the
record's gates, or from an instruction set of the same records before they were rewritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cluster.errors import UserError
from datagen.records import Record, Turn
from datagen.routing import is_hard

ORIGINAL = "original_answer"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One assistant turn; ``before`` is None where the other instruction set has no text for it.

    ``context`` is the conversation up to and with the question; earlier answers stand there as they are now, for both
    texts, so that a difference belongs to this answer alone. ``image`` is what errors are clustered by: the images of
    the conversation, or the record itself where there is none.
    """

    id: str
    turn: int
    image: str
    context: tuple[Turn, ...]
    before: str | None
    after: str

    @property
    def question(self) -> str:
        """The user's turn that this answers, "" where there is none."""
        return next((t.text for t in reversed(self.context) if t.role == "user"), "")

    @property
    def hard(self) -> bool:
        """Whether the form of the answer is fixed, so that it has no manner; the router's rule on the old text."""
        return is_hard(self.question, self.after if self.before is None else self.before)


def own_pairs(record: Record) -> Iterator[Answer]:
    """The answers of a record with the originals that it holds itself; an answer never rewritten is its own.

    Raises:
        UserError: an original that belongs to no answer.
    """
    kept = _originals(record)
    for turn, text in _assistant_turns(record):
        yield _answer(record, turn, before=kept.get(turn, text))


def paired(record: Record, earlier: Mapping[str, Record]) -> Iterator[Answer]:
    """The answers of a record with what its earlier self, or a parent, said at the same turn to the same question."""
    source = next((earlier[name] for name in (record.id, *record.parents) if name in earlier), None)
    for turn, _ in _assistant_turns(record):
        yield _answer(record, turn, before=_same_turn(source, record, turn))


def by_id(records: Iterable[Record]) -> dict[str, Record]:
    """For `paired`."""
    return {record.id: record for record in records}


def _assistant_turns(record: Record) -> list[tuple[int, str]]:
    return [(i, turn.text) for i, turn in enumerate(record.conversation) if turn.role == "assistant"]


def _answer(record: Record, turn: int, before: str | None) -> Answer:
    return Answer(
        id=record.id,
        turn=turn,
        image=" ".join(record.image_ids) or record.id,
        context=record.conversation[:turn],
        before=before,
        after=record.conversation[turn].text,
    )


def _originals(record: Record) -> dict[int, str]:
    """Original text by index in the conversation; with one answer the text stands alone, with several each is
    ``<index>\\t<text>``. Of an answer rewritten twice the oldest text counts."""
    places = [turn for turn, _ in _assistant_turns(record)]
    found: dict[int, str] = {}
    for gate in record.gates:
        if gate.name != ORIGINAL:
            continue
        number, _, text = ("", "", gate.detail) if len(places) == 1 else gate.detail.partition("\t")
        place = places[0] if len(places) == 1 else int(number) if number.isdecimal() else -1
        if place not in places:
            raise UserError(
                f"record {record.id}: its gate {ORIGINAL} holds the original of turn {number[:20]!r}, and its answers "
                f"are turns {', '.join(map(str, places)) or 'none'}. Give the set it was made from with --before."
            )
        found.setdefault(place, text)
    return found


def _same_turn(source: Record | None, record: Record, turn: int) -> str | None:
    if source is None or turn >= len(source.conversation) or source.conversation[turn].role != "assistant":
        return None
    questions = [
        next((t.text.split() for t in reversed(r.conversation[:turn]) if t.role == "user"), [])
        for r in (source, record)
    ]
    return source.conversation[turn].text if questions[0] == questions[1] else None
