"""Look at the mask: each token of a few rows, coloured by why it is or is not learned (contract 5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Any

from train.config import TrainConfig
from train.encode import Encoder, Sample
from train.labels import Reason
from train.prepare import conversations, find_templates, new_tokenizer
from train.render import BadConversation
from train.templates import TemplateSet

# SGR codes. Learned tokens have a background, the others only a dim or coloured text.
STYLES: dict[Reason, str] = {
    Reason.RESPONSE: "30;42",
    Reason.INSTRUCTION: "30;46",
    Reason.TEMPLATE: "33",
    Reason.ROLE: "2",
    Reason.SYSTEM: "2",
    Reason.SPACE: "2",
    Reason.IMAGE: "35",
    Reason.TEXT_ONLY: "31",
    Reason.SPECIAL: "2",
}
LEGEND: dict[Reason, str] = {
    Reason.RESPONSE: "learned: response",
    Reason.INSTRUCTION: "instruction",
    Reason.TEMPLATE: "task template",
    Reason.ROLE: "role marker",
    Reason.SYSTEM: "system prompt",
    Reason.SPACE: "blank",
    Reason.IMAGE: "image",
    Reason.TEXT_ONLY: "instruction without image",
    Reason.SPECIAL: "special",
}


def encoder_for_show(cfg: TrainConfig) -> Encoder:
    """The encoder of a run without its weights; a new model's tokenizer is trained for it."""
    from train.task import build_encoder

    if cfg.model is None:
        from train.model import starter_config

        assert cfg.shape is not None
        tokenizer: Any = new_tokenizer(cfg, cfg.shape.vocab_size)
        config = starter_config(cfg.shape, tokenizer)
    else:
        from transformers import AutoConfig, AutoTokenizer

        from cluster.models import resolve_model

        path = resolve_model(cfg.model)
        config, tokenizer = AutoConfig.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    return build_encoder(cfg, config, tokenizer, find_templates(cfg))


def show(cfg: TrainConfig, count: int, *, color: bool) -> Iterator[str]:
    """Lines: the templates found, a legend, then ``count`` rows of the data."""
    encoder = encoder_for_show(cfg)
    yield from _templates(encoder.templates)
    yield "  ".join(_paint(LEGEND[reason], reason, reason in _learned(encoder), color) for reason in Reason)
    rows = list(islice(conversations(cfg, count), count))
    for number, encoded in enumerate(encoder.encode(rows)):
        if isinstance(encoded, BadConversation):
            yield f"\nrow {number}: rejected, {encoded}"
            continue
        total = len(encoded.ids)
        parts = [encoded.is_learned & (encoded.reasons == r) for r in (Reason.INSTRUCTION, Reason.RESPONSE)]
        learned = f"{int(parts[0].sum())} instruction and {int(parts[1].sum())} response"
        yield f"\nrow {number}: {total} tokens, of which {learned} tokens are learned (mode {encoder.mode})"
        yield paint(encoded, encoder, color=color)


def paint(sample: Sample, encoder: Encoder, *, color: bool) -> str:
    """One row: runs of tokens of one reason, in colour or, without, as ``[reason|text]`` with ``+`` where learned."""
    runs = []
    keyed = zip(sample.reasons.tolist(), sample.is_learned.tolist(), sample.ids.tolist(), strict=True)
    for (reason, learned), group in groupby(keyed, key=lambda item: item[:2]):
        ids = [item[2] for item in group]
        text = f"<image>×{len(ids)}" if reason == Reason.IMAGE else str(encoder.tokenizer.decode(ids))
        runs.append(_paint(text, Reason(reason), learned, color))
    return "".join(runs)


def _paint(text: str, reason: Reason, learned: bool, color: bool) -> str:
    if not color:
        return f"[{'+' if learned else ''}{reason.name.lower()}|{text}]"
    style = STYLES[reason] if learned or reason not in (Reason.RESPONSE, Reason.INSTRUCTION) else "36"
    return f"\x1b[{style}m{text}\x1b[0m"


def _learned(encoder: Encoder) -> Sequence[Reason]:
    from train.labels import LEARNED

    return list(LEARNED[encoder.mode])


def _templates(templates: TemplateSet) -> Iterator[str]:
    if templates.counts:
        yield f"{len(templates.counts)} task templates ({templates.source}), most frequent first:"
        for text, n in templates.counts[:10]:
            share = f"{100 * n / templates.turns:5.1f} %  " if templates.turns else ""
            yield f"  {share}{text}"
