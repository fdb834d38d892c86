"""A data set with rows of every state, kind and form, and hostile ones, for tests that look at the gallery."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from cluster.datasets import commit_shard, freeze, plan_dataset
from datagen.programs.draft import outcome
from datagen.records import ACCEPTED_STATES, GateResult, Record, Sampling, Turn, Verdict, to_table

# What a row might try: markup, ends of scripts and comments, attributes, entities, template braces, line separators,
# an order override, tag characters that only a model reads, and one very long word.
HOSTILE = (
    "<script>window.hacked=1</script><img src=x onerror='window.hacked=1'><svg onload=window.hacked=1>",
    "</script></style></title><script>window.hacked=1</script><!-- ]]> -->",
    "\"' onmouseover='window.hacked=1' autofocus onfocus=window.hacked=1 x='",
    "&lt;script&gt; {{ 7 * 7 }} {% raw %} ${7*7} javascript:window.hacked=1",
    "line\u2028separator\u2029paragraph\x00nul\x1b[31mescape",
    "user \u202egnp.exe\u202c \u2066isolate\u2069 \U000e0041\U000e0042tag",
    "https://example.org/pixel.png url(https://example.org/x) @import 'https://example.org/y.css'",
    "W" * 50_000,
    "<iframe srcdoc='<script>parent.hacked=1</script>'></iframe><base href='https://example.org/'>",
)


def record(name: str, state: str = "accepted", reason: str = "", **more: object) -> Record:
    """A row about the first image."""
    turns = (Turn(role="user", text=f"{name}?"), Turn(role="assistant", text=f"It is {name}."))
    base = Record(
        id=name,
        image_ids=("img-0000",),
        kind="color",
        format="open",
        conversation=turns,
        state=state,  # type: ignore[arg-type]
        reason=reason,
        program="comvint",
        calls=1,
    )
    return replace(base, **more)  # type: ignore[arg-type]


def every_state() -> list[Record]:
    """Two dozen rows about six images and none: each terminal state, each form of a conversation."""
    length = GateResult(name="length", passed=True, detail="5 words")
    yes, no = Verdict(result="yes", evidence="I see it."), Verdict(result="no", evidence="I see two.")
    sampling = Sampling(seed=7, temperature=0.7, top_p=0.9, max_tokens=32, stop=("\n\n",))
    options = ("red", "green", "blue")
    rewritten = GateResult(name="original_answer", passed=True, detail="One can see that it is red today.")
    rows = [
        record("root", verdict=yes, gates=(length, rewritten), rewrite="accepted", sampling=sampling,
               conversation=(Turn(role="user", text="What colour is it?"), Turn(role="assistant", text="It is red."))),
        record("harder", round=1, parents=("root",), verdict=yes, scores=(("vc", 1.5), ("consistency", 0.8))),
        record("asked-yes", parents=("harder",), round=1, format="bool", verdict=yes),
        record("asked-no", "rejected", "unverified", parents=("harder",), round=1, format="bool", verdict=no),
        record("pick", parents=("root",), kind="choice", format="choice", options=options, answer_index=1),
        record("too-few", "rejected", "options:choice", parents=("root",), kind="choice",
               conversation=(Turn(role="draft", text="A. red\nB. red\nC. red"),)),
        record("kept", "kept_original", kind="count", verdict=yes, rewrite="fallback", image_ids=("img-0001",),
               gates=(length, GateResult(name="preserve", passed=False, detail="lost: 3"))),
        record("manner", kind="count", verdict=yes, rewrite="kept", image_ids=("img-0001",), scores=(("vc", -0.25),)),
        record("gated", "rejected", "gate:meta_talk", kind="count", image_ids=("img-0001",),
               gates=(length, GateResult(name="meta_talk", passed=False, detail="says 'caption'"))),
        record("same", "rejected", "duplicate", kind="shape", image_ids=("img-0002",), parents=("nowhere",)),
        record("unread", "rejected", "parse:synthesize", kind="shape", image_ids=("img-0002",),
               conversation=(Turn(role="draft", text="I would rather not { [ ..."),)),
        record("unclear", "rejected", "parse:verify", kind="shape", image_ids=("img-0002",),
               verdict=Verdict(result="unparsed", evidence="perhaps")),
        record("cut", "truncated", "synthesize", kind="detail", image_ids=("img-0003",),
               conversation=(Turn(role="draft", text="And then and then"),)),
        record("broken", "failed", "image", kind="detail", image_ids=("img-bad",), conversation=()),
        record("engine", "failed", "engine", kind="detail", image_ids=("img-0003",)),
        record("no-score", kind="detail", image_ids=("img-0003",), scores=(("vc", float("nan")), ("consistency", 0.2))),
        record("talk", kind="conversation", image_ids=("img-0004",), program="import-llava", calls=0, conversation=(
            Turn(role="system", text="Be brief."), Turn(role="user", text="<image>\nWhat is it?"),
            Turn(role="assistant", text="A ball."), Turn(role="user", text="And its colour?"),
            Turn(role="assistant", text="It is red.")),
            gates=(GateResult(name="original_answer", passed=True, detail="4\tThe ball is of a red colour."),)),
        record("two-pictures", kind="comparison", image_ids=("img-0004", "img-0005")),
        record("lost-picture", kind="comparison", image_ids=("img-nowhere",)),
        record("text", kind="text", image_ids=(), program="import-llava", calls=0),
        record("text-child", kind="text", image_ids=(), parents=("text",), round=1),
        record("circle-a", kind="text", image_ids=(), parents=("circle-b",)),
        record("circle-b", "rejected", "unverified", kind="text", image_ids=(), parents=("circle-a",), verdict=no),
    ]  # fmt: skip
    return rows


def hostile() -> list[Record]:
    """Rows whose every text is an attack."""
    rows = []
    for number, text in enumerate(HOSTILE):
        gates = (
            GateResult(name=text, passed=False, detail=text),
            GateResult(name=text, passed=True, detail=text),
        )
        rows.append(
            record(
                f"{number}{text[:200]}",
                conversation=tuple(
                    Turn(role=r, text=text) for r in ("system", "user", "assistant", "draft", text)
                ),
                kind=text,
                state="rejected",
                reason=text,
                verdict=Verdict(result=text, evidence=text),
                gates=(*gates, GateResult(name="original_answer", passed=True, detail=text[::-1])),
                scores=((text, 1.0),),
                options=(text, "b"),
                answer_index=0,
                rewrite=text,
                program=text,
                prompt_set=text,
                model_revision=text,
                source=text,
                image_ids=("img-0000",) if number % 2 else (text,),
            )
        )
    return rows


def write_rows(uri: str, corpus: str | None, shards: list[list[Record]], name: str = "every state") -> str:
    """Publish rows as an instruction set."""
    parents = [corpus] if corpus else []
    plan_dataset(
        uri, kind="instructions", name=name, shards=len(shards), config={"of": name}, parents=parents
    )
    for k, rows in enumerate(shards):
        kept = [r for r in rows if r.state in ACCEPTED_STATES]
        rejects = [r for r in rows if r.state not in ACCEPTED_STATES]
        tables = {"rows": to_table(kept)} | ({"rejects": to_table(rejects)} if rejects else {})
        commit_shard(
            uri, k, tables, counts=Counter(outcome(r.state, r.reason) for r in rows), inputs=len(rows)
        )
    freeze(uri)
    return uri
