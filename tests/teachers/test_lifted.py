"""A tower that was tuned inside its LLaVA is a teacher by its folder, alone or beside its dual encoder."""

import dataclasses
import shutil

import cache_world
import pytest
import torch
from llava_runs import make_model
from teacher_models import TEXTS, images, tiny_clip, tiny_siglip

from hf_clip_kd import CLIPDataCollator, ReplayCollator
from hf_clip_kd.data.exchanges import reader_prefix
from hf_clip_kd.losses import LossSum, requested
from hf_clip_kd.losses.features import CLIPDims, FeatureRequest
from hf_clip_kd.models.load_tower import load_tower
from hf_clip_kd.teachers import CLIPTeacher, LiftedTeacher, load_teacher
from hf_clip_kd.teachers.cache import manifest
from hf_clip_kd.teachers.reader import readers_for, with_answers
from hf_clip_kd.vlm import save_llava, tower_checksum

# A reader asks where the answers lie.
TEMPLATE = (
    "{% for turn in messages %}{% if turn.role == 'assistant' %}{% generation %}{{ turn.content }} <end>"
    "{% endgeneration %}{% else %}{{ turn.content }} : {% endif %}{% endfor %}"
)
LOSSES = {"clip": 1.0, "crd": 1.0, "icl": 1.0, "fd": 4.0, "patch": 5.0, "cka": 1.0}


def lift(model):
    """Move the weights of the tower in a LLaVA, as a training of it does."""
    with torch.no_grad():
        for parameter in model.model.vision_tower.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)) * 0.1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A dual encoder, and a LLaVA on its tower, which has moved since."""
    folder = tmp_path_factory.mktemp("lifted")
    dual, processor = tiny_clip()
    dual.save_pretrained(folder / "dual"), processor.save_pretrained(folder / "dual")
    model, llava_processor = make_model()
    llava_processor.chat_template = llava_processor.tokenizer.chat_template = TEMPLATE
    lift(model)
    save_llava(model, llava_processor, folder / "llava")
    return folder / "dual", folder / "llava", dual, model


def student_dims():
    return CLIPDims(16, token_dim=8)


def test_folder_of_a_llava_is_a_teacher_of_tokens(folders):
    _, folder, _, model = folders
    teacher = CLIPTeacher(str(folder), dtype=torch.float32)
    assert tower_checksum(teacher.model.vision_model) == tower_checksum(model.model.vision_tower)
    assert teacher.dims == CLIPDims(32, has_text=False) and teacher.processor.tokenizer is None
    pixels = teacher.processor.image_processor(images(), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (3, 3, 32, 32)
    teacher.prepare(FeatureRequest(teacher_layer=-2, token_moments=True))
    features = teacher(pixels)
    with torch.no_grad():
        expected = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    torch.testing.assert_close(features.image_tokens, expected)
    assert features.image_grid == (4, 4) and not teacher.model.training
    losses = {"patch": 1.0, "relation": {"level": "tokens"}, "cka": 1.0}
    teacher.prepare(requested(losses))
    assert LossSum(losses, student_dims(), teacher.dims)
    with pytest.raises(ValueError, match=r"'crd'.* no text tower.*A_DUAL_ENCODER"):
        LossSum({"crd": 1, "patch": 1}, student_dims(), teacher.dims)


def test_what_the_language_model_gets_is_a_layer(folders):
    """They are the tokens that the LLaVA puts into its language model. Others may be read beside them."""
    _, folder, _, model = folders
    teacher = CLIPTeacher(str(folder))
    losses = {"patch": {"pairs": [[-2, -2], [-2, "projector"]], "statistics": 2}}
    pixels = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = model.get_image_features(pixels).pooler_output
    expected = torch.stack(list(expected))
    teacher.prepare(requested(losses))
    features = teacher(pixels)
    torch.testing.assert_close(features.at("projector").image_tokens, expected)
    assert features.at("projector").image_grid == features.at(-2).image_grid == (4, 4)
    moments = torch.stack([expected.mean(dim=1), expected.square().mean(dim=1)], dim=1)
    torch.testing.assert_close(features.at("projector").token_moments, moments)
    assert teacher.dims.at("projector").token_dim == expected.shape[-1]
    assert not torch.equal(features.at("projector").image_tokens, features.at(-2).image_tokens)
    assert LossSum(losses, student_dims(), teacher.dims)
    only = {"relation": {"level": "tokens", "teacher_layer": "projector"}}
    teacher.prepare(requested(only))
    torch.testing.assert_close(teacher(pixels).image_tokens, expected)


def test_a_teacher_without_a_projector_says_where_there_is_one(folders):
    dual, *_ = folders
    request = requested({"patch": {"teacher_layer": "projector"}})
    with pytest.raises(ValueError, match="has no projector.*A LLaVA has one.*'tokens_from': LLAVA"):
        CLIPTeacher(str(dual)).prepare(request)


def test_such_a_tower_is_a_tower_for_another_llava(folders):
    _, folder, _, model = folders
    tower, processor = load_tower(str(folder))
    assert tower_checksum(tower) == tower_checksum(model.model.vision_tower)
    assert processor.crop_size["height"] == 32


@pytest.mark.slow
def test_tower_of_timm_in_a_llava(tmp_path):
    model, processor = make_model("convnext", -1)
    lift(model)
    save_llava(model, processor, tmp_path)
    teacher = CLIPTeacher(str(tmp_path))
    teacher.prepare(FeatureRequest(teacher_layer=-1))
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(teacher(pixels).image_tokens, expected)


def test_embeddings_are_the_dual_encoders_and_tokens_the_lifted_towers(folders):
    dual, llava, *_ = folders
    teacher = load_teacher({"name": str(dual), "tokens_from": str(llava), "logit_scale": 7.0})
    assert isinstance(teacher, LiftedTeacher)
    request = requested(LOSSES)
    parts = CLIPTeacher(str(dual), logit_scale=7.0), CLIPTeacher(str(llava))
    for part in (teacher, *parts):
        part.prepare(request)
    pixels = teacher.processor.image_processor(images(), return_tensors="pt")["pixel_values"]
    texts = teacher.processor.tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    features, embeds, tokens = teacher(pixels, **texts), parts[0](pixels, **texts), parts[1](pixels)
    for name in ("image_embeds", "text_embeds", "logit_scale"):
        assert torch.equal(getattr(features, name), getattr(embeds, name)), name
    for name in ("image_tokens", "token_moments"):
        assert torch.equal(getattr(features, name), getattr(tokens, name)), name
        assert not torch.equal(getattr(features, name), getattr(embeds, name)), name
    assert features.image_grid == tokens.image_grid
    assert teacher.dims == dataclasses.replace(parts[0].dims, token_dim=32)
    assert LossSum(LOSSES, student_dims(), teacher.dims)
    # Nobody asks the lifted tower if no loss reads tokens.
    teacher.prepare(requested({"clip": 1.0, "fd": 4.0}))
    teacher.tokens = None
    assert teacher(pixels, **texts).image_tokens is None


def test_the_llavas_own_language_model_reads_it(folders):
    """It says of the tokens what the LLaVA says of the image. `{teacher}` is the LLaVA's folder, not the encoder's."""
    dual, llava, _, model = folders
    losses = {"clip_kd": 1.0, "reader": {"reader": "{teacher}"}}
    teacher, request = load_teacher({"name": str(dual), "tokens_from": str(llava)}), requested(losses)
    encoder = CLIPTeacher(str(dual))
    teacher.prepare(request), encoder.prepare(request)
    [reader] = readers_for(teacher, request)
    texts = reader.texts([("What colour is it", "red"), (None, "green"), ("What colour", "blue 3")])
    pixels = torch.randn(3, 3, 32, 32)
    batch = {"pixel_values": pixels, "input_ids": torch.ones(3, 7, dtype=torch.long)}
    batch |= {reader_prefix(0) + name: value for name, value in texts.items()}
    plain, features = encoder.of_batch(batch), with_answers(teacher.of_batch(batch), [reader], batch)
    with torch.no_grad():
        said = model(pixel_values=pixels, **{name: texts[name] for name in ("input_ids", "attention_mask")}).logits
    torch.testing.assert_close(features.answers[0].logits, said[texts["labels"] != -100], rtol=1e-4, atol=1e-4)
    assert torch.equal(features.text_embeds, plain.text_embeds) and LossSum(losses, student_dims(), teacher.dims)
    other = with_answers(plain, [reader], batch).answers[0]
    assert (other.logits - features.answers[0].logits).abs().max() > 1e-3, "the tokens are the lifted tower's"


def test_a_cache_tells_one_lifted_tower_from_another(folders):
    dual, llava, *_ = folders
    teacher = load_teacher({"name": str(dual), "tokens_from": str(llava)})
    other = load_teacher({"name": str(dual), "tokens_from": str(dual)})
    for lifted in (teacher, other):
        lifted.prepare(FeatureRequest(teacher_layer=-2))
    entries = [manifest.describe(lifted) for lifted in (teacher, other)]
    assert entries[0]["weights"] != entries[1]["weights"] and entries[0]["image_grid"] == (4, 4)
    assert teacher.identity() != other.identity()


def test_a_cache_holds_the_layer_behind_the_projector(folders, tmp_path):
    dual, llava, *_ = folders
    losses = {"patch": {"pairs": [[-2, -2], [-2, "projector"]]}}
    teacher = load_teacher({"name": str(dual), "tokens_from": str(llava)})
    cache = cache_world.writer(tmp_path, teacher, request=requested(losses), dtype=torch.float32).write()
    for run in (losses, {"patch": {"teacher_layer": "projector"}}):
        teacher.prepare(requested(run)), cache.prepare(requested(run))
        assert cache.dims == teacher.dims
        batch = ReplayCollator(teacher.processor, cache, seed=cache_world.SEED)(cache_world.rows()[:4])
        asked = CLIPDataCollator(teacher.processor, teacher.processor, **cache_world.VIEWS)(cache_world.rows()[:4])
        found, expected = cache.of_batch(batch), teacher.of_batch(asked)
        assert found.tensors().keys() == expected.tensors().keys()
        for name, values in expected.tensors().items():
            torch.testing.assert_close(found.tensors()[name], values, rtol=1e-4, atol=1e-5)


def test_both_in_an_ensemble(folders):
    """`fd` and `patch` learn from each, and the losses with texts from the dual encoder alone."""
    dual, llava, *_ = folders
    teacher = load_teacher([str(llava), {"name": str(dual), "weight": 0.5}])
    teacher.prepare(requested(LOSSES))
    losses = LossSum(LOSSES, student_dims(), teacher.dims)
    assert list(losses.weights) == list(LOSSES)
    pixels = torch.randn(2, 3, 32, 32)
    batch = {"pixel_values": pixels, "input_ids": torch.ones(2, 7, dtype=torch.long)}
    first, second = teacher.of_batch(batch).members
    assert first.text_embeds is None and second.text_embeds is not None
    assert not torch.equal(first.image_tokens, second.image_tokens)


def test_towers_with_two_views_are_refused(folders, tmp_path):
    _, llava, *_ = folders
    siglip, processor = tiny_siglip()
    siglip.save_pretrained(tmp_path), processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="sees images of .*tokens_from.* Both must see the same pixels.*an ensemble"):
        load_teacher({"name": str(tmp_path), "tokens_from": str(llava)})


def test_folder_without_weights_is_refused(folders, tmp_path):
    _, folder, *_ = folders
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="cannot be loaded as a tower"):
        CLIPTeacher(str(tmp_path))
