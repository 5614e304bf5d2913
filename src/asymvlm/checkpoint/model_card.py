"""The README.md of an exported scorer, written from its config."""

from __future__ import annotations

import json
from typing import Any

_CARD = """---
library_name: asymvlm
license: apache-2.0
tags: [vision-language, token-pruning]
---
# Importance scorer for {teacher}

Says which vision tokens of `{teacher}` matter for a question, before the LLM reads them.

```python
import asymvlm

scorer = asymvlm.load_scorer("PATH_OF_THIS_DIRECTORY")
with asymvlm.prune(model, scorer, keep=0.25) as report:
    out = model.generate(**inputs, max_new_tokens=16)
```

| | |
|---|---|
| scorer | `{kind}` {arguments} |
| budget head | {budget} |
| adapter | {adapter} |
| width | {width} |
| trained for | {epochs} epochs, {steps} steps, seed {seed} |
| data fingerprints | {fingerprints} |
| commit | {commit} |

Validation:

| metric | value |
|---|---|
{metrics}
"""


def model_card(config: dict[str, Any], adapted: bool = False) -> str:
    """Write a card in Hugging Face's form from the contents of config.json."""
    training = config["training"]
    return _CARD.format(
        teacher=config["teacher"]["name"],
        kind=config["scorer"]["kind"],
        arguments=json.dumps(config["scorer"]["arguments"]),
        budget="no" if config["budget"] is None else 'yes, `keep="auto"`',
        adapter="`adapter/`, LoRA for the VLM: "
        "`asymvlm.prune(model, scorer, keep=0.25, adapter=True)`"
        if adapted
        else "no",
        width=config["input"]["width"],
        epochs=training["epochs"],
        steps=training["steps"],
        seed=training["seed"],
        fingerprints=json.dumps(config["data"]["fingerprints"]),
        commit=training["commit"] or "unknown",
        metrics="\n".join(
            f"| {name} | {'no number' if value is None else f'{value:.4f}'} |"
            for name, value in training["metrics"].items()
        ),
    )
