"""The two prompts of a measurement, as data: how the inner LLM is asked for its own answer, and how the judge is."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from cluster.config import Config, hash_of
from cluster.errors import UserError

PROMPTS_DIR = Path(__file__).parent / "prompts"
_FIELD = re.compile(r"\{(question|reference|first|second)\}")


class MannerPrompts(Config):
    """``{question}``, ``{reference}``, ``{first}`` and ``{second}`` are replaced in one pass, so that braces in a data
    row stay what they are."""

    name: str
    version: str
    own: str = Field(
        default="{question}", description="asks for the model's own answer; the picture is not shown"
    )
    judge: str = Field(description="shows the reference and two answers; wants [[A]], [[B]] or [[tie]]")

    def ask_own(self, question: str) -> str:
        """The user's turn that gets the reference answer."""
        return _filled(self.own, question=question)

    def ask_judge(self, question: str, reference: str, first: str, second: str) -> str:
        """The user's turn for the judge; which of the answers is the rewritten one is not said."""
        return _filled(self.judge, question=question, reference=reference, first=first, second=second)

    def content_hash(self) -> str:
        """An edit without a new version shows."""
        return hash_of(self.model_dump(mode="json"))


def _filled(template: str, **fields: str) -> str:
    return _FIELD.sub(lambda found: fields.get(found[1], found[0]), template)


@lru_cache(maxsize=8)
def load_manner_prompts(name: str) -> MannerPrompts:
    """A set by name (``starter``, ``full``) or by the path of a YAML file.

    Raises:
        UserError: no such set, or one that does not follow the schema.
    """
    path = PROMPTS_DIR / f"{name}.yaml" if not name.endswith((".yaml", ".yml")) else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PROMPTS_DIR.glob("*.yaml")))
        raise UserError(
            f"unknown manner prompts {name!r}: there are {known}, or give the path of a YAML file"
        )
    try:
        return MannerPrompts.model_validate(yaml.safe_load(path.read_text()))
    except (yaml.YAMLError, ValidationError) as error:
        raise UserError(f"{path}: not manner prompts: {' '.join(str(error).split())}") from error
