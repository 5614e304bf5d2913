"""What attention targets cost.

Time against a plain SDPA forward, memory against eager `output_attentions`.

`python benchmarks/targets.py` on a Llama-type decoder (8 layers, 256 wide) behind 600, 1,200 and
2,400 vision tokens; 32 query rows. Times are medians of alternating runs in one process; memory is
the process's peak above a warm-up run, each way in a process of its own.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from asymvlm.backbone import EncodedPictures, Layout, backbone_of
from asymvlm.targets import AttentionTarget, EncodedBatch

SIZES = (600, 1200, 2400)
WORDS, WIDTH, IMAGE = 32, 256, 5


def build() -> Any:
    torch.manual_seed(0)
    text = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=688,
        num_hidden_layers=8,
        num_attention_heads=8,
        vocab_size=1000,
    )
    tower = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=tower, text_config=text, image_token_index=IMAGE)
    ).eval()


def prompt(tokens: int) -> tuple[dict[str, torch.Tensor], EncodedPictures]:
    """A prompt with `tokens` vision tokens, already encoded."""
    ids = torch.cat([torch.full((1, tokens), IMAGE), torch.randint(10, 1000, (1, WORDS))], dim=1)
    features = torch.randn(1, tokens, WIDTH)
    output = BaseModelOutputWithPooling(pooler_output=tuple(features))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, EncodedPictures(
        {"image": output}, list(features), kinds=["image"]
    )


@torch.no_grad()
def run(model: Any, way: str, tokens: int) -> None:
    """One forward pass.

    "plain" (SDPA), "rows" (the target), or "eager" (`output_attentions`, of which the rows are
    taken).
    """
    inputs, encoded = prompt(tokens)
    backbone = backbone_of(model)
    if way == "rows":
        layout: Layout = backbone.layout(inputs, encoded)
        AttentionTarget(rows="question")(
            backbone, EncodedBatch(inputs, encoded, layout, layout.text, [])
        )
        return
    call = {**backbone.with_pictures(inputs, encoded), "use_cache": False}
    out = model.base_model(**call, output_attentions=way == "eager")
    if way == "eager":
        torch.stack([layer.mean(1)[:, -WORDS:, :tokens].mean(1) for layer in out.attentions]).mean(
            0
        )


def peak_mb(way: str, tokens: int) -> float:
    """Peak memory above a small warm-up run, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, way, str(tokens)], capture_output=True, text=True, check=True
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def _measured(way: str, tokens: int) -> float:
    model = build()
    if way == "eager":
        model.set_attn_implementation("eager")
    run(model, way, 16)
    # Linux: the peak of imports and of building must not hide the run's own.
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    run(model, way, tokens)
    return _memory("VmHWM") - before


def _memory(kind: str) -> float:
    """A line of the kernel's record of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024


def main() -> None:
    torch.set_num_threads(1)
    model = build()
    titles = ("plain ms", "rows ms", "ratio", "plain MB", "rows MB", "eager MB", "extra of eager's")
    print(
        f"{'vision tokens':>13}"
        + "".join(f"{title:>{max(10, len(title) + 2)}}" for title in titles)
    )
    for tokens in SIZES:
        times: dict[str, list[float]] = {"plain": [], "rows": []}
        for _ in range(9):
            for way, taken in times.items():
                start = time.perf_counter()
                run(model, way, tokens)
                taken.append(1000 * (time.perf_counter() - start))
        # Two rounds to warm up.
        plain, rows = (statistics.median(taken[2:]) for taken in times.values())
        memory = {way: peak_mb(way, tokens) for way in ("plain", "rows", "eager")}
        extra = max(0.0, memory["rows"] - memory["plain"]) / max(
            1e-9, memory["eager"] - memory["plain"]
        )
        columns = (
            f"{memory['plain']:>10.0f}{memory['rows']:>10.0f}{memory['eager']:>10.0f}{extra:>18.3f}"
        )
        print(f"{tokens:>13}{plain:>10.0f}{rows:>10.0f}{rows / plain:>10.2f}{columns}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        torch.set_num_threads(1)
        print(json.dumps(_measured(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
