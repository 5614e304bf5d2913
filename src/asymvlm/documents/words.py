"""The vocabulary of the generated world: what is printed on pages and how questions are put."""

from __future__ import annotations

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
FILLERS: tuple[str, ...] = ("", "", "", "Please look. ", "Dear reader, ", "One more thing: ", "Quick question. ")

FIXED_ANSWERS: tuple[str, ...] = ("yes", "no", "left", "right", "top", "bottom")


def corpus() -> list[str]:
    """Every template and word once, for training the tokenizer."""
    templates = (
        VALUE_QUESTIONS + CELL_QUESTIONS + BAR_QUESTIONS + PRESENCE_QUESTIONS + LARGEST_QUESTIONS
        + LARGEST_CELL_QUESTIONS + SIDE_QUESTIONS + LEVEL_QUESTIONS + FILLERS
    )  # fmt: skip
    plain = [template.replace("{name}", " ").replace("{column}", " ") for template in templates]
    words = [f" {word}" for word in WORDS + FIXED_ANSWERS] + [*WORDS, *FIXED_ANSWERS]
    return plain + words
