"""The mask page: every token is there once, with its own text, reason and number."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from train.mask.labels import Reason
from train.mask.render import BadConversation
from train.mask.templates import TemplateSet
from train.pages.maskpage import blocks, mask_html
from train.pages.masktokens import MaskRow, MaskToken, mask_rows, pieces

CORPUS = [
    "What color is the ball? Answer in one word. The red one, naïve 東京.",
    "  two  blanks\nlines\tand tabs",
] * 9
IMAGE = "<image>"


def byte_level() -> Any:
    """As of GPT-2, Qwen2, Llama 3: every token is a run of bytes."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=core, additional_special_tokens=[IMAGE, "</s>"])


def sentencepiece() -> Any:
    """As of Llama 2 and Vicuna: blanks as ▁, single bytes for what it does not know, no blank before a text."""
    core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    core.decoder = decoders.Sequence(parts)
    every_byte = [f"<0x{byte:02X}>" for byte in range(256)]
    english = [text.encode("ascii", "ignore").decode() for text in CORPUS]
    core.train_from_iterator(
        english, trainers.BpeTrainer(vocab_size=420, special_tokens=["<unk>", *every_byte])
    )
    core = Tokenizer.from_str(re.sub(r'"special": true', '"special": false', core.to_str()))
    return PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", additional_special_tokens=[IMAGE, "</s>"]
    )


FAMILIES = {"byte level": byte_level(), "sentencepiece": sentencepiece()}
families = pytest.mark.parametrize("family", FAMILIES)


@dataclass
class Encoded:
    """What an encoder gives for a conversation."""

    ids: Any
    reasons: Any
    is_learned: Any
    dropped: int = 0


def encoded(tokenizer: Any, *parts: tuple[str, Reason, bool], dropped: int = 0) -> Encoded:
    ids: list[int] = []
    reasons: list[int] = []
    learned: list[bool] = []
    for text, reason, is_learned in parts:
        repeats = 16 if text == IMAGE else 1
        found = tokenizer(text, add_special_tokens=False).input_ids * repeats
        ids, reasons, learned = (
            ids + found,
            reasons + [reason] * len(found),
            learned + [is_learned] * len(found),
        )
    return Encoded(np.array(ids), np.array(reasons, np.uint8), np.array(learned), dropped)


def conversation(tokenizer: Any) -> Encoded:
    return encoded(
        tokenizer,
        ("USER: ", Reason.ROLE, False), (IMAGE, Reason.IMAGE, False), ("\n", Reason.SPACE, False),
        ("What color is the ball of 東京鼎 <script>window.hacked=1</script>?", Reason.INSTRUCTION, True),
        (" Answer in one word.", Reason.TEMPLATE, False), (" ASSISTANT:", Reason.ROLE, False),
        (" red</s>", Reason.RESPONSE, True),
        dropped=3,
    )  # fmt: skip


@families
@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\ufffd"), max_size=40))
def test_pieces_are_the_text(family: str, text: str) -> None:
    tokenizer = FAMILIES[family]
    ids = tokenizer(text, add_special_tokens=False).input_ids
    image = tokenizer.convert_tokens_to_ids(IMAGE)
    found = list(pieces(ids, tokenizer, image))
    assert len(found) == len(ids)
    assert "".join(piece for piece, _ in found) == tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert all(piece == "" for piece, part in found if part) and not (found and found[0][1])


@families
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_ids_give_a_piece_each(family: str, data: st.DataObject) -> None:
    """Also ids that no text has: halves of characters, numbers beyond the vocabulary."""
    tokenizer = FAMILIES[family]
    ids = data.draw(st.lists(st.one_of(st.integers(0, 300), st.sampled_from([-200, 10**6])), max_size=30))
    assert len(list(pieces(ids, tokenizer, -200))) == len(ids)


@families
def test_blanks_and_characters_stay_where_they_are(family: str) -> None:
    tokenizer = FAMILIES[family]
    image = tokenizer.convert_tokens_to_ids(IMAGE)
    row, other = mask_rows([conversation(tokenizer)] * 2, tokenizer, image, names=["a-7", "b"])
    assert other.title == "row b" and other.tokens == row.tokens
    assert row.title == "row a-7" and row.note == "3 learned tokens cut off at max_length"
    said = {
        reason: "".join(t.text for t in row.tokens if t.reason == reason)
        for reason in ("template", "response")
    }
    assert said["template"].strip() == "Answer in one word." and said["response"].strip() == "red</s>"
    assert "東京" in "".join(t.text for t in row.tokens)
    (at,) = [i for i, t in enumerate(row.tokens) if t.text.endswith("鼎")]
    assert row.tokens[at + 1].part and row.tokens[at + 1].text == ""
    assert [t.text for t in row.tokens if t.reason == "image"] == [IMAGE] * 16
    assert [t.token_id for t in row.tokens] == list(conversation(tokenizer).ids)


def test_a_stray_byte_does_not_swallow_what_follows() -> None:
    tokenizer = FAMILIES["byte level"]
    euro = tokenizer("€", add_special_tokens=False).input_ids
    letters = tokenizer("red", add_special_tokens=False).input_ids
    found = [text for text, _ in pieces([euro[0], *letters, *euro], tokenizer, -1)]
    assert found[0] == "\ufffd" and "".join(found) == "\ufffdred€"


tokens = st.lists(
    st.builds(
        MaskToken,
        text=st.text(max_size=4),
        token_id=st.integers(0, 9),
        reason=st.sampled_from(["response", "instruction", "image", "text_only", "a_new_one"]),
        learned=st.booleans(),
        part=st.booleans(),
    ),
    max_size=30,
)


@given(tokens)
def test_every_token_is_in_one_block(found: list[MaskToken]) -> None:
    drawn = list(blocks(found))
    assert sum(block.count for block in drawn) == len(found)
    of_blocks: Counter[tuple[str, bool]] = Counter()
    for block in drawn:
        of_blocks[block.reason, block.learned] += block.count
    assert of_blocks == Counter((t.reason, t.learned) for t in found)
    assert all(block.html.strip("\n\t") for block in drawn), "an empty token can be seen and pointed at"


def test_the_page() -> None:
    tokenizer = FAMILIES["byte level"]
    image = tokenizer.convert_tokens_to_ids(IMAGE)
    rows = mask_rows([conversation(tokenizer), BadConversation("no <b>answer</b>")], tokenizer, image)
    templates = TemplateSet(counts=(("Answer in one word.", 40), ("<u>", 0)), turns=100, source="mined")
    legend = {
        "response": "the answer",
        "instruction": "the question",
        "template": "template",
        "image": "picture",
    }
    html = mask_html(rows, legend, templates, mode="l2t", title="Mask of <i>")
    assert html.count("<script>") == 1 and not re.search(r"<[biu]>(answer|Mask)|<u>|<i>", html)
    assert html.count("&lt;image&gt; ×16") == 1
    assert "rejected: no &lt;b&gt;answer" in html and "Answer in one word." in html and "40.0 %" in html
    total = len(rows[0].tokens)
    learned = sum(t.learned for t in rows[0].tokens)
    assert f"{total} tokens, of which <b>{learned}</b>" in html
    (end,) = tokenizer("</s>", add_special_tokens=False).input_ids
    assert f'title="response, learned; token {end}"' in html
    keys = re.findall(r'<input type="checkbox" value="([^"]+)"', html)
    assert keys == ["response+", "instruction+", "template", "image", "role", "space"], (
        "learned first, then as listed"
    )
    assert "style=" not in re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.S), "the policy forbids it"


def test_nothing_to_show() -> None:
    html = mask_html([], {}, TemplateSet(), mode="vit")
    assert "0 conversations" in html and "None." in html
    assert "∅" in mask_html(
        [MaskRow(title="r", tokens=[MaskToken("", 1, "special", False)])], {}, TemplateSet(), mode="vit"
    )
