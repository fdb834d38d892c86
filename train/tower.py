"""Stage tower: teach a new vision tower to name what is in each patch.

Ours, not the paper's: it stands in for the pre-trained CLIP or SigLIP tower that a real run starts from. Targets come
from annotated boxes of any corpus: each patch is told the words (names and attributes) of the objects in it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cluster import datasets
from cluster.errors import UserError
from datagen.corpus import BadImage
from train.config import TrainConfig
from train.feed.batch import Reject, StepBatch
from train.feed.order import Order, Row, units_of
from train.feed.packing import pad
from train.feed.pictures import Picture, Pictures

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration

# Share of a patch that a box must cover for its words to count there; the patch of the box's centre always counts.
MIN_COVER = 0.3
_COLUMNS = ["image_id", "image", "width", "height", "objects"]


@dataclass(frozen=True, kw_only=True)
class TowerMicrobatch:
    """Pictures and their patch targets [images, patches, words]."""

    pictures: list[Picture]
    targets: NDArray[np.float32]

    @staticmethod
    def empty() -> TowerMicrobatch:
        """No picture."""
        return TowerMicrobatch(pictures=[], targets=np.zeros((0, 0, 0), np.float32))

    @property
    def counts(self) -> NDArray[np.int64]:
        """Patches."""
        return np.array([self.targets.shape[0] * self.targets.shape[1]])


def vocabulary(corpora: Sequence[str], shards: int = 4) -> list[str]:
    """Every word that names or describes an object in the first shards of the corpora, sorted."""
    words: set[str] = set()
    for uri in corpora:
        for index in range(min(shards, len(datasets.read_manifest(uri).shards))):
            for objects in datasets.read_shard(uri, index, columns=["objects"])["objects"].to_pylist():
                for thing in objects or []:
                    words.update((thing["name"], *(thing["attributes"] or ())))
    if not words:
        raise UserError(f"stage tower needs objects with boxes; {', '.join(corpora)} has none")
    return sorted(words)


def patch_targets(
    objects: Sequence[dict[str, Any]], width: int, height: int, side: int, index: dict[str, int]
) -> NDArray[np.float32]:
    """[side * side, words] with 1 where an object with that word covers the patch, row by row from the upper left.

    Args:
        side: patches per edge; the picture is resized to a square of that many patches.
    """
    targets = np.zeros((side, side, len(index)), np.float32)
    edges = np.arange(side + 1)
    for thing in objects:
        x1, y1, x2, y2 = np.array(thing["box"], np.float64) * np.array([side / width, side / height] * 2)
        across = np.clip(np.minimum(edges[1:], x2) - np.maximum(edges[:-1], x1), 0, 1)
        down = np.clip(np.minimum(edges[1:], y2) - np.maximum(edges[:-1], y1), 0, 1)
        covered = np.outer(down, across) >= MIN_COVER
        row, column = (min(max(int(v), 0), side - 1) for v in ((y1 + y2) / 2, (x1 + x2) / 2))
        covered[row, column] = True
        words = [index[w] for w in (thing["name"], *(thing["attributes"] or ())) if w in index]
        for word in words:
            targets[covered, word] = 1
    return targets.reshape(side * side, len(index))


class TowerLoss(nn.Module):
    """A linear head on the features that the connector will read; multi-label, because a patch has several words."""

    parts = ("patch",)

    def __init__(self, model: LlavaForConditionalGeneration, pictures: Pictures, words: int) -> None:
        super().__init__()
        self.model, self._pictures = model, pictures
        vision: Any = model.config.vision_config
        self.head = nn.Linear(vision.hidden_size, words)

    def forward(self, batch: TowerMicrobatch) -> Tensor:
        """[1] sum over patches of the binary cross-entropies of all words."""
        if not batch.pictures:
            return 0.0 * self.head(self._features(self._pictures.blank())).sum()[None]
        logits = self.head(self._features(self._pictures.batch(batch.pictures))).float()
        targets = torch.from_numpy(batch.targets).to(logits.device)
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")[None]

    def _features(self, pictures: dict[str, Tensor]) -> Tensor:
        """[images, patches, hidden] before the connector."""
        llava: Any = self.model.model
        config: Any = self.model.config
        pixels = pictures["pixel_values"].to(self.model.device)
        hidden = llava.vision_tower(pixels, output_hidden_states=True).hidden_states
        found = hidden[config.vision_feature_layer]
        return found[:, 1:] if config.vision_feature_select_strategy == "default" else found


class TowerData:
    """All batches of a tower run, for one worker."""

    def __init__(self, cfg: TrainConfig, pictures: Pictures, words: Sequence[str], side: int) -> None:
        self.corpora = [str(source.corpus) for source in cfg.data]
        self.pictures, self.microbatch, self.side = pictures, cfg.microbatch, side
        self.index = {word: i for i, word in enumerate(words)}
        counts = [[s.parts["rows"].rows for s in datasets.read_manifest(uri).shards] for uri in self.corpora]
        self.order = Order(
            units_of(counts, [source.weight for source in cfg.data]),
            seed=cfg.seed,
            window=cfg.window_shards,
            batch=cfg.global_batch,
            group_batches=cfg.group_batches,
        )
        self._keep = 2 * cfg.window_shards
        self._shards: OrderedDict[tuple[int, int], list[dict[str, Any]]] = OrderedDict()

    def steps(self, start: int, *, rank: int = 0, world: int = 1, stride: int = 1) -> Iterator[StepBatch]:
        """Steps ``start``, ``start + stride``, … for ever."""
        for step in count(start, stride):
            epoch, batch = divmod(step, self.order.batches_per_epoch)
            low = batch * self.order.batch
            rows = self.order.rows(epoch, low, min(low + self.order.batch, self.order.rows_per_epoch))
            rejects: list[Reject] = []
            shares = pad(np.zeros(len(rows), np.int64), self.microbatch, world)[rank]
            made = [self._microbatch([rows[i] for i in share], rejects) for share in shares]
            samples = sum(len(m.pictures) for m in made)
            yield StepBatch(microbatches=made, rows=len(rows), rejects=rejects, stats={"samples": samples})

    def _shard(self, source: int, shard: int) -> list[dict[str, Any]]:
        key = (source, shard)
        if key not in self._shards:
            self._shards[key] = datasets.read_shard(self.corpora[source], shard, columns=_COLUMNS).to_pylist()
            while len(self._shards) > self._keep:
                self._shards.popitem(last=False)
        self._shards.move_to_end(key)
        return self._shards[key]

    def _microbatch(self, rows: list[Row], rejects: list[Reject]) -> TowerMicrobatch:
        pictures, targets = [], []
        for row in rows:
            values = self._shard(row.source, row.shard)[row.row]
            try:
                pictures.append(self.pictures.get(values["image_id"], partial(_image, values)))
            except BadImage as error:
                rejects.append(Reject(self.corpora[row.source], row.shard, values["image_id"], str(error)))
                continue
            size = values["width"], values["height"]
            targets.append(patch_targets(values["objects"] or [], *size, self.side, self.index))
        if not pictures:
            return TowerMicrobatch.empty()
        return TowerMicrobatch(pictures=pictures, targets=np.stack(targets))


def _image(values: dict[str, Any]) -> tuple[bytes, tuple[int, int]]:
    return (values["image"] or {}).get("bytes") or b"", (values["width"], values["height"])
