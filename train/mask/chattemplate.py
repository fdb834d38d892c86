"""A layout as a Hugging Face chat template, the inverse of :mod:`train.mask.chatformat`: a model must be served with
what it was trained with."""

from __future__ import annotations

import json
from typing import Any

from train.mask.render import ChatFormat

_PARTS = """\
{%- macro text_of(content) -%}
{%- if content is string -%}{{- content -}}{%- else -%}
{%- for part in content if part['type'] == 'text' -%}{{- part['text'] -}}{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- macro question(content, plain, pictured) -%}
{%- set images = [] if content is string else content | selectattr('type', 'in', ['image', 'image_url']) | list -%}
{{- pictured if images else plain -}}
{%- for _ in images -%}{{- IMAGE -}}{%- endfor -%}
{{- AFTER if images else '' -}}{{- text_of(content) -}}
{%- endmacro -%}
"""


def template_of(fmt: ChatFormat) -> str:
    """A Jinja template that writes conversations as ``fmt`` does: contents are strings or lists of parts, images stand
    first in their turn, the generation prompt lacks the blank that leads an answer.

    A system turn takes the layout's place for one; where it has none, it is not written.
    """
    parts = _PARTS.replace("IMAGE", _quoted(fmt.image + fmt.after_image)).replace(
        "AFTER", _quoted(fmt.after_images)
    )
    before, after = fmt.system_slot or ("", "")
    said = (
        f"{_quoted(before)} ~ text_of(messages[0]['content']) ~ {_quoted(after)}" if fmt.system_slot else "''"
    )
    pictured = fmt.user if fmt.user_image is None else fmt.user_image
    return parts + (
        f"{{{{- {_quoted(fmt.begin)} -}}}}"
        f"{{{{- ({said}) if messages[0]['role'] == 'system' else {_quoted(fmt.system)} -}}}}\n"
        "{%- set dialogue = messages[1:] if messages[0]['role'] == 'system' else messages -%}\n"
        "{%- for message in dialogue -%}\n"
        "{%- if message['role'] == 'user' -%}\n"
        f"{{{{- {_quoted(fmt.between)} if not loop.first else '' -}}}}"
        f"{{{{- question(message['content'], {_quoted(fmt.user)}, {_quoted(pictured)}) -}}}}\n"
        "{%- elif message['role'] == 'assistant' -%}\n"
        f"{{{{- {_quoted(fmt.assistant + fmt.lead)} ~ text_of(message['content']) ~ {_quoted(fmt.end)} -}}}}\n"
        "{%- endif -%}\n"
        "{%- endfor -%}\n"
        f"{{%- if add_generation_prompt -%}}{{{{- {_quoted(fmt.assistant)} -}}}}{{%- endif -%}}\n"
    )


def serve_as(processor: Any, fmt: ChatFormat) -> None:
    """Make a processor, and its tokenizer, write prompts in a layout."""
    processor.chat_template = processor.tokenizer.chat_template = template_of(fmt)


def _quoted(text: str) -> str:
    """A string literal of Jinja."""
    return json.dumps(text, ensure_ascii=False)
