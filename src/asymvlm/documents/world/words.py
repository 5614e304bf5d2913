"""The vocabulary of the generated world: what is printed on pages and how questions are put."""

from __future__ import annotations

import re

# Short nouns, so that a label fits under a bar and in a table's first column.
NAMES: tuple[str, ...] = (
    "tea", "milk", "rice", "corn", "salt", "soap", "lamp", "cup", "pen", "book", "bag", "hat",
    "shoe", "rent", "gas", "fee", "fuel", "food", "wine", "beer", "fish", "meat", "egg", "oil",
    "wood", "iron", "coal", "gold", "silk", "wool", "rope", "nail", "car", "bus", "taxi", "boat",
    "room", "desk", "sofa", "bed",
)  # fmt: skip

# Column headers of tables; disjoint from NAMES so that a row and a column are never confused.
COLUMNS: tuple[str, ...] = ("price", "tax", "count", "cost", "sold", "net", "load", "rate")

WORDS: tuple[str, ...] = NAMES + COLUMNS

VALUE_QUESTIONS: tuple[str, ...] = (
    "What is the {name}?",
    "How much is {name}?",
    "Read the value of {name}.",
    "Give the {name} on this page.",
    "Tell me the number next to {name}.",
)
CELL_QUESTIONS: tuple[str, ...] = (
    "What is the {column} of {name}?",
    "In row {name}, what is the {column}?",
    "Read the {column} for {name}.",
    "Give the {column} of {name} in this table.",
    "For {name}, how much {column}?",
)
BAR_QUESTIONS: tuple[str, ...] = (
    "What is the value of {name}?",
    "How high is the {name} bar?",
    "Read the bar of {name}.",
    "Give the {name} in this chart.",
    "How much does {name} reach?",
)
PRESENCE_QUESTIONS: tuple[str, ...] = (
    "Is {name} on this page?",
    "Does the page show {name}?",
    "Can you find {name} here?",
    "Is there any {name}?",
    "Was {name} listed?",
)
LARGEST_QUESTIONS: tuple[str, ...] = (
    "Which one is the largest?",
    "What has the largest value?",
    "Name the largest entry.",
    "Which entry is the biggest?",
    "What is the biggest one called?",
)
LARGEST_CELL_QUESTIONS: tuple[str, ...] = (
    "Which row has the largest {column}?",
    "What has the biggest {column}?",
    "Name the row with the largest {column}.",
    "Where is {column} the biggest?",
    "Which entry has the most {column}?",
)
SIDE_QUESTIONS: tuple[str, ...] = (
    "Which half holds more, left or right?",
    "Are there more entries on the left or right?",
    "Which side has more entries, left or right?",
)
LEVEL_QUESTIONS: tuple[str, ...] = (
    "Which half holds more, top or bottom?",
    "Are there more entries at the top or bottom?",
    "Which part has more entries, top or bottom?",
)
# Words that carry no information; a scorer has to learn to overlook them.
FILLERS: tuple[str, ...] = (
    "",
    "",
    "",
    "Please look. ",
    "Dear reader, ",
    "One more thing: ",
    "Quick question. ",
)

# Dialogues: facts are about people, so that none is confused with what a page shows.
PEOPLE: tuple[str, ...] = (
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Ida", "Jonas", "Karla",
    "Leo", "Mia", "Noah", "Olga", "Paul",
)  # fmt: skip
NUMBER_FACTS: tuple[str, ...] = (
    "{person} has {value}",
    "{person} paid {value}",
    "{person} owes {value}",
)
WISH_FACTS: tuple[str, ...] = (
    "{person} wants {name}",
    "{person} chose {name}",
    "{person} likes {name}",
)
FACT_QUESTIONS: tuple[str, ...] = (
    "What did I say of {person}?",
    "Remind me of {person}.",
    "Tell me again about {person}.",
)
# What the page says comes behind the fact.
FACT_AND_VALUE_QUESTIONS: tuple[str, ...] = (
    "Find on the page what goes with {person}.",
    "What does the page say for {person}?",
)
FACT_AND_CELL_QUESTIONS: tuple[str, ...] = (
    "Find on the page the {column} of what goes with {person}.",
    "What {column} does the page say for {person}?",
)
# Talk that states nothing which is asked for.
CHATTER: tuple[str, ...] = (
    "The weather was fine this morning.",
    "We had to wait for a long time.",
    "My train came late again today.",
    "The office will be closed next week.",
    "I am still looking for my keys.",
    "The garden is full of flowers now.",
    "They painted the old house in green.",
    "Our meeting went very well, I think.",
    "The printer makes a strange noise.",
    "You should see the new museum.",
    "It was raining all night long.",
    "The children were playing outside.",
    "I have not slept much lately.",
    "Somebody left the window open.",
    "The coffee here is not too bad.",
    "Let us talk about it later.",
)
REPLIES: tuple[str, str] = ("noted", "I see")  # to facts, and to talk

FIXED_ANSWERS: tuple[str, ...] = ("yes", "no", "left", "right", "top", "bottom")


def corpus() -> list[str]:
    """Every template and word once, for training the tokenizer."""
    templates = (
        VALUE_QUESTIONS + CELL_QUESTIONS + BAR_QUESTIONS + PRESENCE_QUESTIONS + LARGEST_QUESTIONS
        + LARGEST_CELL_QUESTIONS + SIDE_QUESTIONS + LEVEL_QUESTIONS + FILLERS + NUMBER_FACTS
        + WISH_FACTS + FACT_QUESTIONS
        + FACT_AND_VALUE_QUESTIONS + FACT_AND_CELL_QUESTIONS + CHATTER + REPLIES
    )  # fmt: skip
    plain = [re.sub(r"\{\w+\}", " ", template) for template in templates]
    words = [f" {word}" for word in WORDS + FIXED_ANSWERS + PEOPLE] + [
        *WORDS,
        *FIXED_ANSWERS,
        *PEOPLE,
    ]
    return plain + words
