"""The text layout of any model, read off its own chat template.

    fmt = derive(AutoProcessor.from_pretrained(folder), "<image>")

The template is asked to render conversations of made-up words; what stands around the words is the layout. Then a
longer conversation is rendered both ways and must come out the same, so a template that decides by what is said, by how
many turns there are or by which one is the last is refused and never half right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.errors import UserError
from datagen.records import Turn
from train.mask.render import FORMATS, MARKER, SHORTEST_SPECIAL, BadConversation, ChatFormat, render, text_of

_ASK, _SAY, _MORE, _RULE = "Qv1q", "Av1a", "Qv2q", "Sv1s"
# Texts of the final comparison: lines, marks, digits and several alphabets, as data have them.
_TALK = (
    ("Is it 0.5: red,\n\n- green\n or  blue?", "It's [0.12, 0.5] — “green”."),
    ("Und nun? 漢字 עברית 🙂", "12\n34"),
    ("a", "b"),
)
_WAY_OUT = (
    f"Set `chat` to the layout that the model is served with ({', '.join(FORMATS)}), "
    "or put a chat_template.jinja that ends every answer alike into the model's folder"
)


def special_texts(tokenizer: Any) -> tuple[str, ...]:
    """Tokens with a meaning of their own, as they are written: no text of the data may hold one."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    found = {str(t) for t in tokenizer.all_special_tokens} | {str(t) for t in added if t.special}
    return tuple(sorted(t for t in found if len(t) >= SHORTEST_SPECIAL))


def special_ids(tokenizer: Any) -> list[int]:
    """Ids of :func:`special_texts`, without a token that stands for unknown characters: texts may hold those."""
    unknown = {tokenizer.unk_token} - {tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token}
    return [int(tokenizer.convert_tokens_to_ids(t)) for t in special_texts(tokenizer) if t not in unknown]


def derive(source: Any, image_token: str) -> ChatFormat:
    """The layout of a model from its own chat template.

    Where the template writes no special token after an answer (LLaVA-1.5's), the tokenizer's end-of-text token is put
    there: nothing else would teach the model to stop, and LLaVA was trained so. Where finished answers begin otherwise
    than the generation prompt by blanks alone (LLaVA-OneVision's), the generation prompt counts: it is what answers
    are asked for with.

    Args:
        source: processor or tokenizer.
        image_token: the token that pictures take the place of (``<image>``, ``<|image_pad|>``).

    Raises:
        UserError: no chat template, or one whose layout is not the same for every conversation.
    """
    template = _Template.open(source, image_token)
    tokenizer = getattr(source, "tokenizer", source)
    fmt = _read(template, tokenizer)
    fmt = _with_images(fmt, template)
    fmt = _with_system(fmt, template)
    _compare(fmt, template)
    whole = _with_own_tokens(fmt, template, tokenizer)
    check(whole, tokenizer, image_token)
    return whole


def check(fmt: ChatFormat, tokenizer: Any, image_token: str) -> None:
    """That a layout's marks are tokens of this tokenizer.

    Raises:
        UserError: an answer's end is torn into pieces, or an image's placeholder is not one image token.
    """
    last = tokenizer(fmt.end.strip(), add_special_tokens=False)["input_ids"] if fmt.end.strip() else []
    if last and last[-1] not in special_ids(tokenizer):
        raise UserError(
            f"chat: answers end with {fmt.end!r}, which is no token of its own for this model's tokenizer "
            f"(its end of text is {tokenizer.eos_token!r}), so it would not stop there. "
            "Set `chat: auto`, or the layout of this model's own family"
        )
    wanted = tokenizer.convert_tokens_to_ids(image_token)
    found = tokenizer(fmt.image, add_special_tokens=False)["input_ids"]
    if found.count(wanted) != 1:
        raise UserError(
            f"chat: an image is written {fmt.image!r}, in which this model's tokenizer finds {found.count(wanted)} "
            f"image tokens {image_token!r} instead of one. Set `chat: auto`, or a layout with this placeholder"
        )


@dataclass(frozen=True)
class _Template:
    """A chat template as a function of texts; ``parts`` says whether it takes content as a list or as a string."""

    source: Any
    image_token: str
    parts: bool

    @classmethod
    def open(cls, source: Any, image_token: str) -> _Template:
        if not getattr(source, "chat_template", None):
            source = getattr(source, "tokenizer", source)
        if not getattr(source, "chat_template", None):
            raise UserError(f"chat: auto: this model has no chat template. {_WAY_OUT}")
        failures = []
        for parts in (True, False):
            template = cls(source, image_token, parts)
            try:
                head = template.between("", _ASK, [("user", _ASK, 1), ("assistant", _SAY, 0)])
            except UserError as failure:
                failures.append(failure)
                continue
            if image_token in head:
                return template
            # It reads this kind of content, so that is what there is to say about it.
            failures.insert(0, _irregular(f"it does not write an image as {image_token!r} before the text"))
        raise failures[0]

    def render(self, turns: Sequence[tuple[str, str, int]], *, prompt: bool = False) -> str:
        """The text of (role, text, number of images) turns.

        Raises:
            UserError: the template fails on them.
        """
        from jinja2 import TemplateError

        messages = [{"role": role, "content": self._content(text, n)} for role, text, n in turns]
        try:
            text = self.source.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        except (TemplateError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f"chat: auto: this model's chat template fails on a conversation of "
                f"{', '.join(role for role, _, _ in turns)} turns ({error}). {_WAY_OUT}"
            ) from error
        if "'type'" in text:
            raise _irregular("it takes the content of a message for a text")
        return str(text)

    def between(self, first: str, second: str, turns: Sequence[tuple[str, str, int]]) -> str:
        """What stands between two of the words; "" for a word is the begin or the end."""
        text = self.render(turns)
        places = []
        for word in (first, second):
            if word and text.count(word) != 1:
                raise _irregular(f"it writes a text {text.count(word)} times")
            places.append(text.find(word) if word else 0)
        start = places[0] + len(first)
        return text[start : places[1] if second else len(text)]

    def _content(self, text: str, images: int) -> Any:
        if self.parts:
            return [*([{"type": "image"}] * images), {"type": "text", "text": text}]
        return f"{self.image_token}\n" * images + text


def _read(template: _Template, tokenizer: Any) -> ChatFormat:
    """The layout of conversations without images and system turns, as the template writes finished ones.

    Answers end with all that the template writes after the last one; :func:`_with_own_tokens` cuts that.
    """
    asked, answered, again = ("user", _ASK, 0), ("assistant", _SAY, 0), ("user", _MORE, 0)
    head = template.between("", _ASK, [asked, answered])
    tail = template.between(_SAY, "", [asked, answered])
    middle = template.between(_SAY, _MORE, [asked, answered, again])
    user = middle.removeprefix(tail)
    if not middle.startswith(tail) or not head.endswith(user):
        # Written between turns and not after the last: what both heads share is the marker.
        user = _common_end(head, middle)
        if not middle.removesuffix(user).startswith(tail):
            raise _irregular("it ends the last answer otherwise than one that a question follows")
    start = head.removesuffix(user)
    bos = tokenizer.bos_token or ""
    begin = bos if bos and start.startswith(bos) else ""
    between = middle.removesuffix(user).removeprefix(tail)
    assistant = template.between(_ASK, _SAY, [asked, answered])
    return ChatFormat(
        begin=begin,
        system=start.removeprefix(begin),
        user=user,
        assistant=assistant,
        end=tail,
        between=between,
        image=template.image_token,
    )


def _with_images(fmt: ChatFormat, template: _Template) -> ChatFormat:
    """Add how pictures are written, from questions with one and with two."""
    one, two = (template.between("", _ASK, [("user", _ASK, n), ("assistant", _SAY, 0)]) for n in (1, 2))
    start = fmt.begin + fmt.system
    if not one.startswith(start):
        raise _irregular("an image changes what stands before the first question")
    length, token = len(two) - len(one), one.find(template.image_token)
    first = max(token + len(template.image_token) - length, len(start))
    for at in range(token, first - 1, -1):
        image = one[at : at + length]
        if one[:at] + image * 2 + one[at + length :] == two:
            marker = one[len(start) : at]
            return replace(
                fmt,
                user_image=None if marker == fmt.user else marker,
                image=image.rstrip(),
                after_image=image[len(image.rstrip()) :],
                after_images=one[at + length :],
            )
    raise _irregular("it does not write two images as it writes one")


def _with_system(fmt: ChatFormat, template: _Template) -> ChatFormat:
    """Add the place of a system turn, where the template has one before the first question."""
    turns = [("system", _RULE, 0), ("user", _ASK, 0), ("assistant", _SAY, 0)]
    try:
        before, after = template.between("", _RULE, turns), template.between(_RULE, _ASK, turns)
    except UserError:
        return fmt  # Gemma's and Mistral's own templates refuse system turns
    if not before.startswith(fmt.begin) or not after.endswith(fmt.user):
        return fmt  # Llama-2 puts it inside the first question
    return replace(fmt, system_slot=(before.removeprefix(fmt.begin), after.removesuffix(fmt.user)))


def _compare(fmt: ChatFormat, template: _Template) -> None:
    """Three turns with pictures here and there must be rendered alike by the layout and by the template."""
    for first, later, system in ((0, 0, ""), (1, 0, ""), (2, 1, ""), (0, 1, "Be brief.\nBe kind.")):
        images = (first, 0, later)
        turns = [("system", system, 0)] if system and fmt.system_slot else []
        for (question, answer), n in zip(_TALK, images, strict=True):
            turns += [("user", question, n), ("assistant", answer, 0)]
        marked = [Turn(role=role, text=MARKER * n + text) for role, text, n in turns]
        try:
            ours = text_of(render(marked, sum(images), fmt))
        except BadConversation as error:
            raise _irregular(str(error)) from error
        theirs = template.render(turns)
        if ours != theirs:
            raise _irregular(f"a conversation of three turns is {_difference(theirs, ours)}")


def _with_own_tokens(fmt: ChatFormat, template: _Template, tokenizer: Any) -> ChatFormat:
    """From how finished conversations are written to what is learned: where the answer begins and where it ends."""
    asked = template.render([("user", _ASK, 0)], prompt=True)
    prompt = asked[asked.index(_ASK) + len(_ASK) :]
    lead = fmt.assistant.removeprefix(prompt) if fmt.assistant.startswith(prompt) else ""
    if "".join(prompt.split()) != "".join(fmt.assistant.split()):
        raise _irregular(
            f"answers are asked for with {prompt!r} and written after {fmt.assistant!r} "
            "(no generation prompt, or a thinking model's)"
        )
    own = [t for t in special_texts(tokenizer) if t in fmt.end]
    if own:
        cut = min(fmt.end.index(t) + len(t) for t in own)
        end, rest = fmt.end[:cut], fmt.end[cut:]
    elif tokenizer.eos_token:
        end, rest = str(tokenizer.eos_token), fmt.end
    else:
        raise _irregular("it ends answers with no special token, and the tokenizer has no end of text")
    return replace(fmt, assistant=prompt, lead=lead, end=end, between=rest + fmt.between)


def _common_end(a: str, b: str) -> str:
    n = 0
    while n < min(len(a), len(b)) and a[-1 - n] == b[-1 - n]:
        n += 1
    return a[len(a) - n :]


def _difference(theirs: str, ours: str) -> str:
    """Where two texts part."""
    n = next((i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), len(ours))
    return f"…{theirs[max(0, n - 20) : n + 30]!r} and by its rules …{ours[max(0, n - 20) : n + 30]!r}"


def _irregular(why: str) -> UserError:
    return UserError(f"chat: auto: this model's chat template has no regular layout: {why}. {_WAY_OUT}")
