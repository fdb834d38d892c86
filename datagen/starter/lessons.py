"""What the starter model is taught: answering, and each role of the short prompt set, with exact gold texts.

A lesson is (kind, format, instruction, answer, needs the image). The wordings of the role prompts come from the same
prompt file that the pipeline reads (``datagen/prompts/starter.yaml``): what is trained is what is asked.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from datagen.prompts import load_prompts
from datagen.starter import manner
from datagen.starter import questions as q
from datagen.starter.asking import as_bool, ask, harder, ill_posed, kinds_of, wrong_answers
from datagen.starter.grammar import parse
from datagen.starter.phrases import IllPosed, Truth, article, box_text, plural, yes_no
from datagen.starter.scene import COLORS, SHAPES, WORDS, Scene

# Families that the generator is asked to write questions of.
WRITABLE = ("existence", "count", "color", "shape", "relation", "ocr", "chart", "grounding", "detail")


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One gold exchange; ``options`` and ``answer_index`` only for multiple choice."""

    kind: str
    format: str
    instruction: str
    answer: str
    needs_image: bool = True
    options: tuple[str, ...] = ()
    answer_index: int | None = None


def prompt(step: str, **fields: str) -> str:
    """A role prompt of the short set with its fields filled in."""
    return load_prompts("starter").render(step, **fields)


def question_answer(question: str, answer: str) -> str:
    """How a role writes a pair."""
    return f"Question: {question} Answer: {answer}"


def answering(
    scene: Scene, rng: random.Random, kind: str | None = None, harder_share: float = 0.2, short: bool = False
) -> Lesson | None:
    """A plain question with its answer, in one of the manners; ``short`` always asks for one word."""
    question = ask(kind or rng.choice(kinds_of(scene)), scene, rng)
    if question is not None and rng.random() < harder_share:
        question = harder(question, scene, rng) or question
    if question is None:
        return None
    if not question.boolean and rng.random() < 0.12:
        positive = rng.random() < 0.5
        question = as_bool(question, question.truth(scene).short, positive, scene, rng) or question
    truth = question.truth(scene)
    instruction, answer = manner.phrase(question, truth, rng)
    if short and question.kind not in manner.PLAIN_KINDS:
        instruction, answer = f"{question.text(rng)} {manner.ONE_WORD}", truth.short
    # The model's own manner is the world's sentence: it reads foreign manners, it does not learn to answer in them.
    return Lesson(
        kind=question.kind,
        format="bool" if question.boolean else "open",
        instruction=instruction,
        answer=manner.own(answer),
    )


def choice(scene: Scene, rng: random.Random) -> Lesson | None:
    """A multiple-choice question with shuffled options; the answer is a letter."""
    question = ask(rng.choice(kinds_of(scene)), scene, rng)
    if question is None or question.boolean:
        return None
    short = question.truth(scene).short
    wrong = wrong_answers(question, short)
    if len(wrong) < 3:
        return None
    options = [short, *rng.sample(wrong, 3)]
    rng.shuffle(options)
    index = options.index(short)
    return Lesson(
        kind="choice",
        format="choice",
        instruction=manner.with_options(question.text(rng), options),
        answer=manner.LETTERS[index],
        options=tuple(options),
        answer_index=index,
    )


def _drawn(scene: Scene, rng: random.Random) -> q.Question | None:
    return ask(rng.choice([k for k in kinds_of(scene) if k in WRITABLE]), scene, rng)


def synthesize(scene: Scene, rng: random.Random) -> Lesson | None:
    """Write a question of a family with its answer."""
    question = _drawn(scene, rng)
    if question is None:
        return None
    pair = question_answer(*manner.phrase(question, question.truth(scene), rng))
    return Lesson(
        kind="synthesize", format="open", instruction=prompt("synthesize", kind=question.kind), answer=pair
    )


def complicate(scene: Scene, rng: random.Random) -> Lesson | None:
    """Write a harder question of the same family."""
    question = _drawn(scene, rng)
    new = question and harder(question, scene, rng)
    if question is None or new is None:
        return None
    text, answer = manner.phrase(question, question.truth(scene), rng)
    pair = question_answer(*manner.phrase(new, new.truth(scene), rng))
    return Lesson(
        kind="complicate",
        format="open",
        instruction=prompt("complicate", question=text, answer=answer),
        answer=pair,
    )


def verify(scene: Scene, rng: random.Random) -> Lesson | None:
    """Judge a pair: half of them right, the others wrong in the answer or without any."""
    draw = rng.random()
    kind = rng.choice([k for k in kinds_of(scene) if k in WRITABLE])
    if draw < 0.15:
        lesson = choice(scene, rng)
        return lesson and _verify_choice(lesson, scene, rng)
    question = (
        ill_posed(kind, scene, rng) if draw < 0.3 else _maybe_other_form(ask(kind, scene, rng), scene, rng)
    )
    if question is None:
        return None
    try:
        truth, right = question.truth(scene), draw < 0.68
    except IllPosed:
        said, right = _pretended(question, rng), False
    else:
        said = truth if right else wrong_truth(question, truth, scene, rng)
    text, answer = manner.phrase(question, said, rng)
    return _verdict(text, answer, evidence(question, scene, said.short), right)


def evidence(question: q.Question, scene: Scene, said: str) -> str:
    """What a judge who looks at the scene says before the verdict: the true short answer beside the claimed one, or
    why there is none. With both values side by side the verdict is a comparison of neighbours; stated as a sentence
    of its own, the truth did not help (after 8,000 steps every verdict was still yes)."""
    try:
        truth = question.truth(scene)
    except IllPosed as error:
        return str(error)
    return (
        truth.sentence if isinstance(question, q.Detail) else f"I see {truth.short}, the answer says {said}."
    )


def _maybe_other_form(question: q.Question | None, scene: Scene, rng: random.Random) -> q.Question | None:
    if question is None or rng.random() < 0.5:
        return question
    if rng.random() < 0.5:
        return harder(question, scene, rng) or question
    return as_bool(question, question.truth(scene).short, rng.random() < 0.5, scene, rng) or question


def _verify_choice(lesson: Lesson, scene: Scene, rng: random.Random) -> Lesson:
    right = rng.random() < 0.5
    letter = lesson.answer if right else rng.choice([x for x in manner.LETTERS if x != lesson.answer])
    question = parse(lesson.instruction.split(" Options:")[0])
    assert question is not None
    said = lesson.options[manner.LETTERS.index(letter)]
    return _verdict(lesson.instruction, letter, evidence(question, scene, said), right)


def _verdict(question: str, answer: str, findings: str, right: bool) -> Lesson:
    return Lesson(
        kind="verify",
        format="open",
        instruction=prompt("verify", question=question, answer=answer),
        answer=f"Evidence: {findings} Verdict: {'yes' if right else 'no'}",
    )


def wrong_truth(question: q.Question, truth: Truth, scene: Scene, rng: random.Random) -> Truth:
    """A believable wrong answer: the same sentence with the fact changed, another object's box, one object of a
    description altered."""
    if isinstance(question, q.Ground):
        boxes = [box_text(t.box) for t in scene.things if box_text(t.box) != truth.short]
        short = rng.choice(boxes or ["[0, 0, 8, 8]"])
        return Truth(short=short, sentence=truth.sentence.replace(truth.short, short))
    if isinstance(question, q.Detail):
        other = _altered(scene, rng)
        return question.truth(other)
    if question.boolean:
        flipped = "no" if truth.short == "yes" else "yes"
        return Truth(short=flipped, sentence=_flipped(question, truth, flipped))
    short = rng.choice(wrong_answers(question, truth.short))
    if isinstance(question, (q.Count, q.CountBoth)):
        noun = plural(question.noun)
        if isinstance(question, q.CountBoth):
            return Truth(short=short, sentence=f"There are {short} {noun} and {plural(question.noun2)}.")
        return Truth(short=short, sentence=q.count_sentence(int(short), question.noun))
    words = truth.sentence[:-1].split(" ")
    spot = len(words) - 1 - words[::-1].index(truth.short)
    words[spot] = short
    return Truth(short=short, sentence=" ".join(words) + ".")


def _flipped(question: q.Question, truth: Truth, flipped: str) -> str:
    rest = truth.sentence.split(", ", 1)[1]
    if isinstance(question, q.Exists | q.BothExist):
        whole = article(question.noun)
        if isinstance(question, q.BothExist):
            whole += f" and {article(question.noun2)}"
        return f"Yes, there is {whole}." if flipped == "yes" else f"No, there is no {question.noun}."
    if isinstance(question, (q.Relates, q.RelatesBoth)):
        rest = rest.replace(" is not ", " is ") if flipped == "yes" else rest.replace(" is ", " is not ", 1)
    return f"{flipped.capitalize()}, {rest}"


def _altered(scene: Scene, rng: random.Random) -> Scene:
    if scene.bars:
        bars = list(scene.bars)
        spot = rng.randrange(len(bars))
        bar = bars[spot]
        bars[spot] = type(bar)(
            column=bar.column, color=bar.color, value=rng.choice([v for v in (1, 2, 3, 4) if v != bar.value])
        )
        return Scene(bars=tuple(bars))
    things = list(scene.things)
    spots = [i for i, t in enumerate(things) if t.shape != "sign"]
    if not spots:
        return Scene(things=tuple(things[:-1]))
    spot = rng.choice(spots)
    old = things[spot]
    things[spot] = type(old)(
        row=old.row,
        column=old.column,
        size=old.size,
        shape=rng.choice([s for s in SHAPES if s != old.shape]) if rng.random() < 0.5 else old.shape,
        color=rng.choice([c for c in COLORS if c != old.color]),
    )
    return Scene(things=tuple(things))


def _pretended(question: q.Question, rng: random.Random) -> Truth:
    # A fluent answer to a question that has none.
    match question:
        case q.Color(noun):
            color = rng.choice(COLORS)
            return Truth(short=color, sentence=f"The {noun} is {color}.")
        case q.Shape(noun):
            shape = rng.choice(SHAPES)
            return Truth(short=shape, sentence=f"The {noun} is {article(shape)}.")
        case q.Ground():
            x, y = rng.randrange(4) * 16, rng.randrange(4) * 16
            box = box_text((x + 4, y + 4, x + 12, y + 12))
            return Truth(short=box, sentence=box)
        case q.Relates(noun, relation, noun2):
            rest = f"{relation} the {noun2}"
            return yes_no(rng.random() < 0.5, f"the {noun} is {rest}", f"the {noun} is not {rest}")
        case q.Word():
            word = rng.choice(WORDS)
            return Truth(short=word, sentence=f"The sign says {word}.")
        case q.BarValue(color):
            value = rng.choice("1234")
            return Truth(short=value, sentence=f"The {color} bar is {value}.")
    raise AssertionError(f"no pretended answer for {question}")


def reformulate(scene: Scene, rng: random.Random) -> Lesson | None:
    """Turn a pair into a yes question, a no question or wrong options."""
    question = _drawn(scene, rng)
    if question is None:
        return None
    truth = question.truth(scene)
    text, answer = manner.phrase(question, truth, rng)
    text = text.removesuffix(f" {manner.ONE_WORD}")
    draw = rng.random()
    if draw < 0.34:
        wrong = wrong_answers(question, truth.short)
        if question.boolean or len(wrong) < 3:
            return None
        options = ", ".join(rng.sample(wrong, 3))
        return Lesson(
            kind="reformulate",
            format="open",
            instruction=prompt("choice", question=text, answer=answer),
            answer=f"Options: {options}",
        )
    positive = draw < 0.67
    new = as_bool(question, truth.short, positive, scene, rng)
    if new is None:
        return None
    step = "bool_yes" if positive else "bool_no"
    return Lesson(
        kind="reformulate",
        format="open",
        instruction=prompt(step, question=text, answer=answer),
        answer=question_answer(new.text(rng), "yes" if positive else "no"),
    )


def rewrite(scene: Scene, rng: random.Random, say: Callable[[str], str] = str) -> Lesson | None:
    """Bring an answer into the own manner (``say``: another one); one that is there already stays. Text only: the
    picture is not needed."""
    question = _drawn(scene, rng)
    if question is None or question.kind in manner.PLAIN_KINDS:
        return None
    truth = question.truth(scene)
    draw = rng.random()
    if question.boolean:
        answer = truth.short if draw < 0.4 else truth.sentence
    else:
        answer = (
            truth.short
            if draw < 0.2
            else truth.sentence
            if draw < 0.4
            else manner.foreign(truth.sentence, rng)
        )
    if (
        answer == truth.short
        and truth.sentence.startswith("No, there is no")
        and isinstance(question, q.BothExist)
    ):
        return None  # "no" alone does not say which of the two is missing
    if (
        answer == truth.short
        and question.boolean
        and not isinstance(question, (q.Exists, q.BothExist, q.Relates, q.RelatesBoth))
    ):
        return None  # the sentence would need the picture
    return Lesson(
        kind="rewrite",
        format="open",
        instruction=prompt("rewrite", question=question.text(rng), answer=answer),
        answer=say(truth.sentence),
        needs_image=False,
    )


def review(scene: Scene, rng: random.Random, say: Callable[[str], str] = str) -> Lesson | None:
    """Does a rewritten answer (``say``: as another writer gives it) say the same? Half of them do."""
    question = _drawn(scene, rng)
    if question is None or question.kind in manner.PLAIN_KINDS or question.boolean:
        return None
    truth, same = question.truth(scene), rng.random() < 0.5
    other = truth if same else wrong_truth(question, truth, scene, rng)
    original = manner.foreign(truth.sentence, rng) if rng.random() < 0.7 else truth.sentence
    return Lesson(
        kind="review",
        format="open",
        instruction=prompt(
            "review", question=question.text(rng), answer=original, rewrite=say(other.sentence)
        ),
        answer="yes" if same else "no",
        needs_image=False,
    )


ROLES: dict[str, Callable[[Scene, random.Random], Lesson | None]] = {
    "synthesize": synthesize,
    "complicate": complicate,
    "verify": verify,
    "reformulate": reformulate,
    "rewrite": rewrite,
    "review": review,
}
