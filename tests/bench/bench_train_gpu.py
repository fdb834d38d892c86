"""On a GPU: tokens/s, MFU and peak memory of training LLaVA-1.5-7B and TinyLLaVA-0.5B, and what each trick gains.

    python tests/bench/bench_train_gpu.py                                  # TinyLLaVA-0.5B, 40 GB
    python tests/bench/bench_train_gpu.py --model llava-1.5-7b             # full fine-tuning, 140 GB
    python tests/bench/bench_train_gpu.py --model llava-1.5-7b --adapter   # LoRA, 80 GB
    python tests/bench/bench_train_gpu.py --tiny                           # on a CPU: does the script work

The architectures are written out here and get random weights; nothing is downloaded, and what is measured does not
depend on weights. The trainer is the one of a run (`train.loop.Trainer` with loader processes, packing, the chunked
loss, bf16, fused AdamW on fp32 weights; the tower frozen, as LLaVA fine-tunes), on pictures of 640 x 480 and
conversations of 25 to 470 tokens of text beside 576 (729) image tokens. The run has all tricks; then one at a time is
switched off:

- packing: conversations padded to the longest of a pass instead, about as many tokens a pass
- head_rows: all learned positions go through the LM head at once
- compile: the layers of the language model as they are
- checkpointing: activations are kept instead of computed again

Each is a process of its own, with ``--warmup`` steps (compilation) not counted. Tokens are those of conversations,
image tokens included and padding not; MFU counts model FLOPs by train/flops.py against the vendor's dense bf16 peak.
Memory is the most that torch has allocated on the GPU (with ``--tiny``: resident memory).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import REPO, machine

# As published with the models.
MODELS: dict[str, dict[str, Any]] = {
    "llava-1.5-7b": {
        "vision": {
            "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
            "image_size": 336, "patch_size": 14,
        },
        "text": {
            "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 32, "vocab_size": 32_064, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
        },
    },
    "tinyllava-0.5b": {
        "vision": {
            "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
            "image_size": 384, "patch_size": 14,
        },
        "text": {
            "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
            "num_key_value_heads": 2, "vocab_size": 151_936, "max_position_embeddings": 32_768, "rms_norm_eps": 1e-6,
        },
    },
}  # fmt: skip
TINY = {
    "vision": {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56,
    },
    "text": {
        "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": 1024,
    },
}  # fmt: skip
TRICKS: dict[str, dict[str, Any]] = {
    "all tricks": {},
    "without packing": {"microbatch_tokens": None},
    "without head_rows": {"head_rows": 10**9},
    "without compile": {"compile": False},
    "without checkpointing": {"gradient_checkpointing": False},
}
TOKENS_A_CONVERSATION = 90  # of text, on average


def model_config(name: str, tokenizer: Any, *, tiny: bool) -> Any:
    """The configuration of a LLaVA; its image token is the tokenizer's."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, Qwen2Config, SiglipVisionConfig

    from train.models.tokenizer import IMAGE

    vision, text = (MODELS[name][part] | (TINY[part] if tiny else {}) for part in ("vision", "text"))
    ends = {
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
    }
    clip = name == "llava-1.5-7b"
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    language: Any = (
        LlamaConfig(**text, **ends) if clip else Qwen2Config(**text, **ends, tie_word_embeddings=True)
    )
    if not clip:
        vision |= {"vision_use_head": False}
    return LlavaConfig(
        vision_config=CLIPVisionConfig(**vision) if clip else SiglipVisionConfig(**vision),
        text_config=language,
        image_token_index=int(tokenizer.vocab[IMAGE]),
        image_seq_length=patches,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default" if clip else "full",
        projector_hidden_act="gelu",
        tie_word_embeddings=not clip,
    )


def processor_of(config: Any, tokenizer: Any) -> Any:
    """Prepares pictures as the model's tower wants them."""
    from transformers import LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    side, clip = config.vision_config.image_size, config.vision_config.model_type == "clip_vision_model"
    square = {"height": side, "width": side}
    images = (
        CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=square)
        if clip
        else SiglipImageProcessorPil(size=square, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=int(clip),
        chat_template=tokenizer.chat_template,
    )


def make(folder: Path, name: str, *, tiny: bool) -> None:
    """Data, and a model folder without weights."""
    from mixed_talks import config as settings_of
    from mixed_talks import write_set

    from train.prepare import new_tokenizer

    data = write_set(folder / "data", images=16 if tiny else 200, sizes=((640, 480), (480, 640)))
    (folder / "data.json").write_text(json.dumps(data))
    tokenizer = new_tokenizer(settings_of(data, folder / "none", steps=1), 900)
    config = model_config(name, tokenizer, tiny=tiny)
    config.save_pretrained(folder / "model")
    processor_of(config, tokenizer).save_pretrained(folder / "model")


def run_config(args: argparse.Namespace, folder: Path, trick: str) -> Any:
    """The training of one row of the table."""
    from mixed_talks import config
    from transformers import AutoConfig

    image = AutoConfig.from_pretrained(folder / "model").image_seq_length
    values = {
        "microbatch_tokens": args.tokens,
        "head_rows": args.head_rows,
        "compile": True,
        "gradient_checkpointing": True,
        **TRICKS[trick],
    }
    return config(
        json.loads((folder / "data.json").read_text()),
        folder / trick.replace(" ", "-"),
        mode="l2t",
        model=str(folder / "model"),
        steps=10**6,
        global_batch=args.batch,
        microbatch=max(1, args.tokens // (image + TOKENS_A_CONVERSATION)),
        max_length=min(args.tokens, 2048),
        lr={"vision_tower": 0.0, "connector": 1e-5, "language_model": 1e-5},
        loss={"head_rows": values.pop("head_rows")},
        adapter={"rank": 64} if args.adapter else None,
        precision="bf16",
        loaders=1 if args.tiny else args.loaders,
        use_gpu=not args.tiny,
        log_every=1,
        peak_tflops=1.0 if args.tiny else None,
        **values,
    )


class Enough(Exception):
    """All steps are counted."""


def measure(args: argparse.Namespace, folder: Path, trick: str) -> dict[str, Any]:
    """Train in this process; the middle of the log as one line."""
    import torch

    import train.models.model
    from train.loop import Alone, Trainer
    from train.prepare import prepare
    from train.workers import Workers

    device = torch.device("cpu" if args.tiny else "cuda")

    def random_weights(path: str, **options: Any) -> tuple[Any, Any]:
        from transformers import AutoConfig, LlavaForConditionalGeneration

        torch.manual_seed(0)
        with device:
            model = LlavaForConditionalGeneration(AutoConfig.from_pretrained(path))
        # Made on the GPU, where it takes seconds; the trainer itself places its model.
        return model.cpu(), train.models.model.load_processor(path)

    # The folder has no weights to be loaded: 28 GB less on the disk, and all else is the trainer's own.
    train.models.model.load = random_weights  # type: ignore[assignment]
    lines: list[dict[str, Any]] = []

    class Watch(Alone):
        """Ends the run when enough is known."""

        def report(self, line: dict[str, Any]) -> None:
            lines.append(line)
            if len(lines) == args.warmup + args.steps:
                raise Enough

    cfg = run_config(args, folder, trick)
    prepare(cfg)
    try:
        Trainer(cfg, Workers.current(device), Watch()).train()
    except Enough:
        pass
    except torch.OutOfMemoryError:
        return {"error": "out of memory"}
    counted = lines[args.warmup :]
    seconds = counted[-1]["seconds"] - lines[args.warmup - 1]["seconds"]
    return {
        "tokens_per_s": sum(line["tokens"] for line in counted) / seconds,
        "samples_per_s": args.steps * args.batch / seconds,
        "mfu": None if counted[0]["mfu"] is None else sum(line["mfu"] for line in counted) / len(counted),
        "memory_gb": counted[-1]["memory_gb"],
        "padding_share": sum(line["padding_share"] for line in counted) / len(counted),
        "data_wait_share": sum(line["data_wait_share"] for line in counted) / len(counted),
        "loss": [line["loss"] for line in lines],
    }


def in_a_process(folder: Path, what: str) -> dict[str, Any]:
    """``measure`` elsewhere: a GPU whose memory is not in pieces, and a failure that ends nothing else."""
    command = [sys.executable, __file__, *sys.argv[1:], "--one", str(folder), what]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"error": f"failed: {last[:200]}"}
    return json.loads(done.stdout.splitlines()[-1])


def device_name(*, tiny: bool) -> str:
    """The GPU that this runs on."""
    import torch

    if tiny:
        return "CPU, tiny sizes: the numbers mean nothing"
    if not torch.cuda.is_available():
        sys.exit(
            "no CUDA GPU is here: this benchmark needs one (--tiny runs the script on a CPU, at tiny sizes)"
        )
    memory = torch.cuda.get_device_properties(0).total_memory / 1e9
    return f"{torch.cuda.get_device_name(0)} with {memory:.0f} GB, CUDA {torch.version.cuda}"


def main() -> None:
    """All rows of the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default="tinyllava-0.5b")
    parser.add_argument("--tiny", action="store_true", help="the architecture at tiny sizes, on a CPU")
    parser.add_argument(
        "--adapter", action="store_true", help="LoRA on the language model instead of all its weights"
    )
    parser.add_argument("--tricks", nargs="+", choices=TRICKS, default=list(TRICKS))
    parser.add_argument("--tokens", type=int, default=16_384, help="of one forward pass")
    parser.add_argument("--batch", type=int, default=48, help="conversations per optimizer step")
    parser.add_argument("--head-rows", type=int, default=4096)
    parser.add_argument("--loaders", type=int, default=4, help="loader processes")
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--json", help="keep all numbers in this file")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tiny:
        args.tokens, args.batch, args.head_rows, args.warmup, args.steps = 1024, 8, 32, 2, 2
    if args.one:
        folder, what = args.one
        if what == "make":
            make(Path(folder), args.model, tiny=args.tiny)
            print("{}")
        else:
            print(json.dumps(measure(args, Path(folder), what)))
        return
    print(f"on {device_name(tiny=args.tiny)}; {machine('torch', 'transformers')}")
    kind = "LoRA" if args.adapter else "full"
    print(
        f"{args.model}, {kind}, bf16, {args.tokens} tokens a pass, {args.batch} conversations a step",
        flush=True,
    )
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        made = in_a_process(Path(name), "make")
        if "error" in made:
            sys.exit(f"the data could not be made: {made['error']}")
        print(f"{'':<24}{'tokens/s':>10}{'samples/s':>11}{'MFU':>8}{'peak GB':>9}{'padding':>9}{'wait':>8}"
              f"{'speed':>8}{'memory':>8}")  # fmt: skip
        for trick in args.tricks:
            found[trick] = in_a_process(Path(name), trick)
            print(row(trick, found[trick], found.get("all tricks", {})), flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps({"machine": machine(), "found": found}, indent=1))
    if any("error" in one for one in found.values()) and args.tiny:
        sys.exit(1)


def row(trick: str, found: dict[str, Any], whole: dict[str, Any]) -> str:
    """A line of the table; speed and memory are those of all tricks ÷ those without this one."""
    if "error" in found:
        return f"{trick:<24}{found['error']}"
    mfu = "" if found["mfu"] is None else f"{found['mfu']:.1%}"
    line = (
        f"{trick:<24}{found['tokens_per_s']:>10,.0f}{found['samples_per_s']:>11.1f}{mfu:>8}{found['memory_gb']:>9.1f}"
        f"{found['padding_share']:>9.1%}{found['data_wait_share']:>8.1%}"
    )
    if whole is found or "error" in whole or not whole:
        return line
    speed, memory = (whole[key] / found[key] for key in ("samples_per_s", "memory_gb"))
    return f"{line}{speed:>7.2f}x{memory:>7.2f}x"


if __name__ == "__main__":
    sys.path.insert(0, str(REPO))
    main()
