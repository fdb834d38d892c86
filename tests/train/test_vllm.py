"""An exported model says the same, token for token, in vLLM and in transformers."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.train.conftest import COLORS, picture
from train.models.export import save_model
from train.models.model import load

ROOT = Path(__file__).parents[2]
QUESTIONS = ["What color is it?", "Where is the square?", "Answer in one word."]
NEW_TOKENS = 12

# An engine of its own process: it forks workers, sets the environment, and leaves nothing behind in this one.
ENGINE = """
import io, json, sys
from cluster.runtime import set_environment
set_environment(local=True)

def main():
    from PIL import Image
    from vllm import LLM, SamplingParams
    asked = json.load(open(sys.argv[2]))
    small = {"enforce_eager": True, "dtype": "float32", "max_model_len": 256, "max_num_seqs": 16}
    llm = LLM(sys.argv[1], disable_log_stats=True, **small)
    images = [Image.open(a["image"]).convert("RGB") for a in asked]
    prompts = [{"prompt": a["prompt"], "multi_modal_data": {"image": i}} for a, i in zip(asked, images)]
    greedy = SamplingParams(temperature=0, max_tokens=%d, ignore_eos=True)
    answers = [list(o.outputs[0].token_ids) for o in llm.generate(prompts, greedy, use_tqdm=False)]
    json.dump(answers, open(sys.argv[3], "w"))

if __name__ == "__main__":
    main()
"""


@pytest.mark.timeout(900)
def test_vllm_and_transformers_give_the_same_tokens(small_model: Any, tmp_path: Path) -> None:
    model, processor = small_model
    save_model(model, processor, tmp_path / "model")
    asked = []
    for i, color in enumerate([*COLORS, *COLORS]):
        (tmp_path / f"{i}.png").write_bytes(picture(color, 5 * i % 16, side=64 if i < 4 else 90))
        prompt = f"USER: <image>\n{QUESTIONS[i % 3]} ASSISTANT:"
        asked.append({"prompt": prompt, "image": str(tmp_path / f"{i}.png")})
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    (tmp_path / "engine.py").write_text(ENGINE % NEW_TOKENS)

    exported, loaded = load(str(tmp_path / "model"))
    ours = [_greedy(exported.eval(), loaded, a["prompt"], Path(a["image"]).read_bytes()) for a in asked]
    assert len({tuple(tokens) for tokens in ours}) > 1, (
        "the answers must depend on the picture for this to mean much"
    )

    command = [sys.executable, "engine.py", "model", "asked.json", "answers.json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "answers.json").read_text()) == ours


@torch.no_grad()
def _greedy(model: Any, processor: Any, prompt: str, image: bytes) -> list[int]:
    batch = processor(images=[Image.open(io.BytesIO(image)).convert("RGB")], text=prompt, return_tensors="pt")
    output = model.generate(
        **batch, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None
    )
    return output[0, batch["input_ids"].shape[1] :].tolist()
