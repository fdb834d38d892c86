"""The importers on the command line: ``l2t corpus llava``, ``coco``, ``flickr30k`` …"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from cluster.errors import UserError

if TYPE_CHECKING:
    from datagen.importers.job import Imported
    from datagen.importers.options import ImportOptions


class Source(NamedTuple):
    """A subcommand. ``images``: whether --images is needed, None where it is not taken; ``columns``: takes --column."""

    summary: str
    takes: str
    images: bool | None
    columns: bool
    examples: str


COLUMNS = """
fields for --column FIELD=NAME (usual names are found without it):
  image, id, captions, conversations, objects, regions, ocr; boxes=xywh where boxes are x, y, width, height
"""
SOURCES = {
    "llava": Source(
        "LLaVA JSON or JSON lines: instruct-80k/150k/158k, mix-665k, NeXT; makes corpus and instructions",
        "file(s), or folder of .json/.jsonl",
        False,
        False,
        """examples:
  l2t corpus llava llava_v1_5_mix665k.json --images data --out runs --name mix665k
  l2t corpus llava llava_instruct_150k.json --images data/coco/train2017 --out s3://bucket/l2t
  l2t corpus llava mix.jsonl --images s3://bucket/images --out runs --limit 1000 --dry-run
""",
    ),
    "coco": Source(
        "COCO instances and captions JSON, together",
        "file(s) such as instances_train2017.json captions_train2017.json",
        True,
        False,
        """examples:
  l2t corpus coco instances_train2017.json captions_train2017.json --images train2017 --out runs --name coco
  l2t corpus coco captions_val2017.json --images s3://bucket/val2017 --out runs
""",
    ),
    "flickr30k": Source(
        "Flickr30k Entities: Sentences/*.txt and Annotations/*.xml",
        "folder of Sentences and Annotations",
        True,
        False,
        """examples:
  l2t corpus flickr30k Flickr30kEntities --images flickr30k-images --out runs
""",
    ),
    "visual-genome": Source(
        "Visual Genome: region descriptions, objects, attributes, relationships",
        "folder of the unpacked JSON files, or the files",
        True,
        False,
        """examples:
  l2t corpus visual-genome vg/annotations --images vg --out runs --name vg
""",
    ),
    "huggingface": Source(
        "Hugging Face data sets: Parquet files with embedded pictures, or with their paths",
        "file(s), or folder of .parquet",
        False,
        True,
        """examples:
  hf download --repo-type dataset nlphuji/flickr30k --local-dir flickr
  l2t corpus huggingface flickr --out runs --column captions=caption
  l2t corpus huggingface s3://bucket/onevision --out s3://bucket/l2t --name onevision
"""
        + COLUMNS,
    ),
    "webdataset": Source(
        "WebDataset tars: jpg/png/webp with txt and json beside them",
        "file(s), or folder of .tar, .tar.gz",
        None,
        True,
        """examples:
  l2t corpus webdataset shards --out runs --name laion
  l2t corpus webdataset s3://bucket/cc3m --out s3://bucket/l2t
"""
        + COLUMNS,
    ),
    "folder": Source(
        "a folder of pictures, with metadata.jsonl or --rows FILE where there are annotations",
        "folder of pictures",
        None,
        True,
        """examples:
  l2t corpus folder photos --out runs
  l2t corpus folder photos --rows annotations.jsonl --out runs --column captions=description
"""
        + COLUMNS,
    ),
}


def add_parsers(sources: Any) -> None:
    """Add the importers to the subcommands of ``l2t corpus``."""
    for name, source in SOURCES.items():
        parser = sources.add_parser(
            name,
            help=source.summary,
            description=source.summary,
            epilog=source.examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        count = None if name == "folder" else "+"
        parser.add_argument("path", nargs=count, help=f"{source.takes}; local or s3://")
        if source.images is not None:
            parser.add_argument(
                "--images",
                metavar="ROOT",
                required=source.images,
                help="folder (local or s3://) that the pictures' paths start from; nothing outside it is read",
            )
        if name == "folder":
            parser.add_argument(
                "--rows", metavar="FILE", help="rows that annotate the pictures (JSON lines or array)"
            )
        if source.columns:
            parser.add_argument(
                "--column",
                action="append",
                default=[],
                metavar="FIELD=NAME",
                help="where a field is found; may be repeated",
            )
        _add_common(parser)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", required=True, help="root URI: <out>/corpora/NAME and <out>/instructions/NAME"
    )
    parser.add_argument("--name", help="name of the data sets (default: that of the source)")
    parser.add_argument("--shard-images", type=int, default=512, help="pictures in a shard (default 512)")
    parser.add_argument(
        "--limit",
        type=int,
        help="only so many pictures with all that belongs to them: the first of tars and Parquet, else a fixed sample",
    )
    parser.add_argument("--max-pixels", type=int, help="larger pictures are rejects (default 64 million)")
    parser.add_argument(
        "--workers", type=int, help="shards at a time (default: cores here, all CPUs of a cluster)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="read the source, say what is in it, write nothing"
    )


def run(args: argparse.Namespace) -> int:
    """Carry out a parsed command; returns the exit code.

    Raises:
        UserError: something to put right.
    """
    from datagen.importers.job import look, run_import

    options = options_of(args)
    if args.dry_run:
        found = look(options)
        images = f"{found.images} pictures, " if found.images else ""
        sets = "a corpus and an instruction set" if found.instructions else "a corpus"
        print(f"dry run: {found.rows} rows, {images}{found.shards} shards; would make {sets}:")
        print(f"  {options.corpus}")
        if found.instructions:
            print(f"  {options.instructions}")
        return 0
    print(summary(run_import(options)))
    return 0


def options_of(args: argparse.Namespace) -> ImportOptions:
    """The settings of a parsed command.

    Raises:
        UserError: a value out of range.
    """
    from pydantic import ValidationError

    from datagen.corpus import MAX_PIXELS
    from datagen.importers.fields import check_columns
    from datagen.importers.folder import rows_of
    from datagen.importers.options import ImportOptions

    columns = _columns(getattr(args, "column", []))
    check_columns(columns)
    if args.source == "folder":
        sources: tuple[str, ...] = (rows_of(args.path, args.rows),)
        images: str | None = args.path
    else:
        sources, images = tuple(args.path), getattr(args, "images", None)
    first = args.path if args.source == "folder" else args.path[0]
    try:
        return ImportOptions(
            importer=args.source,
            sources=tuple(map(_absolute, sources)),
            images=None if images is None else _absolute(images),
            out=_absolute(args.out),
            name=args.name or _name_of(first),
            columns=columns,
            shard_images=args.shard_images,
            limit=args.limit,
            max_pixels=args.max_pixels or MAX_PIXELS,
            workers=args.workers,
        )
    except ValidationError as error:
        first_error = error.errors(include_url=False)[0]
        option = "--" + str(first_error["loc"][0]).replace("_", "-")
        raise UserError(f"{option}: {first_error['msg']} (got {first_error['input']!r})") from error


def _columns(given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for (field, _, column), text in zip(pairs, given, strict=True):
        if not field or not column:
            raise UserError(f"--column {text}: write FIELD=NAME, as image=picture")
    return {field: column for field, _, column in pairs}


def _absolute(uri: str) -> str:
    """A path that means the same in workers, whose working folder is another."""
    return uri if "://" in uri else os.path.abspath(os.path.expanduser(uri))


def _name_of(path: str) -> str:
    """The last part of a path without its ending, reduced to what a name may hold."""
    last = path.rstrip("/").rsplit("/", 1)[-1].split(".")[0]
    return (
        "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in last).strip("-.")
        or "import"
    )


def summary(made: Imported) -> str:
    """Where the rows went, adding up."""
    lines = []
    for label, uri, counts in (
        ("corpus", made.corpus, made.corpus_counts),
        ("instructions", made.instructions, made.instruction_counts),
    ):
        if uri is not None:
            lines.append(f"{label:<13} {uri}: {sum(counts.values())} rows")
            lines += [
                f"  {number:>9}  {state}" for state, number in sorted(counts.items(), key=lambda c: -c[1])
            ]
    return "\n".join(lines)
