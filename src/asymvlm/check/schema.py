"""The format, as data: files, keys, kinds of scorers and tensors.

The only statement of it in the code. docs/checkpoint-format.md says the same, in the same words,
and a test compares them key by key.
"""

from __future__ import annotations

from typing import NamedTuple

from .rules import NULL, Rule, an_object, either, exactly, integer, list_of, number, text

FORMAT = "asymvlm-scorer"
FORMAT_VERSION = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
ADAPTER_FOLDER = "adapter"
ADAPTER_CONFIG_FILE = "adapter_config.json"
ADAPTER_WEIGHTS_FILE = "adapter_model.safetensors"
# All that a scorer directory has of the format; other files in it are their owners'.
OWN_ENTRIES = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, ADAPTER_FOLDER)

# Scores of larger weights can overflow: it is the largest fp16 number. A row that goes into a
# LayerNorm is squared besides.
LARGEST_WEIGHT, LARGEST_NORM = 65504, 1e18
SIZE = integer(1, 2**20)
_WEIGHT = number(-LARGEST_WEIGHT, LARGEST_WEIGHT)
_EXPORT, _UPDATE = "export the scorer again", "update asymvlm, or export the scorer again"


class Key(NamedTuple):
    """A key of a JSON file, below an object that a key before it names.

    `optional`: may be left out. `equals`, `divides`: the path of a key before it whose value this
    one must have, or must divide. `fix`: what to do where it is wrong.
    """

    rule: Rule
    optional: bool = False
    equals: str | None = None
    divides: str | None = None
    fix: str = _EXPORT


class Kind(NamedTuple):
    """A kind of scorer: its `scorer.arguments`, and its tensors under `scorer.`.

    Sizes of tensors are numbers or letters: D is the width, C is `rank` or `hidden`.
    """

    arguments: dict[str, Key]
    tensors: dict[str, tuple[int | str, ...]]


# Keys are checked in this order; what else a file holds is its owner's.
KEYS: dict[str, Key] = {
    "format": Key(exactly(FORMAT), fix="give the folder that an export wrote"),
    "format_version": Key(exactly(FORMAT_VERSION), fix=_UPDATE),
    "scorer": Key(an_object()),
    "scorer.kind": Key(text()),
    "scorer.arguments": Key(an_object()),
    "scorer.arguments.width": Key(SIZE),
    "budget": Key(either(NULL, an_object())),
    "budget.arguments": Key(an_object()),
    "budget.arguments.width": Key(SIZE, equals="scorer.arguments.width"),
    "budget.arguments.hidden": Key(SIZE),
    "input": Key(an_object()),
    "input.stage": Key(exactly("llm_input"), fix=_UPDATE),
    "input.width": Key(SIZE, equals="scorer.arguments.width"),
    "input.grid": Key(exactly("picture_row_column"), fix=_UPDATE),
    "masked_ids": Key(list_of(integer(0, 2**31 - 1), "integers from 0 to 2147483647")),
    "polarity": Key(exactly("higher_keeps"), fix=_UPDATE),
    "rounding": Key(exactly("half_up_at_least_one"), fix=_UPDATE),
    "budget_scope": Key(exactly("sample"), fix=_UPDATE),
    "adapter": Key(exactly(ADAPTER_FOLDER), optional=True),
    "teacher": Key(an_object(), optional=True),
    "teacher.name": Key(text(), optional=True),
    "teacher.weights": Key(text(), optional=True),
    "teacher.sketch": Key(
        text("up to 64 hashes of 8 hexadecimal digits", "([0-9a-f]{8}( [0-9a-f]{8}){0,63})?"),
        optional=True,
    ),
    "data": Key(an_object(), optional=True),
    "training": Key(an_object(), optional=True),
}
# Objects that hold what is listed and nothing else: loaders cannot ignore an argument.
CLOSED = ("scorer.arguments", "budget.arguments")

ADAPTER_KEYS: dict[str, Key] = {
    "peft_type": Key(exactly("LORA")),
    "r": Key(SIZE),
    "lora_alpha": Key(_WEIGHT),
    "target_modules": Key(
        either(text("a string", ".+"), list_of(text("", ".+"), "strings, at least one", least=1))
    ),
    "rank_pattern": Key(an_object(), optional=True),
}

_CONTEXT: dict[str, tuple[int | str, ...]] = {
    "context.filter.weight": ("C", 1, 3, 3),
    "context.filter.bias": ("C",),
    "context.place.weight": ("C", 12),
}
KINDS: dict[str, Kind] = {
    "cross_attention": Kind(
        {"hidden": Key(SIZE), "heads": Key(SIZE, divides="scorer.arguments.hidden")},
        {
            "nothing": ("C",), "vision.weight": ("C", "D"), "vision.bias": ("C",),
            "text.weight": ("C", "D"), "text.bias": ("C",),
            "mix.weight": ("C", "C"), "mix.bias": ("C",),
            "mlp.0.weight": ("2C", "3C"), "mlp.0.bias": ("2C",),
            "mlp.2.weight": ("C", "2C"), "mlp.2.bias": ("C",),
            "score.0.weight": ("C",), "score.0.bias": ("C",),
            "score.1.weight": (1, "C"), "score.1.bias": (1,), **_CONTEXT,
        },
    ),
    "diagonal": Kind({"scale": Key(_WEIGHT, optional=True)}, {"weight": ("D",)}),
    "low_rank": Kind(
        {"rank": Key(SIZE)},
        {
            "vision.weight": ("C", "D"), "text.weight": ("C", "D"),
            "prior.weight": (1, "C"), "prior.bias": (1,), **_CONTEXT,
        },
    ),
    "text_free": Kind(
        {"hidden": Key(SIZE)},
        {
            "vision.weight": ("C", "D"), "vision.bias": ("C",),
            "score.1.weight": ("C", "C"), "score.1.bias": ("C",),
            "score.3.weight": (1, "C"), "score.3.bias": (1,), **_CONTEXT,
        },
    ),
    "vision_selector": Kind(
        {"hidden": Key(SIZE)}, {"query.weight": ("C", "D"), "key.weight": ("C", "D")}
    ),
}  # fmt: skip
BUDGET_TENSORS: dict[str, tuple[int | str, ...]] = {
    "text.weight": ("C", "D"), "text.bias": ("C",),
    "vision.weight": ("C", "D"), "vision.bias": ("C",),
    "words.weight": (1, "C"), "words.bias": (1,),
    "ratio.0.weight": ("2C", "2C+16"), "ratio.0.bias": ("2C",),
    "ratio.2.weight": (1, "2C"), "ratio.2.bias": (1,),
}  # fmt: skip
SCORER_DTYPES, ADAPTER_DTYPES = ("F32",), ("F32", "F16", "BF16")
