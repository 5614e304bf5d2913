"""Corruptions of pictures and rewordings of questions.

Repeatable, growing, and leaving alone what must stay.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from support import ROOT
from transformers import AutoTokenizer

from asymvlm.documents.world import words
from asymvlm.documents.world.generate import generate
from asymvlm.evaluation.robustness.corruptions import PICTURE_CORRUPTIONS, corrupt
from asymvlm.evaluation.robustness.rewordings import REWORDINGS, distractor, paraphrase, typos

TEACHER = ROOT / "checkpoints/tiny-teacher"
NAMES = [*PICTURE_CORRUPTIONS, *REWORDINGS]
PAGES = [generate(4, "val", index)[0].image for index in range(12)]
WORLD_QUESTIONS = sorted(
    {question.text for index in range(60) for question in generate(4, "val", index, 20, 6)[1]}
)


@pytest.fixture
def sample(page_samples):
    return next(one for one in page_samples if one.key_boxes and one.evidence_boxes)


def pixels(sample):
    return [np.asarray(image).astype(float) for image in sample.images]


def same(first, second):
    return first.question == second.question and all(
        map(np.array_equal, pixels(first), pixels(second))
    )


@pytest.mark.parametrize("name", NAMES)
def test_repeatable_in_any_order_and_other_for_other_seeds_and_samples(page_samples, name):
    forth = [corrupt(one, name, 3, seed=1) for one in page_samples]
    back = [corrupt(one, name, 3, seed=1) for one in reversed(page_samples)][::-1]
    assert all(map(same, forth, back))
    assert not any(map(same, forth, page_samples))
    if name in (
        "gaussian_noise",
        "occlusion",
        "distractor",
        "typos",
    ):  # the others draw nothing, or only between equals
        assert not all(
            same(one, corrupt(sample, name, 3, seed=2))
            for one, sample in zip(forth, page_samples, strict=True)
        )
        renamed = [
            corrupt(replace(sample, id=f"{sample.id}'"), name, 3, seed=1) for sample in page_samples
        ]
        assert not all(map(same, forth, renamed))


@pytest.mark.parametrize("name", PICTURE_CORRUPTIONS)
def test_pictures_get_worse_with_severity(name):
    effects = []
    for image in PAGES:
        worse = [
            PICTURE_CORRUPTIONS[name](image, severity, np.random.default_rng(0))
            for severity in range(1, 6)
        ]
        effects.append(
            [np.abs(np.asarray(one, float) - np.asarray(image, float)).mean() for one in worse]
        )
    assert np.mean(effects, axis=0)[0] > 0.5 and (np.diff(np.mean(effects, axis=0)) > 0).all()
    assert name == "jpeg" or (np.diff(effects, axis=1) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_only_pictures_or_only_the_question_change(sample, name):
    got = corrupt(sample, name, 5, seed=0)
    changed = {"question"} if name in REWORDINGS else {"images"}
    assert {key for key, value in vars(got).items() if value is not vars(sample)[key]} == changed
    assert corrupt(sample, name, 0, seed=0) is sample


@pytest.mark.parametrize("name", PICTURE_CORRUPTIONS)
@pytest.mark.parametrize("mode,size", [("RGB", (224, 224)), ("L", (301, 97)), ("RGB", (320, 256))])
def test_size_and_mode_stay_and_the_picture_given_is_not_touched(name, mode, size):
    levels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    image = Image.fromarray(levels).convert(mode)
    before = image.copy()
    for severity in (1, 5):
        got = PICTURE_CORRUPTIONS[name](image, severity, np.random.default_rng(0))
        assert (got.size, got.mode) == (size, mode) and image == before and got != before


def test_noise_and_contrast_have_the_strength_they_say():
    grey = Image.fromarray(np.full((100, 100), 128, np.uint8))
    noisy = np.asarray(PICTURE_CORRUPTIONS["gaussian_noise"](grey, 1, np.random.default_rng(0)))
    assert noisy.std() == pytest.approx(20.4, rel=0.03)
    white = Image.fromarray(np.full((100, 100), 255, np.uint8))
    assert (
        np.asarray(PICTURE_CORRUPTIONS["gaussian_noise"](white, 1, np.random.default_rng(0))).min()
        > 128
    )  # clipped, not wrapped
    levels = np.full((20, 20), 28, np.uint8)
    levels[:10, :10] = 228  # a quarter, so that the mean is 78
    got = PICTURE_CORRUPTIONS["low_contrast"](Image.fromarray(levels), 1, np.random.default_rng(0))
    assert np.unique(got).tolist() == [58, 138]


def test_occlusion_covers_what_it_says_and_grows_around_it():
    white = Image.new("RGB", (400, 300), "white")
    covered = [
        np.asarray(PICTURE_CORRUPTIONS["occlusion"](white, s, np.random.default_rng(7)))[..., 0]
        == 128
        for s in range(1, 6)
    ]
    for severity, (smaller, larger) in enumerate(pairwise(covered), start=1):
        assert not (smaller & ~larger).any()
        assert 0.02 * severity < smaller.mean() < 0.055 * severity
    assert set(np.unique(PICTURE_CORRUPTIONS["occlusion"](white, 5, np.random.default_rng(7)))) == {
        128,
        255,
    }


def test_every_picture_of_a_sample_is_corrupted(sample):
    two = corrupt(
        replace(sample, images=(*sample.images, *sample.images)), "gaussian_noise", 1, seed=0
    )
    first, second, clean = *pixels(two), pixels(sample)[0]
    assert not any(
        np.array_equal(*pair) for pair in ((first, second), (first, clean), (second, clean))
    )


def test_unknown_names_and_severities_are_refused(sample):
    with pytest.raises(
        ValueError, match=r"name: 'fog' is no corruption; take one of gaussian_noise, .*typos"
    ):
        corrupt(sample, "fog", 0, seed=0)
    for severity in (6, -1, 1.5):
        with pytest.raises(
            ValueError, match=f"severity: {severity} is not accepted; take 0 .* to 5"
        ):
            corrupt(sample, "jpeg", severity, seed=0)


def fields_of(question):
    return sorted(word for word in re.findall(r"\w+", question) if word in words.WORDS)


@pytest.mark.parametrize("name", REWORDINGS)
def test_field_words_of_the_world_stay(name):
    for number, question in enumerate(WORLD_QUESTIONS):
        for severity in range(1, 6):
            got = REWORDINGS[name](question, severity, np.random.default_rng(number))
            assert got != question and fields_of(got) == fields_of(question)
            for options in ("left or right", "top or bottom"):
                assert (options in got) == (options in question)


@pytest.mark.parametrize("name", REWORDINGS)
def test_quoted_words_and_numbers_stay(name):
    question = (
        "Which \"Grand total\" or 'amount due' was printed “without taxes” below page A4 of 2019?"
    )
    for severity in range(1, 6):
        got = REWORDINGS[name](question, severity, np.random.default_rng(severity))
        assert got != question
        assert all(
            kept in got
            for kept in ('"Grand total"', "'amount due'", "“without taxes”", "A4", "2019?")
        )


def test_the_tiny_teacher_knows_words_of_paraphrases_and_distractors_but_not_of_typos():
    tokenizer = AutoTokenizer.from_pretrained(TEACHER)
    asked = [
        question.text
        for index in range(200)
        for question in generate(0, "teacher", index, 20, 6)[1]
    ]
    known = {token for text in [*words.corpus(), *asked] for token in tokenizer(text).input_ids}
    unknown = dict.fromkeys(REWORDINGS, 0)
    for name, reword in REWORDINGS.items():
        for question in WORLD_QUESTIONS[:200]:
            got = reword(question, 5, np.random.default_rng(0))
            ids = tokenizer(got).input_ids
            assert tokenizer.decode(ids) == got  # nothing is lost, letter by letter if need be
            unknown[name] += not known.issuperset(ids)
    assert unknown == {"paraphrase": 0, "distractor": 0, "typos": 200}


def test_paraphrases_move_away_with_severity():
    got = [
        paraphrase("Quick question. What is the price of tea?", severity, np.random.default_rng(0))
        for severity in range(1, 6)
    ]
    assert set(got) == {
        f"Quick question. {one.format(name='tea', column='price')}"
        for one in words.CELL_QUESTIONS[1:]
    }
    assert got[0] == "Quick question. Give the price of tea in this table."
    assert got[3] == got[4] == "Quick question. For tea, how much price?"


@pytest.mark.parametrize(
    "question,thing",
    [
        ("What is the date on the receipt?", "the date on the receipt"),
        ("what are the items of 3 May?", "the items of 3 May"),
    ],
)
def test_things_are_asked_for(question, thing):
    got = {paraphrase(question, severity, np.random.default_rng(0)) for severity in range(1, 6)}
    assert got == {
        f"Give {thing}.",
        f"Tell me {thing}.",
        f"Read {thing}.",
        f"Can you tell me {thing}?",
        f"I would like to know {thing}.",
    }


@pytest.mark.parametrize(
    "question",
    [
        "What is the man holding in his hand?",
        "What is the boy afraid of?",
        "What is the wall made of brick?",
        "Who signed?",
        "Why?",
    ],
)
def test_questions_of_other_forms_stay_whole_in_a_frame(question):
    got = {paraphrase(question, severity, np.random.default_rng(0)) for severity in range(1, 6)}
    assert len(got) == 5 and all(one.endswith(f" {question}") for one in got)


def test_distractors_grow_around_the_question():
    for seed in range(4):
        got = [
            distractor("What is it?", severity, np.random.default_rng(seed))
            for severity in range(1, 6)
        ]
        assert all("What is it?" in one and one.count("?") == 1 for one in got)
        assert [one.count(".") for one in got] == [1, 2, 3, 4, 5]
        assert all(Counter(fewer.split()) < Counter(more.split()) for fewer, more in pairwise(got))
    sides = {
        distractor("What?", 1, np.random.default_rng(seed)).startswith("What?")
        for seed in range(20)
    }
    assert sides == {True, False}


def test_typos_grow_and_stay_inside_words():
    question = "Which company issued this receipt in Kuala Lumpur for SEKSYEN staff?"
    for seed in range(5):
        hit = []
        for severity in range(1, 6):
            got = typos(question, severity, np.random.default_rng(seed)).split()
            wrong = {
                index
                for index, (old, new) in enumerate(zip(question.split(), got, strict=True))
                if old != new
            }
            for index in wrong:
                old, new = question.split()[index], got[index]
                assert (old[0], old[-1]) == (new[0], new[-1]) and len(old) - len(new) in (0, 1)
                assert sorted(old) == sorted(new) or len(old) - len(new) == 1
            hit.append(wrong)
        assert [len(wrong) for wrong in hit] == [2, 3, 4, 5, 6]
        assert all(fewer < more for fewer, more in pairwise(hit))
        assert hit[-1] == {0, 1, 2, 3, 4, 10}  # not the names, not the short words
    assert typos("Is it a B?", 5, np.random.default_rng(0)) == "Is it a B?"
