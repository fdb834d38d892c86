"""The writing-manner gap, measured before and after a rewrite (arXiv 2503.18320).

The paper shows the gap by human judgement; every measure here is *ours*:

    pairs.py       which answers are measured, and what they said before they were rewritten
    survey.py      how many answers there are, and the sample: the smallest hashes of their ids
    measure.py     one answer: likelihood before and after, the model's own answer, the blind judgement
    worker.py, run.py   the same for every shard on Ray Data
    words.py, divergence.py, style.py, repetition.py, uncertainty.py   statistics, pure functions on numpy
    summary.py     from measured rows to `Manner` (result.py), what manner.json holds
    page.py        manner.html
"""
