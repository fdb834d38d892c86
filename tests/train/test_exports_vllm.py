"""An export of each family says the same in vLLM and in transformers, token for token, with one picture and two."""

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

from tests.train import families
from tests.train.conftest import COLORS, picture
from train.models.export import save_model

ROOT = Path(__file__).parents[2]
NEW_TOKENS = 12
SIZES = [(64, 64), (90, 60), (48, 100)]
# (question, numbers of its pictures)
QUESTIONS = [
    ("What color is it?", (0,)),
    ("Where is the square?", (1,)),
    ("Answer in one word.", (2,)),
    ("What color is it?", (1,)),
    ("What color is it?", (1, 2)),
    ("What color is it?", (2, 0)),
]

# An engine of its own process: it forks workers, sets the environment, and leaves nothing behind in this one.
ENGINE = """
import json, sys
from cluster.runtime import set_environment
set_environment(local=True)

def main():
    from PIL import Image
    from vllm import LLM, SamplingParams
    small = {"enforce_eager": True, "dtype": "float32", "max_model_len": 512, "max_num_seqs": 8}
    llm = LLM("model", disable_log_stats=True, limit_mm_per_prompt={"image": 2}, **small)
    prompts = []
    for asked in json.load(open("asked.json")):
        images = [Image.open(name).convert("RGB") for name in asked["images"]]
        prompts.append({"prompt": asked["prompt"], "multi_modal_data": {"image": images}})
    greedy = SamplingParams(temperature=0, max_tokens=%d, ignore_eos=True)
    outputs = llm.generate(prompts, greedy, use_tqdm=False)
    answers = [[list(o.prompt_token_ids), list(o.outputs[0].token_ids)] for o in outputs]
    json.dump(answers, open("answers.json", "w"))

if __name__ == "__main__":
    main()
"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name",
    [
        # One that splits positions over three axes; the starter's kind is in test_vllm.py.
        pytest.param(name, marks=[] if name == "qwen2_vl" else [pytest.mark.slow])
        for name in families.NAMES
    ],
)
def test_vllm_and_transformers_give_the_same_tokens(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    save_model(*families.build(name), tmp_path / "model")
    model, report = AutoModelForImageTextToText.from_pretrained(
        tmp_path / "model", dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["mismatched_keys"]
    # The backend that vLLM takes, too: PIL's and torchvision's differ by one grey level where they shrink a picture.
    processor = AutoProcessor.from_pretrained(tmp_path / "model")

    for index, ((width, height), color) in enumerate(zip(SIZES, COLORS, strict=True)):
        image = Image.open(io.BytesIO(picture(color, 5 * index)))
        image.resize((width, height)).save(tmp_path / f"{index}.png")
    asked = [
        {
            "prompt": families.prompt(processor, question, len(numbers)),
            "images": [str(tmp_path / f"{number}.png") for number in numbers],
        }
        for question, numbers in QUESTIONS
    ]
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    (tmp_path / "engine.py").write_text(ENGINE % NEW_TOKENS)
    nested = name in ("idefics3", "smolvlm")
    ours = [_greedy(model.eval(), processor, a["prompt"], a["images"], nested=nested) for a in asked]
    assert len({tuple(tokens) for _, tokens in ours}) > 2, "the answers must depend on the pictures"

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "engine.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    theirs = json.loads((tmp_path / "answers.json").read_text())
    assert [prompt for prompt, _ in theirs] == [prompt for prompt, _ in ours], (
        "placeholders are expanded alike"
    )
    assert [tokens for _, tokens in theirs] == [tokens for _, tokens in ours]


def test_the_head_bias_that_vllm_gives_phi_is_written(tmp_path: Path) -> None:
    """transformers' LLaVA has none; vLLM would leave its own as it finds the memory, and says nothing."""
    from safetensors.torch import load_file

    save_model(*families.build("tinyllava_phi"), tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    head = weights["language_model.lm_head.weight"]
    assert torch.equal(weights["language_model.lm_head.bias"], torch.zeros(len(head)))


@torch.no_grad()
def _greedy(
    model: Any, processor: Any, prompt: str, files: list[str], *, nested: bool
) -> tuple[list[int], list[int]]:
    """(prompt, answer) as tokens."""
    images: list[Any] = [Image.open(file).convert("RGB") for file in files]
    batch = processor(text=[prompt], images=[images] if nested else images, return_tensors="pt")
    output = model.generate(
        **batch, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None
    )[0].tolist()
    length = batch["input_ids"].shape[1]
    return output[:length], output[length:]
