"""The language model alone says about text what the whole model says, to the bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.errors import UserError
from tests.train import families
from train.models.extract import extract_language_model, main

CLASSES = {
    "llava": "LlamaForCausalLM",
    "tinyllava": "Qwen2ForCausalLM",
    "tinyllava_phi": "PhiForCausalLM",
    "llava_next": "MistralForCausalLM",
    "llava_onevision": "Qwen2ForCausalLM",
    "qwen2_vl": "Qwen2ForCausalLM",
    "qwen2_5_vl": "Qwen2ForCausalLM",
    "idefics3": "LlamaForCausalLM",
    "smolvlm": "LlamaForCausalLM",
}
SENTENCES = ["Where is the square?", "The picture shows 2 of them; wörld 漢字 in row 1.\n" * 4]


@pytest.mark.parametrize("name", families.NAMES)
def test_text_logits_and_answers_are_equal(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, processor = families.build(name, tmp_path / "model")
    assert extract_language_model(str(tmp_path / "model"), tmp_path / "alone") == CLASSES[name]

    alone, report = AutoModelForCausalLM.from_pretrained(tmp_path / "alone", output_loading_info=True)
    alone.eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "alone")
    assert type(alone).__name__ == CLASSES[name]
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert (alone.lm_head.weight is alone.get_input_embeddings().weight) == tied
    for sentence in SENTENCES:
        ids = processor.tokenizer(sentence, return_tensors="pt")["input_ids"]
        assert torch.equal(tokenizer(sentence, return_tensors="pt")["input_ids"], ids)
        with torch.no_grad():
            assert torch.equal(alone(ids).logits, model(input_ids=ids).logits)
    settings = {"max_new_tokens": 12, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    assert torch.equal(alone.generate(ids, **settings), model.generate(ids, **settings))
    messages = [{"role": "user", "content": "Say blue."}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == processor.apply_chat_template(messages)


def test_precision_of_the_checkpoint_is_kept(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    model, processor = families.build("qwen2_vl")
    model.to(torch.bfloat16).save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "model", dtype="auto").eval()
    extract_language_model(str(tmp_path / "model"), tmp_path / "alone")
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "alone", dtype="auto").eval()
    assert alone.dtype == torch.bfloat16
    ids = torch.arange(20)[None] + 100
    with torch.no_grad():
        assert torch.equal(alone(ids).logits, model(input_ids=ids).logits)


def test_a_qwen2_with_another_tokenizer_is_written_as_the_llama_that_it_equals(
    small_model: Any, tmp_path: Path
) -> None:
    """transformers would give a folder of type qwen2 Qwen2's splitting, in which the starter's numbers fall apart."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, processor = small_model
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    assert extract_language_model(str(tmp_path / "model"), tmp_path / "alone") == "LlamaForCausalLM"
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "alone").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "alone")
    ids = processor.tokenizer("USER: Where? ASSISTANT: [12, 34]", return_tensors="pt")["input_ids"]
    assert torch.equal(tokenizer("USER: Where? ASSISTANT: [12, 34]", return_tensors="pt")["input_ids"], ids)
    with torch.no_grad():
        assert torch.equal(alone(ids).logits, model(input_ids=ids).logits)


def test_what_is_refused(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    with pytest.raises(UserError, match="there is no model folder"):
        extract_language_model(str(tmp_path / "none"), tmp_path / "out")
    small = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    LlamaForCausalLM(LlamaConfig(vocab_size=64, **small)).save_pretrained(tmp_path / "text")
    with pytest.raises(UserError, match="'llama'"):
        extract_language_model(str(tmp_path / "text"), tmp_path / "out")
    with pytest.raises(UserError, match="exists already"):
        extract_language_model(str(tmp_path / "text"), tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    families.build("smolvlm", tmp_path / "model")
    assert main([str(tmp_path / "model"), str(tmp_path / "alone")]) == 0
    assert "LlamaForCausalLM" in capsys.readouterr().out
    assert (tmp_path / "alone" / "model.safetensors").is_file()
    assert main([str(tmp_path / "model"), str(tmp_path / "alone")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_help_has_examples_and_needs_no_heavy_import() -> None:
    code = (
        "import sys\nfrom train.models.extract import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'ray', 'vllm', 'transformers', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "examples:" in done.stdout and done.stdout.rstrip().endswith("[]")
