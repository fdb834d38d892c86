"""``l2t view``: pictures with what was written about them, the verdicts, and where every row went.

    l2t view runs/mine --out gallery.html                # a page of its own, with filters
    html = gallery.section("runs/mine", images=8)        # for another page that has `CSS` in its style

`books` is what became of all rows, `facts` what their columns say, `sample` which of them the page shows, `lineage`
and `visible` how a row is shown, `pictures` and `annotated` how an image is, `page` puts them together. All class
names begin with ``g-``.
"""

from __future__ import annotations

from datagen.gallery.books import books, in_words
from datagen.gallery.cli import main
from datagen.gallery.page import CSS, gallery_html, section

__all__ = ["CSS", "books", "gallery_html", "in_words", "main", "section"]
