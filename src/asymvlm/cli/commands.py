"""The commands of the package: where each one's code is, and what its --help says.

As text, so that help comes at once: most modules take seconds to import.
"""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """A command: its module has a `main`.

    Args:
        module: The module's full name.
        help: What --help says, from behind the command's name on.
        counts: Fewest and most arguments of a command that takes no flags.
        takes_flags: Whether settings are given as flags and configs.
        is_light: Whether its `main` handles no signals, as it ends in no time.
    """

    module: str
    help: str
    counts: tuple[int, int] = (0, 0)
    takes_flags: bool = True
    is_light: bool = False

    @property
    def usage(self) -> str:
        """The first line of the help: what the command takes."""
        return self.help.partition("\n")[0]


HELP = """drop the vision tokens that a question does not need, before the LLM.

usage: asymvlm COMMAND [OPTIONS]

commands:
  train            Train an importance scorer and export it.      asymvlm train --config tiny
  eval             Compare methods on held-out pages.             asymvlm eval --config eval/quick
  eval eviction    Compare eviction policies on dialogues.        asymvlm eval eviction
  robustness       Accuracy on worse pictures, other wordings.    asymvlm robustness
  fit-eviction     Fit the learned eviction policy.               asymvlm fit-eviction
  similarity-sign  Find the sign of CLIP similarity in a tower.   asymvlm similarity-sign --clip DIR
  contact-sheet    Draw pages with their evidence boxes.          asymvlm contact-sheet sheet.png
  export           Export a training checkpoint as a scorer.      asymvlm export best.ckpt scorer
  check            Verify a scorer directory.                     asymvlm check scorer

asymvlm COMMAND --help says more. Everything is documented in docs/ and in the README."""

_TRAIN = """[--config NAME_OR_FILE ...] [--dotted.flag VALUE ...]

Trains an importance scorer for a frozen VLM, exports it and prints a table of results. Without
--config, the embedded world: a tiny VLM on generated pages, minutes on two CPU cores.

  -c, --config NAME_OR_FILE  tiny, any, receipts, tiny-stage2, models/qwen2.5-vl-7b, ... or a YAML
                             file; later ones change earlier ones
  --model.teacher PATH       the VLM: a directory or a Hugging Face repository
  --data.path PATH           your pages: JSONL, LLaVA's JSON, or a datasets dataset
  --trainer.max_epochs N     and everything else of Lightning's Trainer
  --ckpt_path last           resume the newest checkpoint of this run
  --print_config             print all settings, with the values that they have now
  --help_all                 list every setting

asymvlm train --config any --model.teacher PATH_OR_HUB_ID --data.path FOLDER"""

_EVAL = """[eviction] [--config NAME_OR_FILE] [--flag VALUE ...]

Compares pruning methods with the dense model on held-out pages: accuracy, tokens, FLOPs and times,
as results.json, tables and pictures. `asymvlm eval eviction` compares eviction policies on
dialogues; the word comes first. Interrupted runs are resumed.

  -c, --config NAME_OR_FILE  eval/quick, eval/tiny, eval/all, ... or a YAML file
  --teacher PATH             the VLM: a directory or a Hugging Face repository
  --scorer PATH              a trained scorer; null leaves it out
  --methods.NAME CLASS       one more method, under a name of yours
  --keeps [0.25,auto]        shares, counts, "auto" (the budget head) or "gap"
  --data.path PATH           your pages, as in training
  --output DIR               where results go
  --print_config             print all settings, with the values that they have now
  --help_all                 list every setting

asymvlm eval --scorer checkpoints/tiny/scorer --keeps [0.25,0.125]"""

_ROBUSTNESS = """[--config NAME_OR_FILE] [--flag VALUE ...]

Measures accuracy under noise, blur, occlusion, JPEG, low contrast and reworded questions, at
several severities: robustness.json and a picture. Interrupted runs are resumed.

  -c, --config NAME_OR_FILE  a YAML file; eval/robustness if left out
  --teacher PATH             the VLM: a directory or a Hugging Face repository
  --scorer PATH              a trained scorer; null leaves it out
  --keep 0.125               share or count of vision tokens
  --corruptions [jpeg,typos] which; all if left out
  --severities [1,3,5]       from 1 to 5
  --output DIR               where results go
  --print_config             print all settings, with the values that they have now
  --help_all                 list every setting"""

_FIT_EVICTION = """[--config FILE] [--flag VALUE ...]

Fits the eviction policy `learned_text`: a linear map per layer from an entry's value vector to the
attention that it will get, by ridge regression on dialogues. About a minute for the tiny VLM.

  --teacher PATH             the VLM: a directory or a Hugging Face repository
  --output FILE              where the rule goes; checkpoints/tiny/text-scores.safetensors
  --data.path PATH           your dialogues: questions with a history; generated ones if left out
  --pages N                  generated dialogues
  --print_config             print all settings, with the values that they have now
  --help_all                 list every setting

asymvlm fit-eviction --teacher PATH_OR_HUB_ID --output rule.safetensors"""

_SIMILARITY_SIGN = """--clip PATH [--flag VALUE ...]

Says whether the patches that a question needs are more like its text for CLIP, or less: the `sign`
that ATP and CDPruner take for a tower.

  --clip PATH                directory or repository of the CLIP whose tower the VLM has
  --teacher PATH             the VLM: a directory or a Hugging Face repository
  --data.path PATH           your pages, as in training; generated ones if left out
  --pages N                  how many
  --print_config             print all settings, with the values that they have now
  --help_all                 list every setting

asymvlm similarity-sign --clip checkpoints/tiny-teacher/clip"""

_CONTACT_SHEET = """OUT.png [FOLDER]

Draws sixteen pages with the boxes of their first question, evidence in red and what has to be found
first in blue: generated pages, or the first of FOLDER (data/README.md says what it holds)."""

_EXPORT = """CHECKPOINT.ckpt DIRECTORY

Writes the scorer in a training checkpoint as a directory that load_scorer and prune take. DIRECTORY
is new, empty, or one of a scorer, which is replaced.

asymvlm export checkpoints/tiny/best.ckpt scorer"""

_CHECK = """DIRECTORY

Verifies a scorer directory against docs/checkpoint-format.md: its config, and names, shapes, types
and values of all tensors. Prints a line a problem; ends with 0 where there is none, else with 1."""

COMMANDS = {
    "train": Command("asymvlm.training.main", _TRAIN),
    "eval": Command("asymvlm.evaluation.main", _EVAL),
    "robustness": Command("asymvlm.evaluation.robustness.robustness", _ROBUSTNESS),
    "fit-eviction": Command("asymvlm.training.fit_eviction", _FIT_EVICTION),
    "similarity-sign": Command("asymvlm.evaluation.similarity_sign", _SIMILARITY_SIGN),
    "contact-sheet": Command("asymvlm.evaluation.contact_sheet", _CONTACT_SHEET, (1, 2), False),
    "export": Command("asymvlm.export", _EXPORT, (2, 2), False),
    "check": Command("asymvlm.check.command", _CHECK, (1, 1), False, is_light=True),
}
