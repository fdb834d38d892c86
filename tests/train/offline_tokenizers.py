"""Tokenizers of the families that published models use, trained here on a few sentences."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

IMAGE = "<image>"
TEXTS = [
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the human's questions. USER: What color is the cat? ASSISTANT: The cat is red.",
    "USER: Where is it?\nAnswer the question using a single word or phrase. ASSISTANT: on the table.",
    "Please provide a short description for this region: [0.12, 0.5, 0.77, 1.0]. Which one?\nA. red\nB. blue",
    "Is 12.5 more than 30? No! The USER: and the ASSISTANT: say so; 2024 was a year.",
] * 20


@cache
def sentencepiece_model() -> Any:
    """A LLaMA-like model: BPE, no normalisation, every digit alone, bytes for what it does not know."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        model_type="bpe",
        vocab_size=520,
        hard_vocab_limit=False,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        character_coverage=1.0,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@cache
def llama(legacy: bool = True) -> Any:
    """The fast tokenizer of :func:`sentencepiece_model`; ``legacy`` puts a space before every piece of text."""
    from transformers import LlamaTokenizer

    model = sentencepiece_model()
    pieces = [model.id_to_piece(i) for i in range(model.vocab_size())]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = []  # in the order in which training made them, which is that of the ids
    for piece in pieces:
        halves = [(piece[:k], piece[k:]) for k in range(1, len(piece))]
        merges += sorted(
            (pair for pair in halves if pair[0] in vocab and pair[1] in vocab),
            key=lambda pair: (vocab[pair[0]], vocab[pair[1]]),
        )
    tokenizer = LlamaTokenizer(vocab=vocab, merges=merges, legacy=legacy, add_bos_token=True)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]})
    return tokenizer


def _byte_level(pre_tokenizer: Any, normalizer: Any, trim: bool, specials: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=specials[0],
        pad_token=specials[0],
        additional_special_tokens=specials[1:],
        clean_up_tokenization_spaces=False,
    )


@cache
def qwen2() -> Any:
    """Qwen2's pre-tokenizer (single digits, words with the mark before them) and NFC."""
    from tokenizers import Regex, normalizers, pre_tokenizers
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated")
    pre = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    specials = ["<|endoftext|>", IMAGE, "<|im_start|>", "<|im_end|>"]
    specials += ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
    return _byte_level(pre, normalizers.NFC(), False, specials)


@cache
def phi() -> Any:
    """CodeGen's, which Phi-2 uses: GPT-2's pre-tokenizer, whose offsets leave out spaces."""
    from tokenizers import pre_tokenizers

    pre = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return _byte_level(pre, None, True, ["<|endoftext|>", IMAGE])


FAMILIES = {"llama": llama, "qwen2": qwen2, "phi": phi}
LAYOUTS = {"llama": "vicuna", "qwen2": "tinyllava-qwen2", "phi": "tinyllava-phi"}
EOS = {"llama": "</s>", "qwen2": "<|endoftext|>", "phi": "<|endoftext|>"}
