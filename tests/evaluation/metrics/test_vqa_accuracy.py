"""VQA accuracy as the script of VQA v2 has it, worked out by hand."""

from __future__ import annotations

import pytest

from asymvlm.evaluation.metrics.vqa_accuracy import VQAAccuracy, alike

# reply, people's answers with how many gave them, and what the mean over all but one is
COUNTED = [
    ("red", {"blue": 10}, 0.0),
    ("red", {"red": 1, "blue": 9}, 0.3),  # 9 of 10 choices: 1/3
    ("red", {"red": 2, "blue": 8}, 0.6),  # 8 choices: 2/3, 2 choices: 1/3
    ("red", {"red": 3, "blue": 7}, 0.9),  # 7 choices: 1, 3 choices: 2/3
    ("red", {"red": 4, "blue": 6}, 1.0),
    ("red", {"red": 10}, 1.0),
    ("red", {"red": 2, "blue": 3, "green": 5}, 0.6),
    ("red", {"red": 1, "blue": 1}, 0.1666666667),  # one choice of two: 1/3
    ("red", {"red": 2}, 0.3333333333),
    ("red", {"red": 1, "blue": 2}, 0.2222222222),  # two choices of three: 1/3
    ("red", {"red": 2, "blue": 1}, 0.4444444444),  # 1/3, 1/3, 2/3
    ("red", {"red": 3}, 0.6666666667),
    ("red", {"red": 4}, 1.0),
    ("red", {"red": 3, "blue": 2}, 0.8),  # 2/3 three times, 1 twice
    # Unanimous answers are compared as they are.
    ("Yes", {"yes": 10}, 1.0),
    ("yes", {"Yes": 10}, 0.0),
    ("t-shirt", {"t-shirt": 10}, 0.0),
    ("t-shirt", {"t shirt": 10}, 1.0),
    ("two", {"two": 10}, 0.0),
    ("two", {"2": 10}, 1.0),
    ("tea", {"tea.": 10}, 0.0),
    ("tea", {" tea": 10}, 0.0),
    # Of others, marks and full stops are replaced, and nothing else.
    ("t-shirt", {"t-shirt": 4, "shirt": 6}, 1.0),
    ("tea", {"tea.": 4, "milk": 6}, 1.0),
    ("tea", {"Tea": 4, "milk": 6}, 0.0),
    ("two", {"two": 4, "3": 6}, 0.0),
    ("cat", {"the cat": 4, "dog": 6}, 0.0),
    ("cat", {"cat ": 4, "dog": 6}, 0.0),
    ("1000", {"1,000": 4, "999": 6}, 1.0),
    ("dont", {"dont": 4, "no": 6}, 0.0),
    ("dont", {"don't": 4, "no": 6}, 1.0),
    ("red", {"red.": 2, "red": 1, "blue": 7}, 0.9),
    ("red", {"red?": 2, "red": 1, "blue": 7}, 0.3),  # leaves a space at the end
    ("", {"": 4, "red": 6}, 1.0),
    ("the", {"": 4, "red": 6}, 1.0),
    ("", {"red": 10}, 0.0),
]
READ = [
    ("Dog", "dog"),
    ("  dog\t", "dog"),
    ("big\tdog\nhere", "big dog here"),
    ("big \u00a0 dog", "big dog"),
    # Articles are words.
    ("The dog", "dog"),
    ("an apple a day", "apple day"),
    ("another theory", "another theory"),
    ("a", ""),
    ("A.", ""),
    # Numbers.
    ("two", "2"),
    ("None", "0"),
    ("ten dogs", "10 dogs"),
    ("eleven", "eleven"),
    ("twenty-one", "twenty 1"),
    ("1,000", "1000"),
    ("1,000,000", "1000000"),
    ("1.5", "1.5"),
    ("14.", "14"),
    ("1e3", "1e3"),
    ("50%", "50%"),
    ("-0", "0"),
    ("$5.00", "$5.00"),
    ("5kg", "5kg"),
    ("nan", "nan"),
    ("10:30", "10:30"),
    # A mark is a space, or nothing where it is beside one anywhere.
    ("t-shirt", "t shirt"),
    ("t- shirt", "t shirt"),
    ("t-shirt - red", "tshirt red"),
    ("yes!", "yes"),
    ("yes,no", "yes no"),
    ("yes, no", "yes no"),
    ("a,b, c", "ab c"),
    ("red/blue", "red blue"),
    ("(red)", "red"),
    ("[x]{y}", "x y"),
    ("a_b=c+d", "b c d"),  # the first a is an article by then
    ("x<y>z@w`v;u", "x y z w v u"),
    ('say "no"', "say no"),
    ("back\\slash", "back slash"),
    # A comma between digits takes out all marks.
    ("1,000 t-shirts", "1000 tshirts"),
    # Full stops but before digits, the first 32.
    ("a.m.", "am"),
    ("U.S.A.", "usa"),
    (".5", ".5"),
    ("v.2", "v.2"),
    ("x" + 34 * ".", "x.."),
    # Contractions get one missing apostrophe.
    ("I dont", "i don't"),
    ("DONT", "don't"),
    ("thats", "that's"),
    ("couldnt've", "couldn't've"),
    ("couldn'tve", "couldn't've"),
    ("couldntve", "couldntve"),
    ("oclock", "o'clock"),
    ("yall'd've", "y'all'd've"),
    ("somebody'd", "somebodyd"),
    ("its", "its"),
    ("im", "im"),
    ("well", "well"),
    ("don\u2019t", "don\u2019t"),
    # Letters beyond ASCII.
    ("CAFÉ", "café"),
    ("日本", "日本"),
    ("cat's", "cat's"),
    ("concatenate", "concatenate"),
]


@pytest.mark.parametrize("given,people,expected", COUNTED)
def test_accuracy_by_hand(given, people, expected):
    answers = [answer for answer, count in people.items() for _ in range(count)]
    assert VQAAccuracy().score(given, answers) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("given,expected", READ)
def test_replies_by_hand(given, expected):
    assert alike(given) == expected
    # The same through the metric, where everybody gave what the reply is read as.
    assert VQAAccuracy().score(given, [expected] * 4) == 1
