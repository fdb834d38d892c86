"""What every new pair goes through before it counts, cheapest first: gates, judge, then the measured filters."""

from __future__ import annotations

from datagen.programs.blind import blind
from datagen.programs.check import check
from datagen.programs.consistency import consistent
from datagen.programs.verify import verify

JUDGED = (check, verify, blind, consistent)
