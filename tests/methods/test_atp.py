"""ATP by hand, CLIP's joint space against CLIP itself, and the sign of the similarity."""

from __future__ import annotations

import pytest
import torch
import transformers as tf
from support import families
from support.tokens import tokens_of

import asymvlm
from asymvlm.backbone.tower.watch import TowerView
from asymvlm.distillation.teacher import Teacher
from asymvlm.errors import DataError
from asymvlm.evaluation.similarity_sign import check_sign
from asymvlm.methods.atp import ATP, per_picture_min_max
from asymvlm.methods.common.clip_similarity import ClipSimilarity


def view(attention, states=None):
    attention = torch.as_tensor(attention)
    states = torch.zeros(len(attention), 2) if states is None else states
    return TowerView(attention, lambda: attention, torch.zeros(len(attention), 2), states, 1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory, processor):
    """A whole random CLIP, 16 wide, with the generated world's words between begin 1 and end 3."""
    torch.manual_seed(0)
    text = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "eos_token_id": 3,
    }
    text |= {
        "vocab_size": len(processor.tokenizer),
        "max_position_embeddings": 8,
        "bos_token_id": 1,
        "pad_token_id": 0,
    }
    config = tf.CLIPConfig(text_config=text, vision_config=families.tower(), projection_dim=12)
    directory = tmp_path_factory.mktemp("clip")
    tf.CLIPModel(config).save_pretrained(directory)
    tf.AutoTokenizer.from_pretrained("checkpoints/tiny-teacher/clip").save_pretrained(directory)
    return directory


def test_min_max_is_per_picture():
    values = torch.tensor([1.0, 3.0, 2.0, 10.0, 10.0])
    assert per_picture_min_max(values, torch.tensor([0, 0, 0, 1, 1])).tolist() == [0, 1, 0.5, 0, 0]


def test_fusion_by_hand():
    """alpha 0.25: 0.25 * [1, 0, 0.5] + 0.75 * [0, 1, 0.2] = [0.25, 0.75, 0.275].

    With the sign turned 0.25 * [0, 1, 0.5] instead.
    """
    tokens = tokens_of(3, tower=view([0.1, 0.6, 0.2]))
    method = ATP(alpha=0.0)
    torch.testing.assert_close(method.score(tokens), torch.tensor([0.0, 1.0, 0.2]))
    method.alpha, method.similarity = 0.25, lambda tokens: torch.tensor([0.9, 0.5, 0.7])
    torch.testing.assert_close(method.score(tokens), torch.tensor([0.25, 0.75, 0.275]))
    method.sign = -1
    torch.testing.assert_close(method.score(tokens), torch.tensor([0.0, 1.0, 0.275]))


def test_joint_space_is_clips_own(clip):
    """What the tower's CLS becomes by norm and projection is CLIP's image vector, and the text's
    vector is CLIP's.
    """
    model = tf.CLIPModel.from_pretrained(clip).eval()
    with torch.no_grad():
        pixels = torch.randn(1, 3, 16, 16)
        states = model.vision_model(pixels).last_hidden_state[0]
        image = model.get_image_features(pixel_values=pixels).pooler_output[0]
        similarity = ClipSimilarity(str(clip))
        ids = similarity.tokenizer("total of tea", return_tensors="pt").input_ids
        text = model.get_text_features(input_ids=ids).pooler_output[0]
        tokens = tokens_of(len(states), tower=view(torch.zeros(len(states)), states))
        tokens.text_ids, tokens.question = ids[0], torch.ones(len(ids[0]), dtype=torch.bool)
        got = similarity(tokens)
    assert got[0] == pytest.approx(torch.cosine_similarity(image, text, dim=0).item(), abs=1e-5)
    assert got.abs().max() <= 1 + 1e-6 and got.std() > 0


def test_long_text_is_the_mean_over_segments(clip):
    """A window of 8 has room for 6 tokens between begin and end: 14 tokens are three segments."""
    model, similarity = tf.CLIPModel.from_pretrained(clip).eval(), ClipSimilarity(str(clip))
    states = torch.randn(5, 16)
    tokens = tokens_of(5, tower=view(torch.zeros(5), states))

    def asked(text):
        words = similarity.tokenizer(text, add_special_tokens=False).input_ids
        tokens.text_ids = torch.tensor(words)
        tokens.question = torch.ones(len(words), dtype=torch.bool)
        return similarity(tokens), words

    got, words = asked("total of tea cups total of tea cups")
    segments = [words[start : start + 6] for start in range(0, len(words), 6)]
    assert [len(segment) for segment in segments] == [6, 6, 2]
    with torch.no_grad():
        patches = model.visual_projection(model.vision_model.post_layernorm(states))
        texts = [torch.tensor([[1, *segment, 3]]) for segment in segments]
        expected = [
            torch.cosine_similarity(patches, model.get_text_features(input_ids=ids).pooler_output)
            for ids in texts
        ]
    torch.testing.assert_close(got, sum(expected) / 3)
    assert not torch.equal(asked("total of tea cups total of tea")[0], got), "the last word counts"


def test_shipped_text_side_and_question_alone():
    """The teacher's own CLIP: text before the picture does not matter, that behind it does."""
    clip = ClipSimilarity("checkpoints/tiny-teacher/clip")
    ids = clip.tokenizer("total tea cups", return_tensors="pt").input_ids[0]
    tokens = tokens_of(4, tower=view(torch.zeros(4), torch.randn(4, 160)))
    tokens.text_ids, tokens.question = ids, torch.arange(len(ids)) >= 2
    first = clip(tokens)
    tokens.text_ids = torch.cat([ids[:1] + 1, ids[1:]])
    assert torch.equal(clip(tokens), first)
    tokens.text_ids = torch.cat([ids[:-2], ids[-2:] - 1])
    assert not torch.equal(clip(tokens), first)


@pytest.mark.parametrize(
    "name",
    [
        "Llava",
        "LlavaNext",
        "Qwen2VL",
        "Qwen2_5_VL",
        "InternVL",
        "Blip2",
        "Idefics",
        "IdeficsResampler",
    ],
)
def test_runs_on(name, clip):
    family = next(
        one for one in [*families.IN_SEQUENCE, *families.CROSS_ATTENTION] if one.name == name
    )
    model = family.build()
    inputs = (
        families.cross_batch(family)
        if family in families.CROSS_ATTENTION
        else families.batch(model, family)
    )
    with torch.no_grad(), asymvlm.prune(model, ATP(str(clip)), keep=0.5) as report:
        model(**inputs)
        model.generate(**inputs, **families.LENGTH)
    for scores in report.calls[0].scores:
        assert scores.min() >= 0 and scores.max() <= 1 and scores.std() > 0


def test_bad_arguments(clip, tmp_path):
    with pytest.raises(ValueError, match=r"alpha: 1\.5"):
        ATP(alpha=1.5)
    with pytest.raises(ValueError, match="sign: 0"):
        ATP(alpha=0, sign=0)
    with pytest.raises(ValueError, match="needs the CLIP whose tower"):
        ATP()
    with pytest.raises(ValueError, match="is for a tower 16 wide, this model's is 160"):
        ATP(str(clip)).score(tokens_of(4, tower=view(torch.rand(4), torch.randn(4, 160))))
    with pytest.raises(DataError, match="is a 'llava' model"):
        ATP("checkpoints/tiny-teacher")


def test_sign_check_finds_a_turned_similarity(page_samples):
    """A similarity that is high on evidence has sign 1, its opposite -1, and noise none."""
    teacher = Teacher.load("checkpoints/tiny-teacher")
    asked = [sample for sample in page_samples if sample.evidence_boxes]

    class Like:
        def __init__(self, sign, noise):
            self.sign, self.noise, self.asked = sign, noise, iter(asked)

        def __call__(self, tokens):
            from asymvlm.documents.cells import token_shares

            sample = next(self.asked)
            torch.manual_seed(0)
            return self.sign * token_shares(
                sample, sample.evidence_boxes, tokens.grid
            ) + self.noise * torch.randn(len(tokens.vision))

    assert check_sign(teacher, Like(1, 0.1), asked).sign == 1
    turned = check_sign(teacher, Like(-1, 0.1), asked)
    assert turned.sign == -1 and turned.area < 20 and turned.n == len(asked) == 6
