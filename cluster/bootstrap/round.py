"""One round as URIs and command lines: what each stage reads, what it writes, and who may call it finished."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from cluster import storage
from cluster.bootstrap.config import BootstrapConfig, Source
from cluster.bootstrap.decision import Mixture
from cluster.datasets import dataset_exists, read_manifest
from cluster.stages import override
from cluster.storage import join

# Between rounds: loops with neighbouring seeds share none.
SEEDS_APART = 1000


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A command of a round; ``name`` is what a person reads."""

    name: str
    module: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Round:
    """Round ``number`` (from 1), begun with the model of round ``incumbent`` (0: the given one) and the pairs of the
    ``promoted`` rounds in the mix."""

    config: BootstrapConfig
    number: int
    incumbent: int = 0
    promoted: tuple[int, ...] = ()

    @property
    def drafts(self) -> str:
        """URI of what the model writes."""
        return join(self.config.root, "instructions", f"{self.config.name}-{self.number}")

    @property
    def pairs(self) -> str:
        """URI of what is left of it for training."""
        return pairs_of(self.config, self.number)

    @property
    def run(self) -> str:
        """URI of the training run."""
        return run_of(self.config, self.number)

    @property
    def evals(self) -> str:
        """Root of the results; the same for all rounds, so that the incumbent is not measured again."""
        return join(self.config.root, "evals", self.config.name)

    @property
    def diversity(self) -> str:
        """URI of the indicators of what was written, beside those of the original data."""
        return join(self.config.home, f"round-{self.number}-diversity.json")

    def writing(self) -> list[Stage]:
        """Generate and screen, and count how varied the result is."""
        config = self.config
        if config.datagen is None:
            return []
        writer = config.generator or run_of(config, self.incumbent)
        stages = [
            Stage(
                name="generate",
                module="datagen",
                arguments=(
                    config.datagen.preset,
                    override("corpus", config.corpus),
                    override("output", self.drafts),
                    override("round", self.number),
                    override("seed", config.seed),
                    override("engines.generator.model", join(writer, "model")),
                    override("near_duplicate.known", self.known()),
                    *config.datagen.set,
                ),
            )
        ]
        if config.screen is not None:
            near, sets = config.screen.near_duplicate, list(config.screen.decontaminate)
            if config.validation is not None:
                sets.insert(0, config.validation.instructions)
            gates = [] if near is None else [f"--near-duplicate={near}"]
            gates += ["--decontaminate", *sets] if sets else []
            if gates:
                arguments = ("curate", self.drafts, f"--out={self.pairs}", *gates)
                stages.append(Stage(name="screen", module="cluster", arguments=arguments))
        return stages

    def known(self) -> list[str]:
        """URIs of what the mix says already; to say it again teaches nothing."""
        original = [source.instructions for source in self.config.original]
        return original + [pairs_of(self.config, k) for k in self.promoted]

    def observing(self) -> Stage:
        """Indicators of collapse, from the texts alone."""
        return Stage(
            name="diversity",
            module="eval",
            arguments=(
                "diversity",
                self.pairs,
                f"--json={self.diversity}",
                "--reference",
                *(source.instructions for source in self.config.original),
            ),
        )

    def training(self) -> Stage:
        """The incumbent, or the first model anew, learns from the whole mix."""
        config = self.config
        start = run_of(config, 0 if config.mix.restart else self.incumbent)
        return Stage(
            name="train",
            module="train",
            arguments=(
                config.train.preset,
                override("model", join(start, "model")),
                override("data", self.data()),
                override("output", self.run),
                # With one seed a round shorter than an epoch would read the rows of the round before again.
                override("seed", config.seed + SEEDS_APART * self.number),
                *config.train.set,
            ),
        )

    def measuring(self) -> Stage | None:
        """First model, incumbent and candidate on the validation set."""
        config, held = self.config, self.config.validation
        if held is None:
            return None
        rounds = dict.fromkeys((0, self.incumbent, self.number))
        models = [override(f"models.round{k}", join(run_of(config, k), "model")) for k in rounds]
        return Stage(
            name="measure",
            module="eval",
            arguments=(
                "run",
                config.eval.preset,
                *models,
                override("baseline", f"round{self.incumbent}"),
                override("corpus", held.corpus),
                override("instructions", held.instructions),
                override("output", self.evals),
                *config.eval.set,
            ),
        )

    def data(self) -> list[dict[str, Any]]:
        """``data`` of the training: the original sources, then the pairs of all promoted rounds and of this one."""
        data = [self._item(source) for source in self.config.original]
        weight = self.mixture().self_weight
        return data + [
            {"corpus": self.config.corpus, "instructions": uri, "weight": weight} for uri in self._written()
        ]

    def _item(self, source: Source) -> dict[str, Any]:
        item = {"corpus": source.corpus or self.config.corpus, "instructions": source.instructions}
        return item | {k: v for k in ("weight", "share") if (v := getattr(source, k)) != 1.0}

    def _written(self) -> list[str]:
        if self.config.datagen is None:
            return []
        written = (pairs_of(self.config, k) for k in (*self.promoted, self.number))
        return [uri for uri in written if dataset_exists(uri)]

    def mixture(self) -> Mixture:
        """What the training reads; the weight is the one asked for, or what keeps ``max_self_share``."""
        mix = self.config.mix
        original = sum(rows_of(s.instructions) * s.share * s.weight for s in self.config.original)
        written = sum(map(rows_of, self._written()))
        if not written:
            return Mixture(original_rows=original, drafts=self._drafted())
        most = mix.max_self_share / (1 - mix.max_self_share) * original
        weight = min(mix.weight, most / written)
        return Mixture(
            drafts=self._drafted(),
            original_rows=original,
            written_rows=written,
            self_weight=weight,
            self_share=weight * written / (weight * written + original),
        )

    def _drafted(self) -> dict[str, int]:
        return read_manifest(self.drafts).totals.counts if dataset_exists(self.drafts) else {}

    def reached(self) -> str:
        """The last stage that is finished, as far as its output tells; "begun" where none is."""
        if storage.exists(join(self.run, "done.json")):
            return "train"
        if self.config.datagen is not None and dataset_exists(self.pairs):
            return "screen" if self.pairs != self.drafts else "generate"
        return "begun"

    def summary(self) -> dict[str, Any]:
        """The comparison that measuring wrote last."""
        return dict(json.loads(storage.read_bytes(join(self.evals, "summary.json"))))


def run_of(config: BootstrapConfig, number: int) -> str:
    """URI of the training run of a round; round 0 is the model we start from."""
    return config.model if number == 0 else join(config.root, "checkpoints", f"{config.name}-{number}")


def pairs_of(config: BootstrapConfig, number: int) -> str:
    """URI of the pairs of a round that may be learned from."""
    screened = config.screen is not None and (
        config.screen.near_duplicate is not None
        or config.screen.decontaminate
        or config.validation is not None
    )
    return join(config.root, "instructions", f"{config.name}-{number}" + ("-kept" if screened else ""))


def rows_of(uri: str) -> int:
    """Accepted rows of a published data set."""
    return read_manifest(uri).totals.rows.get("rows", 0)
