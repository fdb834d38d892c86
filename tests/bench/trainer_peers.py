"""The peers of bench_trainers.py, as somebody who knows them sets them up: transformers' Trainer and TRL's SFTTrainer.

Both get a `datasets` table with pictures as it stores them (encoded bytes, opened when a row is read), length-grouped
or random batches, the same number of conversations a forward pass as ours where it pads, fused AdamW, no checkpoints on
the way, no reports. What shaped it (transformers 5.13.1, TRL 1.16):

- `group_by_length` sorts stretches of 50 batches from the longest to the shortest conversation, and computes them in
  that order: little padding, and a batch is all of one kind. It is fast and learns much less per step; ``random``
  batches learn what ours learn. So both are offered, and with equal learning it is ``random`` that compares.
- Neither packs pictures with text: TRL refuses `packing` and `padding_free` for data with images, Trainer has neither.
- TRL's own collator for pictures cannot learn all answers of a dialogue: `assistant_only_loss` wants transformers 5.18
  there, and prompt with completion is one answer. So for dialogues TRL gets the same collator as Trainer; with
  ``one_turn`` data (a dialogue is one question) it uses its own with `completion_only_loss`.
- SFTConfig's defaults bf16 and gradient checkpointing are off, as for everybody here.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def rows_of(data: dict[str, str], tokenizer: Any, *, split: bool) -> list[Row]:
    """Every conversation as messages with its picture and its number of tokens.

    Args:
        split: into prompt and completion.
    """
    from cluster.datasets import iter_tables

    pictures = {
        row["image_id"]: row["image"]["bytes"]
        for table in iter_tables(data["corpus"])
        for row in table.select(["image_id", "image"]).to_pylist()
    }
    rows = []
    for table in iter_tables(data["instructions"]):
        for values in table.to_pylist():
            talk = [{"role": turn["role"], "content": turn["text"]} for turn in values["conversation"]]
            length = sum(len(tokenizer(turn["content"])["input_ids"]) + 4 for turn in talk)
            row: Row = {"image": {"bytes": pictures[values["image_ids"][0]]}, "length": length}
            rows.append(row | ({"prompt": talk[:1], "completion": talk[1:]} if split else {"messages": talk}))
    return rows


class ResponseCollator:
    """Messages and pictures to a padded batch in which the answers and their end tokens are learned.

    Which tokens these are is found in the token ids, all rows at once: after as many role markers as there have been,
    one more end has to come.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.marker = processor.tokenizer(" ASSISTANT:", add_special_tokens=False)["input_ids"]
        self.end = processor.tokenizer.eos_token_id
        self.tokens = 0

    def __call__(self, rows: list[Row]) -> Any:
        """What the model takes, with labels."""
        texts = []
        for row in rows:
            first, *others = row["messages"]
            parts = [{"type": "image"}, {"type": "text", "text": first["content"]}]
            talk = [{"role": "user", "content": parts}, *others]
            texts.append(self.processor.apply_chat_template(talk, tokenize=False))
        batch = self.processor(
            text=texts,
            images=[row["image"] for row in rows],
            padding=True,
            padding_side="right",
            return_tensors="pt",
        )
        ids = batch["input_ids"]
        batch["labels"] = ids.masked_fill(~self.learned(ids), -100)
        self.tokens += int((batch["labels"] != -100).sum())
        return batch

    def learned(self, ids: Any) -> Any:
        """[rows, tokens] whether a token belongs to an answer."""
        import torch

        marked = torch.ones_like(ids, dtype=torch.bool)
        size = len(self.marker)
        for offset, token in enumerate(self.marker):
            marked &= (ids == token).roll(size - offset, 1)
        ends = (ids == self.end).long()
        return marked.cumsum(1) > ends.cumsum(1) - ends


def train(
    side: str, model: str, data: dict[str, str], out: Path, settings: dict[str, Any]
) -> tuple[dict[int, tuple[float, float]], dict[str, Any]]:
    """Train to the last step and store the model in ``out``.

    Args:
        side: ``trainer`` or ``trl``.
        settings: steps, batch, microbatch, lr, log_every, threads, workers, sampling, seed, one_turn.

    Returns:
        clock and CPU time at the end of each step; curve [(step, loss)] and how many tokens were learned (None where
        TRL's collator does not tell).
    """
    import datasets
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback

    torch.set_num_threads(settings["threads"])
    processor = AutoProcessor.from_pretrained(model)
    network = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32)
    own = side == "trl" and settings["one_turn"]
    table = datasets.Dataset.from_list(rows_of(data, processor.tokenizer, split=own)).cast_column(
        "image", datasets.Image()
    )
    collator = None if own else ResponseCollator(processor)
    marks: dict[int, tuple[float, float]] = {}

    class Clock(TrainerCallback):
        """When each step ended."""

        def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
            marks[state.global_step] = time.perf_counter(), time.process_time()

    common: dict[str, Any] = {
        "output_dir": str(out / "state"),
        "max_steps": settings["steps"],
        "per_device_train_batch_size": settings["microbatch"],
        "gradient_accumulation_steps": settings["batch"] // settings["microbatch"],
        "learning_rate": settings["lr"],
        "lr_scheduler_type": "constant",
        "adam_beta1": 0.9,
        "adam_beta2": 0.98,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "train_sampling_strategy": settings["sampling"],
        "dataloader_num_workers": settings["workers"],
        "dataloader_pin_memory": False,
        "remove_unused_columns": False,
        "logging_steps": settings["log_every"],
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": settings["seed"],
    }
    if side == "trainer":
        from transformers import Trainer, TrainingArguments

        runner = Trainer(
            model=network,
            args=TrainingArguments(**common),
            data_collator=collator,
            train_dataset=table,
            processing_class=processor,
            callbacks=[Clock()],
        )
    else:
        from trl import SFTConfig, SFTTrainer

        runner = SFTTrainer(
            model=network,
            args=SFTConfig(**common, bf16=False, gradient_checkpointing=False, max_length=None),
            data_collator=collator,
            train_dataset=table,
            processing_class=processor,
            callbacks=[Clock()],
        )
    runner.train()
    runner.save_model(str(out / "model"))
    processor.save_pretrained(out / "model")
    curve = [(line["step"], line["loss"]) for line in runner.state.log_history if "loss" in line]
    learned = collator.tokens if collator else None
    return marks, {"curve": curve, "learned": learned}
