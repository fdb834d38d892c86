"""RefCOCO, RefCOCO+, RefCOCOg: a region and the phrases that refer to it.

A source row becomes one row of part ``region`` (caption the box; all phrases are references) and one of part
``phrase`` for each of them (find the box). ``meta["box"]`` is the region's (x1, y1, x2, y2) in pixels. Layouts: Parquet
(question_id, image, answer, bbox as x, y, width, height), or JSON rows of the same columns with file_name and COCO's
pictures; the authors' pickled files are not read, since unpickling runs code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from datagen.importers.pictures import sized_box
from datagen.importers.rejects import BadRow
from eval.benchmarks import cells
from eval.benchmarks.benchmark import Benchmark
from eval.benchmarks.cells import Draft
from eval.benchmarks.sources import Row

# COCO_train2014_000000581857_16.jpg names the region; the picture's file has no last number.
_REGION = re.compile(r"^(COCO_\w+2014_\d{12})_\d+\.jpg$")


def _read(row: Row) -> Iterator[Draft]:
    values = row.values
    name = cells.text(values, "question_id", "ref_id")
    phrases = cells.answers(values, "answer", "sentences", "phrases")
    found = values.get("bbox")
    if not isinstance(found, list | tuple):
        raise BadRow("no_answer", "no bbox in the row")
    box = sized_box(found, "bbox")
    if box[2] <= box[0] or box[3] <= box[1]:
        raise BadRow("malformed", f"the box {list(found)} has no area")
    file = cells.optional(values, "file_name")
    match = _REGION.match(file)
    names = (f"{match.group(1)}.jpg", f"train2014/{match.group(1)}.jpg") if match else (file,) if file else ()
    images = cells.pictures(values.get("image"), *names)
    corners = [round(edge, 2) for edge in box]
    meta = {"box": corners}
    yield Draft(id=name, question="", images=images, golds=phrases, part="region", group=name, meta=meta)
    for number, phrase in enumerate(phrases):
        yield Draft(
            id=f"{name}#{number}",
            question=phrase,
            images=images,
            golds=(str(corners),),
            part="phrase",
            group=name,
            meta=meta,
        )


REFCOCO = Benchmark(name="refcoco", read=_read, split="val")
REFCOCO_PLUS = Benchmark(name="refcoco_plus", read=_read, split="val")
REFCOCO_G = Benchmark(name="refcoco_g", read=_read, split="val")
