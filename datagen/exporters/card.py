"""The data set card: README.md with the front matter of the hub, where the rows come from, and how to load them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import yaml

from cluster.config import Config
from cluster.datasets import Manifest, dataset_exists, manifest_hash, read_manifest
from datagen.exporters.config import ExportConfig

if TYPE_CHECKING:
    from datagen.exporters.run import Summary

MAX_PARENTS = 50
_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)
_SECRET = re.compile(
    r"api_?key|(?:^|_)token(?:$|_)|secret|passw|credential|authorization|headers", re.IGNORECASE
)
_USER_INFO = re.compile(r"(\w+://)[^/@\s]+@")
_QUERY = re.compile(r"(https?://[^\s?]+)\?\S+")


class Ancestor(Config):
    """A data set that this one was made from, directly or not."""

    name: str
    kind: str
    sha256: str
    rows: int


class Lineage(Config):
    """Where a split comes from; no paths of the machine it was made on, and no secrets."""

    name: str
    sha256: str
    created: str
    code_version: str
    config: dict[str, Any]
    counts: dict[str, int]
    models: dict[str, Any]
    prompts: dict[str, Any]
    seeds: dict[str, Any]
    parents: tuple[Ancestor, ...]


def lineage(config: ExportConfig, source: Manifest) -> Lineage:
    """What the manifest says, and the parents as far as they can still be read."""
    return Lineage(
        name=source.name,
        sha256=manifest_hash(config.source),
        created=source.created,
        code_version=source.code_version,
        config=public(source.config),
        counts=source.totals.counts,
        models=public(source.models),
        prompts=public(source.prompt_versions),
        seeds=public(source.seeds),
        parents=tuple(_ancestors(source)),
    )


def _ancestors(manifest: Manifest) -> list[Ancestor]:
    found: dict[str, Ancestor] = {}
    queue = list(manifest.parents)
    while queue and len(found) < MAX_PARENTS:
        parent = queue.pop(0)
        if parent.sha256 in found:
            continue
        if dataset_exists(parent.uri) and manifest_hash(parent.uri) == parent.sha256:
            there = read_manifest(parent.uri)
            rows = there.totals.rows.get("rows", 0)
            found[parent.sha256] = Ancestor(name=there.name, kind=there.kind, sha256=parent.sha256, rows=rows)
            queue += there.parents
        else:
            name = public(parent.uri.rstrip("/").rsplit("/", 1)[-1])
            found[parent.sha256] = Ancestor(name=name, kind="gone", sha256=parent.sha256, rows=0)
    return list(found.values())


def public(value: Any) -> Any:
    """A setting without keys, passwords and tokens, and paths cut to their last part: a card is read by strangers."""
    if isinstance(value, dict):
        return {
            public(str(key)): "(removed)" if _SECRET.search(str(key)) and item else public(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [public(item) for item in value]
    if isinstance(value, str):
        text = _QUERY.sub(r"\1", _USER_INFO.sub(r"\1", value))
        return (
            ".../" + text.rstrip("/").rsplit("/", 1)[-1]
            if text.startswith(("/", "~", "file://", "s3://"))
            else text
        )
    return value


def readme(output: str, splits: Sequence[Summary]) -> str:
    """The card of all splits in a folder."""
    first = splits[0]
    name = output.rstrip("/").rsplit("/", 1)[-1]
    parts = [
        f"---\n{_front_matter(name, splits)}---\n",
        f"# {_plain(name)}\n",
        _about(splits),
        _loading(first, splits),
    ]
    for split in splits:
        parts.append(_provenance(split))
    return "\n".join(parts)


def _front_matter(name: str, splits: Sequence[Summary]) -> str:
    rows = sum(split.rows for split in splits)
    values: dict[str, Any] = {
        "license": splits[0].license,
        "pretty_name": name,
        "task_categories": ["image-text-to-text", "visual-question-answering"],
        "tags": ["visual-instruction-tuning", "synthetic"],
        "size_categories": [next((label for limit, label in _SIZES if rows < limit), "n>10M")],
    }
    if paths := {s.split: _pattern(s) for s in splits if s.layout != "llava"}:
        files = [{"split": split, "path": path} for split, path in paths.items()]
        values["configs"] = [{"config_name": "default", "data_files": files}]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _pattern(split: Summary) -> str:
    return f"data/{split.split}-*.parquet" if split.layout == "huggingface" else f"{split.split}-*.tar"


def _about(splits: Sequence[Summary]) -> str:
    lines = [
        "Visual instructions: conversations about images, exported with `l2t export`.\n",
        "| split | rows | images written | bytes | rows that could not be exported |",
        "|---|---|---|---|---|",
    ]
    for s in splits:
        lines.append(f"| {s.split} | {s.rows} | {s.images} | {s.bytes} | {sum(s.unexported.values())} |")
    return "\n".join(lines) + "\n"


def _loading(first: Summary, splits: Sequence[Summary]) -> str:
    split = first.split
    column = 'row["images"]' if first.many_images else 'row["image"]'
    code = {
        "llava": f"LLaVA's trainer: `--data_path {split}.json --image_folder images`",
        "huggingface": f'```python\nfrom datasets import load_dataset\n\nrow = load_dataset("path/to/this/folder", '
        f'split="{split}")[0]\n{column}, row["messages"]\n```',
        "webdataset": "```python\nimport webdataset as wds\n\n"
        f'samples = wds.WebDataset("{split}-{{000000..{first.files - 1:06d}}}.tar", shardshuffle=False)'
        '.decode("pil")\n```\n\n`<key>.json` holds the conversation, `<key>.jpg`, `.png` … the original image.',
    }
    return f"## Loading\n\n{code[first.layout]}\n"


def _provenance(split: Summary) -> str:
    origin = split.lineage
    lines = [f"## Where `{split.split}` comes from\n"]
    lines.append(
        f"Instruction set `{_plain(origin.name)}`, manifest sha256 `{origin.sha256}`, made {origin.created}"
    )
    lines.append(f"by version `{origin.code_version}`. Made from:\n")
    lines += [f"- {p.kind} `{_plain(p.name)}`, {p.rows} rows, sha256 `{p.sha256}`" for p in origin.parents]
    lines.append("\nWhere all rows of that set ended, and what of it is in this split:\n")
    lines.append("| terminal state | rows |\n|---|---|")
    lines += [f"| {_plain(state)} | {rows} |" for state, rows in origin.counts.items()]
    lines.append("\n| exported | rows |\n|---|---|")
    lines += [f"| {state} | {rows} |" for state, rows in split.states.items()]
    lines += [f"| not: {_plain(reason)} | {rows} |" for reason, rows in split.unexported.items()]
    for title, values in (("Models", origin.models), ("Prompts", origin.prompts), ("Seeds", origin.seeds)):
        if values:
            lines.append(f"\n{title}: `{_plain(json.dumps(values, sort_keys=True, ensure_ascii=False))}`")
    settings = json.dumps(origin.config, indent=1, ensure_ascii=False).replace("```", "'''")
    lines.append(f"\nSettings:\n\n```json\n{settings}\n```\n")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Names and reasons come from data: nothing in them becomes markup."""
    return re.sub(r"[`|<>\r\n\[\]]", "'", text)
