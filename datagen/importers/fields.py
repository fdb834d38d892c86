"""A row of a general table (JSON lines, Parquet, a sample of a tar) by named fields.

Fields are looked up under the column that ``--column field=name`` gives, else under their usual names:

    image          image, images, file_name, filename, image_path, path, jpg, png, webp
    id             only where given: many sets call something "id" that is not unique
    captions       captions, caption, text, texts, sentences, txt
    conversations  conversations, conversation, messages
    objects        objects:  [{"name", "label" or "category": …, "box" or "bbox": [x1, y1, x2, y2], "attributes": …}]
    regions        regions:  [{"phrase" or "caption": …, "box" or "bbox": [x1, y1, x2, y2]}]
    ocr            ocr, words

Boxes are corners in pixels; with ``--column boxes=xywh`` they are x, y, width, height.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cluster.errors import UserError, did_you_mean
from datagen.importers.pictures import Annotations, Rectangle, corner_box, numbers, sized_box, text, texts
from datagen.importers.rejects import BadRow

USUAL = {
    "image": ("image", "images", "file_name", "filename", "image_path", "path", "jpg", "jpeg", "png", "webp"),
    "id": (),
    "captions": ("captions", "caption", "text", "texts", "sentences", "txt"),
    "conversations": ("conversations", "conversation", "messages"),
    "objects": ("objects",),
    "regions": ("regions",),
    "ocr": ("ocr", "words"),
}
BOXES = ("xyxy", "xywh")
MAX_IMAGES = 1000


def check_columns(columns: Mapping[str, str], present: Iterable[str] | None = None) -> None:
    """Whether a mapping given on the command line makes sense.

    Raises:
        UserError: an unknown field, or a column that the source (``present``) does not have.
    """
    have = None if present is None else list(present)
    for field, column in columns.items():
        if field == "boxes":
            if column not in BOXES:
                raise UserError(f"--column boxes={column}: it is one of {', '.join(BOXES)}")
        elif field not in USUAL:
            raise UserError(f"--column {field}={column}: no field {field!r}{did_you_mean(field, USUAL)}")
        elif have is not None and column not in have:
            raise UserError(
                f"--column {field}={column}: no such column{did_you_mean(column, have)} It has {', '.join(have)}."
            )


def column_of(field: str, columns: Mapping[str, str], present: Iterable[str]) -> str | None:
    """The column that holds a field, None where there is none."""
    if field in columns:
        return columns[field]
    have = set(present)
    return next((name for name in USUAL[field] if name in have), None)


def value_of(field: str, columns: Mapping[str, str], row: Mapping[str, Any]) -> Any:
    """A row's value of a field, None where it has none; an empty value under one usual name gives way to the next."""
    names = (columns[field],) if field in columns else USUAL[field]
    return next((row[name] for name in names if row.get(name) not in (None, "", [])), None)


def image_values(columns: Mapping[str, str], row: Mapping[str, Any]) -> list[Any]:
    """The pictures that a row names or holds, in order; [] for text alone.

    Raises:
        BadRow: more than MAX_IMAGES.
    """
    value = value_of("image", columns, row)
    values = [] if value is None else value if isinstance(value, list) else [value]
    if len(values) > MAX_IMAGES:
        raise BadRow("malformed", f"{len(values)} pictures in one row, the limit is {MAX_IMAGES}")
    return values


def read_annotations(columns: Mapping[str, str], row: Mapping[str, Any]) -> Annotations:
    """Everything a row says about its one picture.

    Raises:
        BadRow: a field has another form than the one above.
    """
    boxes = columns.get("boxes", "xyxy")
    return Annotations(
        captions=_captions(value_of("captions", columns, row)),
        objects=tuple(
            _object(item, boxes) for item in _objects(value_of("objects", columns, row), "objects")
        ),
        regions=tuple(
            _region(item, boxes) for item in _objects(value_of("regions", columns, row), "regions")
        ),
        ocr=texts(value_of("ocr", columns, row), "a printed word"),
    )


def says_something(columns: Mapping[str, str], row: Mapping[str, Any]) -> bool:
    """Whether a row annotates its picture, beside any conversation about it."""
    fields = ("captions", "objects", "regions", "ocr")
    return any(value_of(field, columns, row) is not None for field in fields)


def _captions(value: object) -> tuple[str, ...]:
    """Texts, also as ``[{"raw": …}]`` or ``{"raw": […]}``, the form of COCO and Flickr30k sets on the hub."""
    if isinstance(value, dict):
        value = value.get("raw", value.get("text", value.get("caption")))
    if isinstance(value, list):
        value = [item.get("raw", item.get("caption")) if isinstance(item, dict) else item for item in value]
    return texts(value, "a caption")


def _objects(value: object, what: str) -> list[Mapping[str, Any]]:
    if value is None:
        return []
    if isinstance(value, dict):
        return _rows_of(value, what)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadRow("malformed", f"{what} is not a list of objects")
    return value


def _rows_of(columns: dict[str, Any], what: str) -> list[Mapping[str, Any]]:
    """``{"bbox": […], "category": […]}``, how Hugging Face stores a list of objects, as objects."""
    lists = {key: value for key, value in columns.items() if isinstance(value, list)}
    if len({len(value) for value in lists.values()}) > 1:
        raise BadRow("malformed", f"the columns of {what} have different lengths")
    length = len(next(iter(lists.values()), []))
    return [{key: value[number] for key, value in lists.items()} for number in range(length)]


def _object(item: Mapping[str, Any], boxes: str) -> tuple[str, Rectangle, tuple[str, ...]]:
    name = item.get("name", item.get("label", item.get("category")))
    attributes = texts(item.get("attributes"), "an attribute")
    return (
        text(str(name) if isinstance(name, int) else name, "the name of an object"),
        _box(item, boxes),
        attributes,
    )


def _region(item: Mapping[str, Any], boxes: str) -> tuple[str, Rectangle]:
    return text(item.get("phrase", item.get("caption")), "the phrase of a region"), _box(item, boxes)


def _box(item: Mapping[str, Any], boxes: str) -> Rectangle:
    value = item.get("box", item.get("bbox"))
    return sized_box(numbers(value, 4, "a box"), "a box") if boxes == "xywh" else corner_box(value, "a box")
