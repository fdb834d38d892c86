"""Yes or no about a picture: MME, POPE, HallusionBench, VSR.

* MME: Parquet (question_id, question, answer, category, image), or the official folders: <category>/*.txt with lines
  ``question <tab> answer`` beside the pictures, or in questions_answers_YN/ with images/.
* POPE: Parquet, or coco_pope_<split>.json (JSON lines) with COCO's val2014.
* HallusionBench: Parquet, or HallusionBench.json with the pictures below hallusion_bench/. Some rows have no picture.
* VSR: JSON lines or Parquet (image, caption, label) with COCO's pictures by number.
"""

from __future__ import annotations

from datagen.importers.rejects import BadRow
from eval.benchmarks import cells
from eval.benchmarks.benchmark import Benchmark
from eval.benchmarks.cells import Draft, ImageRef, Named
from eval.benchmarks.sources import ENDINGS, Row

POPE_PARTS = ("random", "popular", "adversarial")


def _yes_no(value: str) -> str:
    if value.lower() not in ("yes", "no"):
        raise BadRow("malformed" if value else "no_answer", f"the answer is {value!r}, not yes or no")
    return value.lower()


def _mme(row: Row) -> list[Draft]:
    if "line" in row.values:
        return [_mme_line(row)]
    values = row.values
    category, name = cells.text(values, "category"), cells.text(values, "question_id")
    return [
        Draft(
            id=f"{category}/{name}#{row.number}",
            question=cells.text(values, "question"),
            images=cells.pictures(values.get("image")),
            golds=(_yes_no(cells.optional(values, "answer")),),
            category=category,
            group=f"{category}/{name}",
        )
    ]


def _mme_line(row: Row) -> Draft:
    question, tab, answer = row.values["line"].partition("\t")
    parts = row.file.name.split("/")
    if not tab or len(parts) < 2:
        raise BadRow("malformed", "expected a line `question <tab> answer` in <category>/<picture>.txt")
    folder = "/".join(parts[:-1]).removesuffix("/questions_answers_YN")
    category = folder.rsplit("/", 1)[-1]
    names = tuple(
        f"{place}/{row.file.stem}.{ending}"
        for place in (folder, f"{folder}/images")
        for ending in ("jpg", "png")
    )
    return Draft(
        id=f"{category}/{row.file.stem}#{row.number}",
        question=question.strip(),
        images=(Named(names),),
        golds=(_yes_no(answer.strip()),),
        category=category,
        group=f"{category}/{row.file.stem}",
    )


def _pope(row: Row) -> list[Draft]:
    values = row.values
    named = cells.optional(values, "category").lower() or row.file.stem.lower()
    part = next((p for p in POPE_PARTS if p in named), "")
    if not part:
        raise BadRow("wrong_split", f"neither column `category` nor file name says which of {POPE_PARTS}")
    image = values.get("image")
    names = (f"val2014/{image}",) if isinstance(image, str) else ()
    return [
        Draft(
            id=f"{part}:{cells.text(values, 'question_id', 'id')}",
            question=cells.text(values, "question", "text"),
            images=cells.pictures(image, *names),
            golds=(_yes_no(cells.optional(values, "answer", "label")),),
            part=part,
        )
    ]


def _hallusion(row: Row) -> list[Draft]:
    values = row.values
    parts = [
        cells.text(values, name)
        for name in ("category", "subcategory", "set_id", "figure_id", "question_id", "visual_input")
    ]
    answer = cells.optional(values, "gt_answer")
    if answer not in ("0", "1", "2"):
        raise BadRow("malformed" if answer else "no_answer", f"gt_answer is {answer!r}, not 0, 1 or 2")
    category, subcategory, set_id, figure, question, shown = parts
    return [
        Draft(
            id=":".join(parts[:5]),
            question=cells.text(values, "question"),
            images=_figure(row) if shown != "0" else (),
            golds=({"0": "no", "1": "yes", "2": "uncertain"}[answer],),
            category=category,
            group=":".join((category, subcategory, set_id, question)),
            meta={
                "category": category,
                "subcategory": subcategory,
                "set_id": set_id,
                "figure_id": figure,
                "question_id": question,
                "visual_input": shown,
                "gt_answer": answer,
                "gt_answer_details": cells.optional(values, "gt_answer_details"),
            },
        )
    ]


def _figure(row: Row) -> tuple[ImageRef, ...]:
    image = cells.first(row.values, "image")
    if image is not None:
        return cells.pictures(image)
    named = cells.optional(row.values, "filename").removeprefix("./")
    if not named:
        raise BadRow("no_image", "a row that shows a figure names none")
    return (Named((named, f"hallusion_bench/{named}", named.removeprefix("hallusion_bench/"))),)


def _vsr(row: Row) -> list[Draft]:
    values = row.values
    image = values.get("image")
    names = (
        (f"images/{image}", f"train2017/{image}", f"val2017/{image}", f"trainval2017/{image}")
        if isinstance(image, str)
        else ()
    )
    label = cells.first(values, "label")
    if label in (None, ""):
        raise BadRow("no_answer", "no label in the row")
    if str(label) not in ("0", "1", "True", "False"):
        raise BadRow("malformed", f"the label is {label!r}, not 0 or 1")
    return [
        Draft(
            id=cells.optional(values, "id") or f"{row.file.stem}:{row.number}",
            question=cells.text(values, "caption"),
            images=cells.pictures(image, *names),
            golds=("True" if str(label) in ("1", "True") else "False",),
            options=("True", "False"),
            answer_index=0 if str(label) in ("1", "True") else 1,
            category=cells.optional(values, "relation"),
        )
    ]


MME = Benchmark(name="mme", read=_mme, endings=(*ENDINGS, ".txt"))
POPE = Benchmark(name="pope", read=_pope)
HALLUSION = Benchmark(name="hallusionbench", read=_hallusion, pictures=(0, 1))
VSR = Benchmark(name="vsr", read=_vsr, split="test")
