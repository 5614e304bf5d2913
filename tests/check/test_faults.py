"""What is wrong with a scorer directory, in one line: the key, its value, and what is allowed."""

from __future__ import annotations

import copy

import pytest
import torch
from support.scorer_files import MODULE, drop, encoded, put, whole, written

import asymvlm
from asymvlm.check import main as check
from asymvlm.checkpoint.scorer import TrainedScorer, save_scorer
from asymvlm.errors import DataError
from asymvlm.scorers import Scorer, scorers

SIZE = "an integer from 1 to 1048576"
ARGUMENTS = ("scorer", "arguments")


def refused(files, directory, capsys):
    """The line that `check` prints, which `load_scorer` raises too."""
    written(files, directory)
    assert check([str(directory)]) == 1
    said = capsys.readouterr().err.removesuffix("\n")
    assert "\n" not in said and said.startswith(f"{directory}: ")
    with pytest.raises(DataError) as error:
        asymvlm.load_scorer(directory)
    assert str(error.value) == said
    return said.removeprefix(f"{directory}: ")


@pytest.mark.parametrize(
    "path,value,says",
    [
        (("format",), "x", 'format is "x", must be "asymvlm-scorer"'),
        (("format_version",), 2, "format_version is 2, must be 1; update asymvlm"),
        (("format_version",), True, "format_version is true, must be 1"),
        (("scorer",), [], "scorer is [], must be an object"),
        (("scorer", "kind"), 3, "scorer.kind is 3, must be a string"),
        (("scorer", "kind"), "new", 'scorer.kind is "new", must be one of "cross_attention", "dia'),
        ((*ARGUMENTS, "width"), "6", f'scorer.arguments.width is "6", must be {SIZE}'),
        ((*ARGUMENTS, "width"), 6.0, f"scorer.arguments.width is 6.0, must be {SIZE}"),
        ((*ARGUMENTS, "width"), 10**30, f"scorer.arguments.width is 1{'0' * 30}, must be {SIZE}"),
        ((*ARGUMENTS, "hidden"), -4, f"scorer.arguments.hidden is -4, must be {SIZE}"),
        ((*ARGUMENTS, "heads"), 0, f"scorer.arguments.heads is 0, must be {SIZE}"),
        ((*ARGUMENTS, "heads"), True, f"scorer.arguments.heads is true, must be {SIZE}"),
        ((*ARGUMENTS, "heads"), 3, "scorer.arguments.heads is 3, must be a divisor of 4, which"),
        ((*ARGUMENTS, "rank"), 3, "scorer.arguments.rank is 3, must be left out: scorer.argum"),
        (("budget",), [], "budget is [], must be null or an object"),
        (("budget", "arguments", "width"), 7, "budget.arguments.width is 7, must be 6, which sco"),
        (("budget", "arguments", "x"), 7, "budget.arguments.x is 7, must be left out: budget.arg"),
        (("input",), None, "input is null, must be an object"),
        (("input", "stage"), "pixels", 'input.stage is "pixels", must be "llm_input"'),
        (("input", "width"), 7, "input.width is 7, must be 6, which scorer.arguments.width is"),
        (("input", "grid"), "rows", 'input.grid is "rows", must be "picture_row_column"'),
        (("masked_ids",), {}, "masked_ids is {}, must be a list of integers from 0 to 2147483647"),
        (("masked_ids", 1), -1, "masked_ids is [0, -1], must be a list of integers from 0"),
        (("masked_ids", 1), 2**31, "masked_ids is [0, 2147483648], must be a list"),
        (("masked_ids", 1), True, "masked_ids is [0, true], must be a list"),
        (("rounding",), "up", 'rounding is "up", must be "half_up_at_least_one"'),
        (("budget_scope",), 1, 'budget_scope is 1, must be "sample"'),
        (("adapter",), None, 'adapter is null, must be "adapter" or left out'),
        (("teacher",), "t", 'teacher is "t", must be an object or left out'),
        (("teacher", "sketch"), "zz", 'teacher.sketch is "zz", must be up to 64 hashes of 8 hex'),
        (("training", "steps"), float("nan"), "training.steps is NaN, must be a finite number"),
        (("own", ), [{"a\nb": float("inf")}], r"own.0.a\nb is Infinity, must be a finite number"),
    ],
)  # fmt: skip
def test_a_key(tmp_path, capsys, path, value, says):
    files = whole("cross_attention")
    put(files["config.json"], path, value)
    assert refused(files, tmp_path / "scorer", capsys).startswith(f"config.json: {says}")


@pytest.mark.parametrize(
    "path",
    [(key,) for key in ("format", "scorer", "budget", "input", "masked_ids", "polarity")]
    + [(*ARGUMENTS, "width"), (*ARGUMENTS, "heads"), ("budget", "arguments"), ("input", "grid")],
)
def test_a_missing_key(tmp_path, capsys, path):
    files = whole("cross_attention")
    drop(files["config.json"], path)
    said = refused(files, tmp_path / "scorer", capsys)
    assert said.startswith(f"config.json: {'.'.join(path)} is missing, must be ")


def test_what_may_be_left_out_or_added(tmp_path):
    files = whole("diagonal")
    for key in ("teacher", "data", "training"):
        del files["config.json"][key]
    del files["config.json"]["scorer"]["arguments"]["scale"]
    files["config.json"] |= {"own": {"format": 3}, "note": None}
    assert asymvlm.load_scorer(written(files, tmp_path / "scorer")).width == 6


CONFIG = encoded(whole()["config.json"])


@pytest.mark.parametrize(
    "content,says",
    [
        (b"", "config.json is not JSON (Expecting value"),
        (b"[" * 100_000, "config.json is not JSON (maximum recursion"),
        (CONFIG.replace(b'"rank": 3', b'"rank": ' + b"9" * 5000), "config.json is not JSON (Exc"),
        (CONFIG.decode().encode("utf-16"), "config.json is not JSON ('utf-8' codec"),
        (b"\xef\xbb\xbf" + CONFIG, "config.json begins with a byte order mark"),
        (b"[]", "config.json is [], must be an object"),
        (b"null", "config.json is null, must be an object"),
        (CONFIG.replace(b'"rank": 3', b'"rank": 4, "rank": 3'),
         'config.json: "rank" is both 4 and 3, must be there once'),
        (CONFIG.replace(b'"steps": 2', b'"steps": 1e999'),
         "config.json: training.steps is Infinity, must be a finite number"),
        (None, "config.json is missing, must be a file"),
    ],
)  # fmt: skip
def test_a_config_that_is_read_in_different_ways(tmp_path, capsys, content, says):
    files = whole()
    files["config.json"] = content
    assert refused(files, tmp_path / "scorer", capsys).startswith(says)


@pytest.mark.parametrize(
    "content,says",
    [
        (b"", " is truncated, or no safetensors file"),
        (b"\x10" + b"\0" * 7 + b"{}" + b" " * 14, ": tensor budget.ratio.0.bias is missing"),
        (encoded(whole()["model.safetensors"])[:-4], " is truncated, or no safetensors file"),
        (whole("low_rank", False)["model.safetensors"], ": tensor budget.ratio.0.bias is missing"),
        (whole()["model.safetensors"] | {"a\nb": torch.ones(1)}, r": tensor a\nb is there, must"),
    ],
)  # fmt: skip
def test_a_file_of_tensors(tmp_path, capsys, content, says):
    files = whole() | {"model.safetensors": content}
    assert refused(files, tmp_path / "scorer", capsys).startswith(f"model.safetensors{says}")


def test_scores_that_can_overflow(tmp_path, capsys):
    files = whole("cross_attention")
    for name in ("vision", "text", "mix", "mlp.0", "mlp.2"):
        files["model.safetensors"][f"scorer.{name}.weight"].fill_(65504.0)
    said = refused(files, tmp_path / "scorer", capsys)
    assert "the input of scorer.score.0 (LayerNorm) can be of length" in said
    files["model.safetensors"]["scorer.mlp.2.weight"].fill_(1e-20)
    asymvlm.load_scorer(written(files, tmp_path / "scorer"))


def test_where_there_is_no_directory(tmp_path, capsys):
    (tmp_path / "file").touch()
    for name, says in (("file", "is a file; give"), ("none\n", "no such directory; give")):
        place = tmp_path / name
        assert check([str(place)]) == 1
        said = capsys.readouterr().err
        with pytest.raises(DataError) as error:
            asymvlm.load_scorer(place)
        assert f"{error.value}\n" == said and says in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "spoil,says",
    [
        (lambda f: f.pop("adapter/adapter_config.json"), "adapter_config.json is missing"),
        (lambda f: f.pop("adapter/adapter_model.safetensors"), "adapter_model.safetensors is mi"),
        (lambda f: f.update({"adapter/adapter_config.json": []}), "adapter_config.json is []"),
        (lambda f: f["adapter/adapter_config.json"].pop("r"), "adapter_config.json: r is missing"),
        (lambda f: f["adapter/adapter_config.json"].update(r=True), "config.json: r is true"),
        (lambda f: f["adapter/adapter_config.json"].update(peft_type="IA3"),
         'adapter_config.json: peft_type is "IA3", must be "LORA"'),
        (lambda f: f["adapter/adapter_config.json"].update(target_modules=[]),
         "adapter_config.json: target_modules is [], must be a string or a list of strings"),
        (lambda f: f["adapter/adapter_config.json"].update(r=3),
         f"tensor {MODULE}.lora_A.weight is of shape [2, 5], must be of 3"),
        (lambda f: f["adapter/adapter_model.safetensors"].popitem(),
         f"tensor {MODULE}.lora_A.weight is alone, must be beside"),
        (lambda f: f["adapter/adapter_model.safetensors"].update(x=torch.ones(1)),
         "tensor x is there, must be left out: names end in .lora_A.weight or .lora_B.weight"),
        (lambda f: f["adapter/adapter_model.safetensors"].update(
            {f"{MODULE}.lora_B.weight": torch.full((7, 2), torch.nan)}),
         f"tensor {MODULE}.lora_B.weight holds nan, must be finite"),
    ],
)  # fmt: skip
def test_an_adapter_that_is_none(tmp_path, capsys, spoil, says):
    files = whole(adapter=True)
    spoil(files)
    assert says in refused(files, tmp_path / "scorer", capsys)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_adapters_in_every_precision(tmp_path, dtype):
    files = whole(adapter=True)
    tensors = files["adapter/adapter_model.safetensors"]
    files["adapter/adapter_model.safetensors"] = {
        name: 3e4 * one.to(dtype) for name, one in tensors.items()
    }
    assert (
        asymvlm.load_scorer(written(files, tmp_path / "scorer")).adapter
        == tmp_path / "scorer/adapter"
    )


class Own(Scorer):
    kind = "own_kind"

    def __init__(self, width, steps=2):
        super().__init__(width, steps=steps)
        self.bias = torch.nn.Parameter(torch.zeros(steps))

    def forward(self, batch):
        return batch.vision.sum(-1) + self.bias.sum()


def test_a_kind_of_one_s_own(tmp_path, capsys, monkeypatch):
    """As if its file lay in the package; its class says what its tensors are."""
    own = TrainedScorer(Own(6), None)
    with pytest.raises(DataError, match=r'scorer.kind is "own_kind", must be one of'):
        save_scorer(own, tmp_path / "own", "card")
    assert not (tmp_path / "own").exists()
    known = scorers()
    monkeypatch.setattr("asymvlm.scorers.scorers", lambda: known | {"own_kind": Own})
    monkeypatch.setattr("asymvlm.checkpoint.scorer.scorers", lambda: known | {"own_kind": Own})
    save_scorer(own, tmp_path / "own", "card")
    assert asymvlm.load_scorer(tmp_path / "own").config() == own.config()
    config, tensors = own.config(), {"scorer.bias": torch.zeros(2)}
    for change, says in (
        ({"steps": 3}, "scorer.bias is of shape [2], must be [3]"),
        ({"x": 1}, "must be what own_kind takes ("),
    ):
        spoilt = copy.deepcopy(config)
        spoilt["scorer"]["arguments"] |= change
        files = {"config.json": spoilt, "model.safetensors": tensors}
        assert says in refused(files, tmp_path / "scorer", capsys)
