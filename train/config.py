"""What a training run is: every knob of the three stages, strict and stored with the run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from cluster.config import Config

PRESETS = Path(__file__).parent / "presets"

Mode = Literal["vit", "l2t_all", "l2t_no_system", "l2t"]
Stage = Literal["tower", "pretrain", "finetune"]
Module = Literal["vision_tower", "connector", "language_model"]


class DataSource(Config):
    """One data set of the mixture: images from ``corpus``, conversations from ``instructions``."""

    corpus: str | None = Field(None, description="URI of the corpus; None where every row is text only")
    instructions: str | None = Field(None, description="URI of the instruction set; None in stage tower")
    weight: float = Field(1.0, gt=0, description="passes over the rows per epoch; 0.5 takes half of them")
    kinds: tuple[str, ...] | None = Field(None, description="keep only these kinds of conversation")
    share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="keep this share of the rows, chosen by their ids: always the same ones, and 0.4 lies within 0.6",
    )
    strip_images: bool = Field(
        False, description="read conversations without their pictures (Sight Beyond Text's text-only tuning)"
    )


class ModelShape(Config):
    """A new small LLaVA: SigLIP-style tower, two-layer MLP, Qwen2-style language model with tied embeddings."""

    image_size: int = 64
    patch_size: int = 16
    vision_hidden: int = 128
    vision_layers: int = 3
    vision_heads: int = 4
    vision_intermediate: int = 384
    text_hidden: int = 192
    text_layers: int = 4
    text_heads: int = Field(
        6, description="head size (hidden / heads) must be one that vLLM's CPU attention has: 32, 64"
    )
    text_kv_heads: int = 6
    text_intermediate: int = 512
    vocab_size: int = Field(1024, description="upper bound: BPE merges stop when the text has no more pairs")
    max_positions: int = 1024


class LearningRates(Config):
    """Peak rates; 0 freezes the module."""

    vision_tower: float = Field(0.0, ge=0)
    connector: float = Field(1e-3, ge=0)
    language_model: float = Field(0.0, ge=0)


class Optimizer(Config):
    """AdamW and its schedule."""

    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0
    clip: float = Field(1.0, gt=0, description="gradient norm clip")
    schedule: Literal["cosine", "constant", "wsd"] = "cosine"
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    decay_ratio: float = Field(0.2, gt=0, le=1, description="wsd: the last part of the steps that decays")
    final_ratio: float = Field(0.0, ge=0, le=1, description="lr at the end over peak lr")


class Templates(Config):
    """Task templates: sentences taken out of the instruction loss (L2T section 3.2, appendix A)."""

    source: Literal["mined", "list", "none"] = "mined"
    list: str | None = Field(
        None,
        description="with source: list; name of presets/templates/<name>.yaml, or path or URI of a YAML list or of a "
        "run's templates.json",
    )
    min_share: float = Field(
        0.005,
        ge=0,
        le=1,
        description="mined: share of all human turns that contain the sentence (ours: the paper selects by hand)",
    )
    top_k: int | None = Field(None, description="mined: at most this many")


class Loss(Config):
    """Weights and normalisation (eq. 2 is the unweighted sum of both parts)."""

    w_instruction: float = Field(1.0, ge=0)
    w_response: float = Field(1.0, ge=0)
    normalisation: Literal["global_token_mean", "microbatch_mean"] = Field(
        "global_token_mean",
        description="global: same gradient for any microbatch and number of workers; microbatch: as LLaVA does",
    )
    instruction_loss_on_text_only: bool = Field(
        False,
        description="learn instructions of conversations without image; the paper leaves it open",
    )
    head_rows: int = Field(
        4096,
        gt=0,
        description="learned positions that go through the LM head at once; bounds the memory of logits",
    )


class Checkpointing(Config):
    """What a killed run continues from."""

    every: int = Field(500, gt=0, description="steps")
    keep: int = Field(2, gt=0, description="the newest so many stay")
    keep_best: int = Field(
        0, ge=0, description="so many more stay: those with the lowest held-out response loss; needs holdout"
    )
    export: Literal["last", "best"] = Field("last", description="which one becomes the model of the run")
    preemption_every: int = Field(
        10, gt=0, description="steps between asking Ray for a notice that a node goes away; it is a barrier"
    )


class Holdout(Config):
    """Loss on ``rows`` random rows of a data set that is not trained on; the same rows every time."""

    source: DataSource
    rows: int = 512
    every: int = 500


class Adapter(Config):
    """Low-rank adapters on the language model's linear layers, by peft; merged into the weights at the end."""

    kind: Literal["lora", "dora"] = "lora"
    rank: int = Field(64, gt=0)
    alpha: int = Field(16, gt=0)
    dropout: float = Field(0.05, ge=0, lt=1)
    targets: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        description="names of linear layers; all that the language model has of them",
    )
    quantization: Literal["none", "nf4"] = Field(
        "none", description="nf4: the frozen language model in 4 bits (QLoRA), by bitsandbytes"
    )


class Assembly(Config):
    """A LLaVA put together from a vision tower and a language model; the connector is new (TinyLLaVA)."""

    vision_tower: str = Field(description="CLIP or SigLIP: folder, s3:// URI or hub name")
    language_model: str = Field(description="Qwen2, Phi, Llama …: folder, s3:// URI or hub name")
    feature_layer: int = -2
    drop_head_bias: bool = Field(
        False,
        description="leave out the bias of the language model's head (Phi-2), for which LLaVA has no place",
    )


class TrainConfig(Config):
    """One run of one stage."""

    stage: Stage = "finetune"
    mode: Mode = "vit"
    model: str | None = Field(
        None,
        description="name, folder, s3:// URI or hub name; None builds a new one from `assemble` or of `shape`",
    )
    shape: ModelShape | None = None
    assemble: Assembly | None = None
    adapter: Adapter | None = None
    chat: str = Field(
        "auto",
        description="text layout of a conversation: auto reads it from the model's chat template; or one of "
        "starter, vicuna, tinyllava-qwen2, tinyllava-phi, chatml, plain",
    )
    data: tuple[DataSource, ...] = Field(min_length=1)
    output: str = Field(description="URI of the run: <root>/checkpoints/<run>")

    steps: int | None = Field(None, gt=0)
    epochs: float | None = Field(None, gt=0)
    global_batch: int = Field(
        64, gt=0, description="conversations (tower: images) per optimizer step over all workers"
    )
    microbatch: int = Field(
        32, gt=0, description="conversations per forward pass of one worker, padded; see microbatch_tokens"
    )
    microbatch_tokens: int | None = Field(
        None,
        gt=0,
        description="tokens per forward pass of one worker: conversations are packed, without padding; None pads",
    )
    max_length: int = Field(
        512,
        gt=0,
        description="tokens with image tokens; longer conversations lose their tail, never image tokens",
    )

    lr: LearningRates = LearningRates()
    optimizer: Optimizer = Optimizer()
    loss: Loss = Loss()
    templates: Templates = Templates()
    checkpoint: Checkpointing = Checkpointing()
    holdout: Holdout | None = None

    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="bf16: autocast, weights and optimizer stay fp32; auto: bf16 where the hardware multiplies it fast",
    )
    export_dtype: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    window_shards: int = Field(8, gt=0, description="rows are shuffled among this many shards held in memory")
    group_batches: int = Field(
        8, gt=0, description="conversations of similar length are put together among this many batches"
    )
    group_rows: int = Field(
        32, gt=0, description="how many conversations of similar length stay together in a batch"
    )
    image_cache_mb: int = Field(512, ge=0)
    loaders: int = Field(
        0,
        ge=0,
        description="processes that read, tokenise and decode for one worker; 0: a thread of the worker",
    )
    image_position: Literal["first", "refuse"] = Field(
        "first",
        description="a picture that stands after its instruction does not condition it: first puts it before, and "
        "counts the row; refuse rejects the row",
    )
    workers: int | tuple[int, int] = Field(
        0,
        description="0: in this process; n: Ray Train workers; [least, most]: as many as the cluster has (elastic)",
    )
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="ddp: every worker holds all; fsdp: weights, gradients and optimizer are spread (FSDP2)",
    )
    gradient_checkpointing: bool = Field(False, description="compute activations again in the backward pass")
    compile: bool = Field(False, description="torch.compile the language model's layers")
    peak_tflops: float | None = Field(
        None, gt=0, description="of one worker's device, for MFU; None looks the device up, where it is known"
    )
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ("tensorboard",)
    use_gpu: bool = False
    threads: int = Field(1, gt=0, description="CPU threads per worker")
    max_failures: int = Field(
        2, ge=0, description="Ray Train: worker-group restarts from the last checkpoint"
    )
    log_every: int = Field(20, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        if self.model is None and (self.shape is None) == (self.assemble is None):
            raise ValueError("give model (what to start from), or assemble, or shape (a new model)")
        if self.microbatch_tokens is not None and self.microbatch_tokens < self.max_length:
            raise ValueError(
                f"microbatch_tokens {self.microbatch_tokens} is below max_length {self.max_length}: the longest "
                "conversation would fit into no forward pass"
            )
        if (self.checkpoint.keep_best or self.checkpoint.export == "best") and self.holdout is None:
            raise ValueError("checkpoint.keep_best and export: best go by the held-out loss: give holdout")
        least, most = self.workers if isinstance(self.workers, tuple) else (self.workers, self.workers)
        if least < 0 or most < least or (most > least and least < 1):
            raise ValueError(
                f"workers {self.workers}: give 0, a number, or [least, most] with 1 <= least <= most"
            )
        if self.parallel == "fsdp" and self.adapter is not None and self.adapter.quantization != "none":
            raise ValueError("adapter.quantization: 4-bit weights cannot be sharded here; use parallel: ddp")
        if self.parallel == "fsdp" and most == 0:
            raise ValueError("parallel: fsdp spreads a model over Ray Train workers: give workers")
        for source in self.data:
            if self.stage == "tower" and source.corpus is None:
                raise ValueError("stage tower reads annotations: every entry of data needs a corpus")
            if source.strip_images and source.corpus is None:
                raise ValueError("strip_images: there is no corpus, so there are no pictures to leave out")
            if self.stage != "tower" and source.instructions is None:
                raise ValueError(
                    f"stage {self.stage} reads conversations: every entry of data needs instructions"
                )
        if self.templates.source == "list" and not self.templates.list:
            raise ValueError("templates.source is list: name it in templates.list")
        return self
