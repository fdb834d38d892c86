"""Folders of runs that never ran, with every field that the log may have, and text that tries to get out."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

HOSTILE = "</title></script><script>window.hacked=1</script><img src=x onerror=window.hacked=1> \u202egnp.exe"


def lines_of(
    mode: str = "l2t", *, steps: int = 400, every: int = 10, overfits: bool = True
) -> list[dict[str, Any]]:
    """Log lines; the held-out response loss is lowest at half of the steps if it overfits, else at the end."""
    rng = random.Random(7)
    learned = mode != "vit"
    lines = []
    for step in range(every, steps + 1, every):
        done = step / steps
        response = 0.6 + 1.9 * math.exp(-6 * done) + rng.gauss(0, 0.03)
        line: dict[str, Any] = {
            "step": step,
            "epoch": 2 * done,
            "loss": response,
            "loss_instruction": 1.2 + 2 * math.exp(-5 * done) if learned else None,
            "loss_response": response,
            "tokens_instruction": 1000 if learned else 0,
            "tokens_response": 3000,
            "tokens": 20_000,
            "masked_share": {"image": 0.6, "role": 0.1, "template": 0.05, "space": 0.05 if learned else 0.1},
            "cut_off_tokens": 2,
            "lr": {"connector": 2e-5 * (1 - done), "language_model": 2e-5 * (1 - done), "vision_tower": 2e-6},
            "grad_norm": 1 + rng.random(),
            "samples_per_s": 110 + rng.random(),
            "tokens_per_s": 41_000 + rng.random(),
            "mfu": 0.43,
            "padding_share": 0.021,
            "data_wait_share": 0.008,
            "memory_gb": 61.2,
            "workers": 2,
            "used": step * 64,
            "rejected": 3,
            "seconds": step * 0.5,
        }
        if step % (10 * every) == 0:
            risen = 0.3 * max(0.0, done - 0.5) if overfits else -0.1 * done
            line |= {
                "holdout_loss": 1.0 - 0.1 * done,
                "holdout_loss_response": 0.8 + math.exp(-30 * done) + risen,
                "holdout_loss_instruction": 1.4 - 0.1 * done if learned else None,
            }
        lines.append(line)
    return lines


def write_run(folder: Path, mode: str = "l2t", *, finished: bool = True, **how: Any) -> str:
    """A run folder with all its files; returns its address."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = lines_of(mode, **how)
    write_lines(folder / "log.jsonl", lines)
    (folder / "config.yaml").write_text(
        f"stage: finetune\nmode: {mode}\nsteps: {lines[-1]['step']}\noutput: {folder}\nnote: '{HOSTILE}'\n"
        "lr:\n  connector: 2.0e-05\ndata:\n- corpus: /data/corpus\n"
    )
    templates = [
        {"text": "Answer in one word.", "count": 4000, "share": 0.4},
        {"text": HOSTILE, "count": 50, "share": 0.005},
    ]
    (folder / "templates.json").write_text(
        json.dumps({"source": "mined", "turns": 10_000, "sha256": "0", "templates": templates})
    )
    reasons = ["2 image tokens for 1 images", "3 image tokens for 1 images", HOSTILE]
    write_lines(
        folder / "rejects.jsonl",
        [{"dataset": "/data/set", "shard": i, "row": f"row-{i}", "reason": r} for i, r in enumerate(reasons)],
    )
    if finished:
        done = {
            "weights_sha256": "ab",
            "steps": lines[-1]["step"],
            "used": 25_600,
            "rejected": 3,
            "seconds": 200.0,
        }
        (folder / "done.json").write_text(json.dumps(done))
    return str(folder)


def write_lines(file: Path, lines: list[dict[str, Any]]) -> None:
    """JSON lines."""
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
