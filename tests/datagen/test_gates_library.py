"""Gates that compare: against exact counts and against the packages that people know."""

from __future__ import annotations

import io
import random

import datasketch
import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cluster.errors import UserError
from datagen.gates import decontaminate, image_duplicate, language, near_duplicate
from datagen.gates.decontaminate import Examples, build_index
from datagen.gates.image_duplicate import BITS, Look, band_keys, distances, look, pack
from datagen.gates.shingles import ngram_hashes, words
from datagen.records import Turn

VOCABULARY = [f"w{n}" for n in range(400)]


def talk(question: str, answer: str = "so it is") -> tuple[Turn, ...]:
    return Turn(role="user", text=question), Turn(role="assistant", text=answer)


def natural(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A picture with the smooth structure and the noise of a photograph."""
    rng = np.random.default_rng(seed)
    coarse = np.clip(128 + 60 * rng.normal(size=(6, 8, 3)), 0, 255).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), dtype=float)
    return Image.fromarray(np.clip(smooth + 12 * rng.normal(size=smooth.shape), 0, 255).astype(np.uint8))


def as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def far(one: Look, other: Look) -> int:
    packed = [np.frombuffer(pack(x), dtype=np.uint8) for x in (one, other)]
    return int(distances(packed[0], packed[1][None])[0])


# --- words and n-grams


def test_words() -> None:
    assert words("<image>\nIt's a RED ball, no. 3!") == ["it", "s", "a", "red", "ball", "no", "3"]
    assert words("这是一只猫 cat") == ["这", "是", "一", "只", "猫", "cat"]
    assert words("ｆｕｌｌ ＷＩＤＴＨ") == ["full", "width"], "NFKC"


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "b", "c"]), max_size=7), max_size=6), st.integers(1, 4))
def test_ngrams_are_equal_exactly_when_their_words_are(texts: list[list[str]], n: int) -> None:
    hashes, starts = ngram_hashes(texts, n)
    grams: list[tuple[str, ...]] = []
    for text in texts:
        windows = [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
        grams += windows if len(text) >= n else [tuple(text)] if text else []
    assert len(hashes) == len(grams) == starts[-1]
    by_hash: dict[int, set[tuple[str, ...]]] = {}
    for value, gram in zip(hashes.tolist(), grams, strict=True):
        by_hash.setdefault(value, set()).add(gram)
    assert all(len(found) == 1 for found in by_hash.values()) and len(by_hash) == len(set(grams))


# --- near duplicates


def jaccard(one: list[str], other: list[str]) -> float:
    sets = [{tuple(t[i : i + 3]) for i in range(len(t) - 2)} for t in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def altered_pairs(number: int) -> list[tuple[list[str], list[str]]]:
    """Texts of 20 to 120 words and copies with a few words changed."""
    rng = random.Random(5)
    pairs = []
    for _ in range(number):
        text = rng.choices(VOCABULARY, k=rng.randrange(20, 120))
        copy = [w if rng.random() > (share := rng.random() * 0.2) else "other" for w in text]
        pairs.append((text, copy if share >= 0 else text))
    return pairs


def test_minhash_estimates_exact_jaccard_like_datasketch() -> None:
    ours, theirs = [], []
    for text, copy in altered_pairs(300):
        exact = jaccard(text, copy)
        sketches = near_duplicate.sketches([[Turn(role="user", text=" ".join(t))] for t in (text, copy)])
        ours.append(float(near_duplicate.similarity(sketches[0], sketches[1:])[0]) - exact)
        hashed = []
        for t in (text, copy):
            minhash = datasketch.MinHash(num_perm=near_duplicate.PERMUTATIONS)
            minhash.update_batch([" ".join(t[i : i + 3]).encode() for i in range(len(t) - 2)])
            hashed.append(minhash)
        theirs.append(hashed[0].jaccard(hashed[1]) - exact)
    # Standard error at most 0.5 / sqrt(128) = 0.044 for one pair, a fortieth of that for the mean of 300.
    assert np.abs(ours).max() < 5 * 0.044
    assert abs(np.mean(ours)) < 0.01, "unbiased"
    assert np.std(ours) < 1.25 * np.std(theirs) + 0.002


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_find_what_is_at_the_threshold(threshold: float) -> None:
    number, rows = near_duplicate.bands(threshold)
    assert number * rows <= near_duplicate.PERMUTATIONS
    assert 1 - (1 - threshold**rows) ** number >= near_duplicate.RECALL


def test_bands_find_like_texts_and_few_others() -> None:
    rng = random.Random(1)
    texts = [" ".join(rng.choices(VOCABULARY, k=40)) for _ in range(200)]
    copies = [text.replace(text.split()[5], "changed", 1) for text in texts]
    sketch = near_duplicate.sketches([[Turn(role="user", text=t)] for t in texts + copies])
    keys = near_duplicate.band_keys(sketch, np.zeros(400, dtype=np.uint64), 0.8)
    meet = [len(set(keys[i].tolist()) & set(keys[200 + i].tolist())) > 0 for i in range(200)]
    assert np.mean(meet) > 0.95
    strangers = [len(set(keys[i].tolist()) & set(keys[(i + 7) % 200].tolist())) > 0 for i in range(200)]
    assert np.mean(strangers) < 0.02


def test_same_words_are_exactly_one_and_nothing_else_is() -> None:
    turns = [
        talk("What is it?", "A red ball."),
        talk("what IS it", "a red ball"),
        talk("It what is?", "A ball, red."),
    ]
    sketch = near_duplicate.sketches(turns)
    assert near_duplicate.similarity(sketch[0], sketch).tolist()[:2] == [1.0, 1.0]
    assert near_duplicate.similarity(sketch[0], sketch)[2] < 1
    assert near_duplicate.sketches([]).shape == (0, near_duplicate.PERMUTATIONS + near_duplicate.EXACT)
    wordless = near_duplicate.sketches([talk("???", "!!!"), talk("???", "..."), talk("", "")])
    assert near_duplicate.similarity(wordless[0], wordless)[1] < 0.5


def test_groups_part_pictures_and_short_answers() -> None:
    question = "Is the large red ball to the left of the small blue box?"
    group = near_duplicate.group
    assert group(talk(question, "yes"), ["a"]) == group(talk("Another one?", "Yes."), ["a"])
    assert group(talk(question, "yes"), ["a"]) != group(talk(question, "no"), ["a"])
    assert group(talk(question, "yes"), ["a"]) != group(talk(question, "yes"), ["b"])
    long = "It is, as one can see at the edge."
    assert group(talk(question, long), ["a"]) == group(talk(question, long + " Yes."), ["a"])


# --- pictures


@pytest.mark.parametrize("seed", range(20))
def test_phash_is_that_of_imagehash(seed: int) -> None:
    picture = natural(seed, (200 + 7 * seed, 150 + 5 * seed))
    assert f"{look(picture).phash:016x}" == str(imagehash.phash(picture))


def test_phash_of_plain_drawings_is_nearly_that_of_imagehash() -> None:
    """Where many coefficients are zero, rounding decides; it is snapped, and the rest agrees."""
    rng = random.Random(0)
    equal = 0
    for _ in range(100):
        picture = Image.new("RGB", (64, 64), (90, 95, 100))
        for _ in range(3):
            color = tuple(rng.randrange(256) for _ in range(3))
            x, y = rng.randrange(48), rng.randrange(48)
            picture.paste(color, (x, y, x + 16, y + 16))
        equal += f"{look(picture).phash:016x}" == str(imagehash.phash(picture))
    assert equal >= 97


@pytest.mark.parametrize("seed", range(8))
def test_same_picture_in_other_files(seed: int) -> None:
    picture = natural(seed)
    half = picture.resize((160, 120), Image.Resampling.LANCZOS)
    for copy in (as_jpeg(picture, 30), as_jpeg(picture, 90), half, as_jpeg(half, 60)):
        assert far(look(picture), look(copy)) <= 4
    assert far(look(picture), look(natural(seed + 100))) > 4


def test_color_and_flatness_count() -> None:
    picture = natural(3)
    swapped = Image.merge("RGB", picture.split()[::-1])
    grey = Image.merge("RGB", [picture.convert("L")] * 3)
    assert far(look(picture), look(swapped)) > BITS or far(look(picture), look(swapped)) > 4
    assert far(look(picture), look(grey)) > 4, "pHash alone says they are one"
    red, red_too, blue = (Image.new("RGB", (40, 40), c) for c in ("red", "red", "blue"))
    assert look(red).phash is None
    assert far(look(red), look(red_too)) == 0 and far(look(red), look(blue)) > BITS
    assert far(look(red), look(picture)) > BITS


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**64 - 1), st.data())
def test_bands_miss_no_near_hash(phash: int, data: st.DataObject) -> None:
    distance = data.draw(st.integers(0, image_duplicate.MAX_DISTANCE))
    flipped = data.draw(st.sets(st.integers(0, 63), max_size=distance))
    other = phash
    for bit in flipped:
        other ^= 1 << bit
    one, two = (Look(phash=h, tint=bytes(192), content=0) for h in (phash, other))
    assert far(one, two) == len(flipped)
    assert set(band_keys(one, distance)) & set(band_keys(two, distance))


# --- evaluation sets

QUESTION = "What is the man in the blue coat near the old harbour holding in his left hand?"


def index_of(
    *texts: tuple[Turn, ...], pictures: tuple[Image.Image, ...] = (), pictured: bool = False
) -> decontaminate.EvalIndex:
    looks = [(f"pic-{n}", look(p)) for n, p in enumerate(pictures)]
    named = [(f"ex-{n}", list(t), pictured) for n, t in enumerate(texts)]
    return build_index([Examples(name="bench", texts=named, pictures=looks)], distance=4)


def test_text_of_an_evaluation_set() -> None:
    index = index_of(talk(QUESTION, "an umbrella"), talk("Is there a dog?", "yes"))
    found = index.judge_text(talk("Look closely. " + QUESTION, "An umbrella, I think."), pictured=False)
    assert not found.passed and found.detail == "100% of the 8-grams of bench, example ex-0"
    assert index.judge_text(talk("Is there a dog?", "yes"), pictured=False).passed, (
        "too short to prove anything"
    )
    assert index.judge_text(
        talk("What is the man in the blue coat near the sea doing?", "fishing"), pictured=False
    ).passed
    nearly = QUESTION.replace("left hand", "right hand")
    assert index.judge_text(talk(nearly, "nothing"), pictured=False).passed, "8 of its 12 8-grams"


@given(
    st.lists(st.sampled_from(VOCABULARY[:12]), min_size=8, max_size=20),
    st.integers(0, 12),
    st.integers(8, 20),
)
def test_share_is_that_of_counting(text: list[str], start: int, size: int) -> None:
    row = text[start : start + size]
    grams = {tuple(text[i : i + 8]) for i in range(len(text) - 7)}
    seen = {tuple(row[i : i + 8]) for i in range(len(row) - 7)}
    index = index_of((Turn(role="user", text=" ".join(text[:-1])), Turn(role="assistant", text=text[-1])))
    passed = index.judge_text([Turn(role="user", text=" ".join(row))], pictured=False).passed
    assert passed is (len(grams & seen) / len(grams) < decontaminate.SHARE)


def test_phrases_of_a_template_prove_nothing() -> None:
    template = "Which of these words is printed on the sign in the upper left corner of picture number"
    index = index_of(*(talk(template, f"number{n} word{n}") for n in range(decontaminate.COMMON + 1)))
    assert index.judge_text(talk(template, "something else"), pictured=False).passed
    few = index_of(*(talk(template, f"number{n} word{n}") for n in range(decontaminate.COMMON)))
    assert not few.judge_text(talk(template, "number3 word3"), pictured=False).passed


def test_a_short_question_about_another_picture_is_no_leak() -> None:
    short, long = (
        talk("What shape is the lowest object?", "The lowest object is a cross."),
        talk(QUESTION, "an umbrella"),
    )
    longer = talk(QUESTION, "A black umbrella with a wooden handle, I think.")
    for texts, alone, other_picture in ((short, False, True), (long, False, True), (longer, False, False)):
        index = index_of(texts, pictured=True)
        assert index.judge_text(texts, pictured=False).passed is alone
        assert index.judge_text(texts, pictured=True).passed is other_picture
        assert not index_of(texts).judge_text(texts, pictured=True).passed, "an example without a picture"


def test_pictures_of_an_evaluation_set() -> None:
    index = index_of(pictures=(natural(1), natural(2)))
    found = index.judge_picture(look(as_jpeg(natural(2), 50)), 4)
    assert not found.passed and "bench, picture pic-1" in found.detail
    assert index.judge_picture(look(natural(3)), 4).passed
    assert index_of().judge_picture(look(natural(3)), 4).passed
    assert index_of().judge_text(talk(QUESTION), pictured=False).passed


# --- languages

PROSE = {
    "en": "The man in the blue coat is holding an umbrella because it has started to rain in the harbour.",
    "de": "Der Mann im blauen Mantel hält einen Regenschirm, weil es im Hafen angefangen hat zu regnen.",
    "fr": "L'homme au manteau bleu tient un parapluie parce qu'il commence à pleuvoir sur le port.",
    "zh": "这个穿蓝色外套的男人拿着一把雨伞,因为港口开始下雨了。人们都在找地方躲雨,街道上很快就空无一人了。",
}


@pytest.mark.parametrize("code", PROSE)
def test_language(code: str) -> None:
    turns = talk(PROSE[code])
    assert language.language(turns, (code,)).passed and language.language(turns, ("ja", code)).passed
    other = language.language(turns, ("it",))
    assert not other.passed and other.detail.startswith(f"{code} with confidence")


def test_short_texts_numbers_and_boxes_have_no_language() -> None:
    for answer in (
        "ja",
        "[1, 2, 3, 4] [5, 6, 7, 8]",
        "3.14159 2.71828 1.41421 1.73205 0.57721 1.61803 6.02214",
    ):
        assert language.language(talk("Was?", answer), ("en",)).passed


def test_language_codes() -> None:
    language.check_codes(("en", "de"))
    with pytest.raises(UserError, match="--language english: not known"):
        language.check_codes(("english",))
