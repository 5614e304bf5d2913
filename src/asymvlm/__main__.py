"""`asymvlm train|eval|export|check`: the commands of the package, also as `python -m asymvlm`."""

from __future__ import annotations

import importlib
import sys

_HELP = """asymvlm {version}: drop the vision tokens that a question does not need, before the LLM.

usage: asymvlm COMMAND [OPTIONS]

commands:
  train   Train an importance scorer and export it.    asymvlm train --config tiny
  eval    Compare methods on held-out pages.           asymvlm eval --config eval/quick
  export  Export a training checkpoint as a scorer.    asymvlm export best.ckpt scorer
  check   Verify a scorer directory.                   asymvlm check scorer

asymvlm COMMAND --help says more. Everything is documented in docs/ and in the README."""

_TRAIN = """usage: asymvlm train [--config NAME_OR_FILE ...] [--dotted.flag VALUE ...]

Trains an importance scorer for a frozen VLM, exports it and prints a table of results. Without
--config, the embedded world: a tiny VLM on generated pages, minutes on two CPU cores.

  --config NAME_OR_FILE      tiny, any, receipts, tiny-stage2, models/qwen2.5-vl-7b, ... or a YAML
                             file; later ones change earlier ones
  --model.teacher PATH       the VLM: a directory or a Hugging Face repository
  --data.path PATH           your pages: JSONL, LLaVA's JSON, or a datasets dataset
  --trainer.max_epochs N     and everything else of Lightning's Trainer
  --ckpt_path last           resume the newest checkpoint of this run
  --print_config             print all settings, with the values that they have now
  --help_all                 list every setting

asymvlm train --config any --model.teacher PATH_OR_HUB_ID --data.path FOLDER"""

_EVAL = """usage: asymvlm eval [eviction] [--config NAME_OR_FILE] [--flag VALUE ...]

Compares pruning methods with the dense model on held-out pages: accuracy, tokens, FLOPs and times,
as results.json, tables and pictures. `asymvlm eval eviction` compares eviction policies on
dialogues. Interrupted runs are resumed.

  --config NAME_OR_FILE      eval/quick, eval/tiny, eval/all, ... or a YAML file
  --teacher PATH             the VLM: a directory or a Hugging Face repository
  --scorer PATH              a trained scorer; null leaves it out
  --keeps [0.25,auto]        shares, counts, "auto" (the budget head) or "gap"
  --data.path PATH           your pages, as in training
  --output DIR               where results go
  --print_config             print all settings, with the values that they have now
  --help_all                 list every setting

asymvlm eval --scorer checkpoints/tiny/scorer --keeps [0.25,0.125]"""

# By command: its module, and what --help says.
_COMMANDS = {
    "train": ("asymvlm.training.main", _TRAIN),
    "eval": ("asymvlm.evaluation.main", _EVAL),
    "export": ("asymvlm.export", "usage: asymvlm export CHECKPOINT.ckpt DIRECTORY"),
    "check": ("asymvlm.check", "usage: asymvlm check DIRECTORY"),
}


def main() -> int:
    """Run the command that the process's arguments name; returns the exit code."""
    command, *rest = sys.argv[1:] or ["--help"]
    if command in ("--help", "-h", "--version"):
        version = importlib.import_module("asymvlm").__version__
        print(version if command == "--version" else _HELP.format(version=version))
        return 0
    if command not in _COMMANDS:
        print(
            f"error: {command!r} is no command; those are {', '.join(_COMMANDS)}", file=sys.stderr
        )
        return 2
    module, usage = _COMMANDS[command]
    if "--help" in rest or "-h" in rest:
        print(usage)
        return 0
    arguments = ["--help" if argument == "--help_all" else argument for argument in rest]
    run = importlib.import_module(module).main
    return run(arguments) if command == "check" else run(arguments, owns_process=True)


if __name__ == "__main__":
    sys.exit(main())
