"""Teacher forcing: response loss and visual contribution, per sample, in PyTorch.

* Response loss (L2T, protocol P3): mean negative log likelihood of the response tokens, the end token
  included.
* VC (L2T section 4, protocol P4): log p(A | V, I) - log p(A | noise image, I). "No image" is a picture of
  uniform random pixels of the same size, as in the paper; its seed follows from the image's content, so the
  same sample sees the same noise under every model. Also kept per response token, which makes answers of
  unequal length comparable (*ours*).

What counts as response is decided on characters: the chat template rendered with the answer, minus the same
without.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from cluster.errors import UserError
from eval.config import GoldSet
from eval.modelworker import ModelWorker
from eval.samples import Chunk, Pictured

if TYPE_CHECKING:
    from PIL.Image import Image

LIKELIHOOD_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("model", pa.string()),
        ("model_revision", pa.string()),
        ("set", pa.string()),
        ("task", pa.string()),
        ("image_id", pa.string()),
        ("response_tokens", pa.int32()),
        ("logp", pa.float64()),
        ("logp_noise", pa.float64()),
        ("loss", pa.float64()),
        ("loss_noise", pa.float64()),
        ("vc", pa.float64()),
        ("vc_per_token", pa.float64()),
        ("state", pa.string()),
        ("reason", pa.string()),
    ],
    metadata={"l2t.schema": "eval_likelihood", "l2t.schema_version": "1"},
)


@dataclass(frozen=True, kw_only=True)
class LikelihoodJob:
    """One checkpoint on one gold set."""

    uri: str
    name: str
    revision: str
    model: str
    set: str
    gold: GoldSet
    batch: int
    noise_draws: int
    dtype: str
    use_gpu: bool


class Forcer:
    """A checkpoint in transformers that returns log likelihoods of responses."""

    def __init__(self, model: str, dtype: str = "float32", device: str = "cpu") -> None:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        from datagen.chat import ChatTemplate

        self.device = torch.device(device)
        try:
            self.processor = AutoProcessor.from_pretrained(model)
            loaded: Any = AutoModelForImageTextToText.from_pretrained(model, dtype=getattr(torch, dtype))
        except (OSError, ValueError) as error:
            raise UserError(f"{model}: transformers cannot load it for teacher forcing: {error}") from error
        self.model = loaded.to(self.device).eval()
        self.template = ChatTemplate.load(model)
        # Right padding keeps every position's context the same as without padding.
        self.processor.tokenizer.padding_side = "right"

    def render(self, question: str, answer: str, *, has_image: bool = True) -> tuple[str, int]:
        """The whole conversation as text and how many of its last tokens are the response."""
        messages = [
            {"role": "user", "content": self.template._content(question, has_image)},
            {
                "role": "assistant",
                "content": [{"type": "text", "text": answer}] if self.template.parts else answer,
            },
        ]
        apply = self.template.tokenizer.apply_chat_template
        whole = str(apply(messages, tokenize=False)).rstrip()
        prefix = str(apply(messages[:1], tokenize=False, add_generation_prompt=True))
        if not whole.startswith(prefix):
            raise UserError(
                "the chat template renders an answer otherwise than it asks for one; cannot mark responses"
            )
        offsets = self.template.tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        return whole, sum(1 for start, end in offsets if end > max(start, len(prefix)))

    def log_likelihoods(
        self, texts: Sequence[str], counts: Sequence[int], images: Sequence[Image]
    ) -> list[float]:
        """Sum of log probabilities (nats) of the last ``counts[i]`` tokens of each text."""
        import torch

        inputs = self.processor(
            text=list(texts), images=list(images), return_tensors="pt", padding=True, add_special_tokens=False
        )
        inputs = inputs.to(self.device, dtype=self.model.dtype)
        mask = inputs["attention_mask"]
        lengths = mask.sum(dim=1)
        position = torch.arange(mask.shape[1], device=self.device)[None, :]
        first = lengths - torch.tensor(list(counts), device=self.device)
        # Position t predicts token t + 1.
        predicts = (position >= first[:, None] - 1) & (position < lengths[:, None] - 1)
        with torch.inference_mode():
            hidden = self.model.model(**inputs).last_hidden_state[predicts]
            logits = self.model.get_output_embeddings()(hidden).float()
            targets = inputs["input_ids"][:, 1:][predicts[:, :-1]]
            picked = logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(dim=1)
        row = torch.arange(len(texts), device=self.device).repeat_interleave(predicts.sum(dim=1))
        sums = torch.zeros(len(texts), dtype=torch.float64, device=self.device)
        return [float(v) for v in sums.index_add(0, row, picked.double())]


def noise_image(size: tuple[int, int], content: str, draw: int = 0) -> Image:
    """Uniform random RGB pixels; ``content`` (the replaced image's hash) and ``draw`` decide them."""
    from PIL import Image

    seed = int.from_bytes(hashlib.sha256(f"noise-1:{content}:{draw}".encode()).digest()[:8], "big")
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


class LikelihoodWorker(ModelWorker[LikelihoodJob, Forcer]):
    """Teacher forcing of responses."""

    tokens: ClassVar[dict[str, str]] = {"response": "response_tokens"}

    def schema(self) -> pa.Schema:
        """See `ModelWorker`."""
        return LIKELIHOOD_SCHEMA

    def load(self, job: LikelihoodJob, device: str) -> Forcer:
        """See `ModelWorker`."""
        return Forcer(job.model, job.dtype, device)

    def read(
        self, model: Forcer, job: LikelihoodJob, chunk: Chunk, items: list[Pictured]
    ) -> list[dict[str, Any]]:
        """See `ModelWorker`."""
        return rows_of(model, job, items)


def rows_of(forcer: Forcer, job: LikelihoodJob, items: Sequence[Pictured]) -> list[dict[str, Any]]:
    """One row per sample, in order; samples of similar length share a forward pass."""
    rows: list[dict[str, Any]] = [_base(job, item) for item in items]
    ready: list[tuple[int, str, int]] = []
    for i, item in enumerate(items):
        if item.error:
            rows[i] |= {"state": "failed", "reason": f"image: {item.error}"}
            continue
        text, count = forcer.render(item.sample.question, item.answer)
        if count == 0:
            rows[i] |= {"state": "failed", "reason": "empty response"}
            continue
        ready.append((i, text, count))
    ready.sort(key=lambda r: len(r[1]))
    for start in range(0, len(ready), job.batch):
        part = ready[start : start + job.batch]
        places, texts, counts = zip(*part, strict=True)
        seen = forcer.log_likelihoods(texts, counts, [_image(items[i]) for i in places])
        noisy = np.zeros(len(part))
        for draw in range(job.noise_draws):
            pictures = [noise_image(_image(items[i]).size, items[i].image_sha, draw) for i in places]
            noisy += np.array(forcer.log_likelihoods(texts, counts, pictures)) / job.noise_draws
        for i, count, logp, blind in zip(places, counts, seen, noisy, strict=True):
            rows[i] |= _values(count, logp, float(blind))
    return rows


def _image(item: Pictured) -> Image:
    if item.image is None:
        raise ValueError(f"sample {item.sample.id} has no image")
    return item.image


def _base(job: LikelihoodJob, item: Pictured) -> dict[str, Any]:
    return dict.fromkeys(LIKELIHOOD_SCHEMA.names) | {
        "sample_id": item.sample.id,
        "model": job.name,
        "model_revision": job.revision,
        "set": job.set,
        "task": item.sample.task,
        "image_id": item.sample.image_id,
        "state": "accepted",
        "reason": "",
    }


def _values(count: int, logp: float, blind: float) -> dict[str, Any]:
    if not (math.isfinite(logp) and math.isfinite(blind)):
        return {"state": "failed", "reason": f"likelihood is not finite: {logp}, {blind}"}
    return {
        "response_tokens": count,
        "logp": logp,
        "logp_noise": blind,
        "loss": -logp / count,
        "loss_noise": -blind / count,
        "vc": logp - blind,
        "vc_per_token": (logp - blind) / count,
    }
