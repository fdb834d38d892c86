"""log p(option | prompt, picture) for every option of a question, teacher-forced in PyTorch.

What multiple choice by likelihood compares (TruthfulQA MC1 and MC2, Ethics, MMLU, AGIEval): the sum over an option's
tokens, no norm. An option's tokens are those that end behind the prompt's last character, in the tokens of both
together, which is lm-evaluation-harness's rule.

Options of a question share their prompt, so it is read once: its keys and values are kept and each option is read
behind them. An option of one token (MMLU's letters) needs no second pass at all. Prompts are padded on the left and
options on the right, so that no hole lies between them and sliding windows stay true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import TYPE_CHECKING, Any

from cluster.errors import UserError
from datagen.chat import MIN_MARKER, ChatTemplate, without_markers
from datagen.records import Turn

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

# Processors' outputs of one number a token; they are made anew for the prompt alone.
_BY_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A prompt and what may follow it, as the model reads them; ``special`` lets the tokenizer add its own marks."""

    prompt: str
    options: tuple[str, ...]
    image: Image | None = None
    special: bool = False


@dataclass(frozen=True, kw_only=True)
class Told:
    """Per option the summed log probability (nats) and its number of tokens; ``error`` says why there are none.

    ``cut`` tokens of the prompt's beginning were left out, because the model reads no more (as the harness does).
    """

    logps: tuple[float, ...] = ()
    tokens: tuple[int, ...] = ()
    prompt_tokens: int = 0
    cut: int = 0
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class _Split:
    """Token ids of a question: what all options share, what is each one's own, how many of its last are the option's.

    ``shared`` holds one placeholder for a picture, where a processor writes many.
    """

    asked: Asked
    shared: list[int]
    tails: list[list[int]]
    counts: list[int]


@dataclass(frozen=True, kw_only=True)
class _Prompts:
    """Prompts that were read: their keys and values, the state of each one's last token, and where the next stands."""

    cache: Any
    mask: Tensor  # [rows, tokens]
    last: Tensor  # [rows, vocabulary], log probabilities
    next: Tensor  # [rows]


@dataclass(frozen=True, kw_only=True)
class _Tail:
    """An option's own tokens behind the prompt of ``row``."""

    row: int
    option: int
    ids: list[int]
    count: int


class OptionReader:
    """A checkpoint in transformers: any of the image-text families, or a plain language model."""

    def __init__(self, model: str, dtype: str = "float32", device: str = "cpu") -> None:
        import torch
        from transformers import (
            AutoConfig,
            AutoModelForCausalLM,
            AutoModelForImageTextToText,
            AutoProcessor,
            AutoTokenizer,
        )
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

        self.name = model
        self.device = torch.device(device)
        self.processor: Any = None
        try:
            config = AutoConfig.from_pretrained(model)
            sees = config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
            kind: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
            if sees:
                self.processor = AutoProcessor.from_pretrained(model)
            tokenizer: Any = self.processor.tokenizer if sees else AutoTokenizer.from_pretrained(model)
            loaded = kind.from_pretrained(model, dtype=getattr(torch, dtype), use_safetensors=True)
            self.model = loaded.to(self.device).eval()
        except (OSError, ValueError) as error:
            raise UserError(f"{model}: transformers cannot load it for teacher forcing: {error}") from error
        self.tokenizer = tokenizer
        self.tokenizer.padding_side = "left"
        self.longest: int = self.model.config.get_text_config().max_position_embeddings
        self._template: ChatTemplate | None = None
        special = {*self.tokenizer.all_special_tokens, getattr(self.processor, "image_token", "")}
        self._marks = tuple(sorted(mark for mark in special if len(mark) >= MIN_MARKER))

    def ask(
        self, question: str, options: Sequence[str], image: Image | None = None, *, chat: bool = False
    ) -> Asked:
        """A question as text of the model.

        Args:
            chat: in the model's chat template; else the bare text with options behind a space, as the benchmarks'
                authors do. With a picture it is always the template, which alone knows how a picture is written.

        Raises:
            UserError: a picture for a language model, or a template is needed and there is none.
        """
        if not chat and image is None:
            bare = without_markers(question, self._marks).rstrip()
            listed = tuple(f" {without_markers(option, self._marks)}" for option in options)
            return Asked(prompt=bare, options=listed, special=True)
        if image is not None and self.processor is None:
            raise UserError(f"{self.name} is a language model; it reads no pictures")
        if self._template is None:
            placeholder = getattr(self.processor, "image_token", "<image>")
            self._template = ChatTemplate.load(self.name, placeholder)
        template, user = self._template, Turn(role="user", text=question)
        before = template.before_answer()
        return Asked(
            prompt=template.render([user], has_image=image is not None),
            options=tuple(before + template.harmless(option) for option in options),
            image=image,
        )

    def read(self, asked: Sequence[Asked], batch: int = 16) -> list[Told]:
        """What the model gives to each option of each question, in order.

        Questions of similar length share a pass; ``batch`` is how many prompts, and how many options, one takes.
        """
        told = [Told()] * len(asked)
        ready: list[tuple[int, _Split]] = []
        for place, one in enumerate(asked):
            found = self._split(one)
            if isinstance(found, str):
                told[place] = Told(error=found)
            else:
                ready.append((place, found))
        for _, alike in groupby(sorted(ready, key=lambda r: _kind(r[1])), key=lambda r: _kind(r[1])):
            by_length = sorted(alike, key=lambda r: len(r[1].shared))
            for start in range(0, len(by_length), batch):
                places, splits = zip(*by_length[start : start + batch], strict=True)
                for place, answer in zip(places, self._pass(splits, batch), strict=True):
                    told[place] = answer
        return told

    def _split(self, asked: Asked) -> _Split | str:
        """Tokens of a question, or why it cannot be read."""
        if not asked.options:
            return "there are no options to compare"
        read = [self._tokens(asked, option) for option in asked.options]
        empty = [k for k, (_, count) in enumerate(read, 1) if count == 0]
        if empty:
            return f"option {empty[0]} is empty"
        ids, counts = [i for i, _ in read], [count for _, count in read]
        # What a prompt's last state predicts must be an option's first token, or one before it.
        first = min(len(i) - count for i, count in zip(ids, counts, strict=True))
        alike = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*ids, strict=False)))
        begin = min(first, alike)
        if begin < 1:
            return "there is no prompt in front of the options"
        return _Split(asked=asked, shared=ids[0][:begin], tails=[i[begin:] for i in ids], counts=counts)

    def _tokens(self, asked: Asked, option: str) -> tuple[list[int], int]:
        """Ids of prompt and option together, and how many of the last are the option's."""
        text, end = asked.prompt + option, len(asked.prompt)
        read = self.tokenizer(text, add_special_tokens=asked.special, return_offsets_mapping=True)
        ids, places = list(read["input_ids"]), list(read["offset_mapping"])
        while places and places[-1][1] == 0:  # an end mark that the tokenizer adds
            ids.pop(), places.pop()
        return ids, sum(1 for start, stop in places if stop > max(start, end))

    def _pass(self, splits: Sequence[_Split], batch: int) -> list[Told]:
        """Questions of one kind together: their prompts, then all their options."""
        rooms = [self.longest - max(len(tail) for tail in split.tails) for split in splits]
        prompts, features = self._prompts(splits)
        # A text's beginning can be left out, a picture cannot.
        wrong = [
            f"prompt and options have {len(prompt) + self.longest - room} tokens, the model reads {self.longest}"
            if room < 1 or (features and len(prompt) > room)
            else ""
            for prompt, room in zip(prompts, rooms, strict=True)
        ]
        if any(wrong):
            fit = [split for split, error in zip(splits, wrong, strict=True) if not error]
            rest = iter(self._pass(fit, batch) if fit else [])
            return [Told(error=error) if error else next(rest) for error in wrong]
        kept = [prompt[-room:] for prompt, room in zip(prompts, rooms, strict=True)]
        read = self._read_prompts(kept, features)
        tails = [
            _Tail(row=row, option=k, ids=ids, count=count)
            for row, split in enumerate(splits)
            for k, (ids, count) in enumerate(zip(split.tails, split.counts, strict=True))
        ]
        tails.sort(key=lambda tail: len(tail.ids))
        found: dict[tuple[int, int], float] = {}
        for start in range(0, len(tails), batch):
            found |= self._read_tails(read, tails[start : start + batch])
        return [
            Told(
                logps=tuple(found[row, k] for k in range(len(split.tails))),
                tokens=tuple(split.counts),
                prompt_tokens=len(kept[row]),
                cut=len(prompts[row]) - len(kept[row]),
            )
            for row, split in enumerate(splits)
        ]

    def _prompts(self, splits: Sequence[_Split]) -> tuple[list[list[int]], dict[str, Any]]:
        """Ids of each prompt with all the placeholders of its picture, and the pictures as the model takes them."""
        if splits[0].asked.image is None:
            return [split.shared for split in splits], {}
        # A list per prompt: families with several tiles a picture cannot tell otherwise whose a picture is.
        inputs = self.processor(
            text=[split.asked.prompt + split.asked.options[0] for split in splits],
            images=[[split.asked.image.convert("RGB")] for split in splits],  # type: ignore[union-attr]
            return_tensors="pt",
            padding=True,
            add_special_tokens=splits[0].asked.special,
        )
        prompts = [
            ids[real][: -len(split.tails[0])].tolist()
            for ids, real, split in zip(
                inputs["input_ids"], inputs["attention_mask"].bool(), splits, strict=True
            )
        ]
        return prompts, {name: value for name, value in inputs.items() if name not in _BY_TOKEN}

    def _read_prompts(self, prompts: Sequence[list[int]], features: dict[str, Any]) -> _Prompts:
        import torch
        from transformers import BatchFeature, DynamicCache

        ids, mask = _padded(prompts, self.device, left=True)
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask.long()}
        inputs |= BatchFeature(features).to(self.device, dtype=self.model.dtype)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        if features and hasattr(self.model.base_model, "get_rope_index"):
            kinds = ids.eq(self.model.config.image_token_id).int()
            inputs["mm_token_type_ids"] = kinds
            positions, _ = self.model.base_model.get_rope_index(
                ids,
                kinds,
                image_grid_thw=features["image_grid_thw"].to(self.device),
                attention_mask=mask.long(),
            )
        with torch.inference_mode():
            # No configuration: a cache that forgets what slid out of a window could not be read from again.
            out = self.model.base_model(
                **inputs, position_ids=positions, past_key_values=DynamicCache(), use_cache=True
            )
            last = (
                self.model.get_output_embeddings()(out.last_hidden_state[:, -1]).float().log_softmax(dim=-1)
            )
        # Three axes, where the family has them, go on together from the largest.
        following = positions.view(-1, *ids.shape).amax(dim=0).masked_fill(~mask, -1).amax(dim=1) + 1
        return _Prompts(cache=out.past_key_values, mask=mask, last=last, next=following)

    def _read_tails(self, prompts: _Prompts, tails: Sequence[_Tail]) -> dict[tuple[int, int], float]:
        """Sum of log probabilities of each option's own tokens, by (row, option)."""
        import torch

        rows = torch.tensor([tail.row for tail in tails], device=self.device)
        ids, mask = _padded([tail.ids for tail in tails], self.device, left=False)
        place = torch.arange(ids.shape[1], device=self.device)[None]
        lengths = mask.sum(dim=1, keepdim=True)
        counts = torch.tensor([[tail.count] for tail in tails], device=self.device)
        asked = mask & (place >= lengths - counts)
        logps = torch.zeros(ids.shape, dtype=torch.float64, device=self.device)
        logps[:, 0] = prompts.last[rows, ids[:, 0]].double()
        if ids.shape[1] > 1:
            # Token t predicts token t + 1, so the last one is not read.
            with torch.inference_mode():
                hidden = self.model.base_model(
                    input_ids=ids[:, :-1],
                    attention_mask=torch.cat([prompts.mask[rows], mask[:, :-1]], dim=1).long(),
                    position_ids=self._behind(prompts.next[rows][:, None] + place[:, :-1]),
                    past_key_values=_taken(prompts.cache, rows),
                    use_cache=True,
                ).last_hidden_state
                wanted = asked[:, 1:]
                logits = self.model.get_output_embeddings()(hidden[wanted]).float()
                picked = logits.gather(1, ids[:, 1:][wanted][:, None])[:, 0] - logits.logsumexp(dim=1)
            logps[:, 1:][wanted] = picked.double()
        sums = (logps * asked).sum(dim=1).tolist()
        return {(tail.row, tail.option): value for tail, value in zip(tails, sums, strict=True)}

    def _behind(self, positions: Tensor) -> Tensor:
        """[rows, tokens] positions of text as the model takes them."""
        return positions.expand(3, -1, -1) if hasattr(self.model.base_model, "get_rope_index") else positions


def _kind(split: _Split) -> tuple[bool, bool]:
    return split.asked.image is None, split.asked.special


def _padded(rows: Sequence[list[int]], device: Any, *, left: bool) -> tuple[Tensor, Tensor]:
    """([rows, tokens] ids with zeros for padding, [rows, tokens] what is no padding)."""
    import torch

    ids = torch.zeros((len(rows), max(map(len, rows))), dtype=torch.long)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for k, row in enumerate(rows):
        part = slice(ids.shape[1] - len(row), None) if left else slice(len(row))
        ids[k, part], mask[k, part] = torch.tensor(row), True
    return ids.to(device), mask.to(device)


def _taken(cache: Any, rows: Tensor) -> Any:
    """A copy of some rows of a cache, which reading on changes."""
    from transformers import DynamicCache

    taken = DynamicCache()
    for number, layer in enumerate(cache.layers):
        taken.update(layer.keys[rows], layer.values[rows], number)
    return taken
