"""`init_from_teacher`: what a student of the teacher's size computes, what a smaller one does, and what is refused."""

import copy
import json

import open_clip
import pytest
import torch
import yaml
from recipe_runs import TINY
from teacher_models import TEXTS, images, tiny_clip, tiny_siglip
from transformers import CLIPConfig, CLIPModel, MetaClip2Config, MetaClip2Model

import hf_clip_kd as kd
from hf_clip_kd.models.tokenizer import clip_tokenizer
from recipes import distill

VISION = {"image_size": 32, "layers": 4, "width": 64, "patch_size": 8, "head_width": 16, "mlp_ratio": 2.0}
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 48, "heads": 3, "layers": 5, "mlp_ratio": 2.0}
SMALL_VISION = VISION | {"layers": 2, "width": 32}
SMALL_TEXT = TEXT | {"layers": 2, "width": 32, "heads": 2, "context_length": 12}


def randomized(model, seed=0):
    """The model with weights far from any initialization, where norms and biases are constants."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) + (parameter.ndim == 1))
    return model.eval()


def open_clip_model(folder, embed_dim=24, vision=VISION, text=TEXT, **values):
    """An open_clip model with random weights."""
    name = f"inherit-{folder.name}-{embed_dim}"
    (folder / f"{name}.json").write_text(
        json.dumps({"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": text} | values)
    )
    open_clip.add_model_config(folder / f"{name}.json")
    model = randomized(open_clip.create_model(name))
    model.logit_scale.data.fill_(3.0)
    return model


def clip_of(vision, text, projection_dim=24, seed=1):
    """A CLIPModel of the sizes that open_clip's two dictionaries tell, with other weights, and its processor."""

    def tower(cfg, heads):
        return {
            "hidden_size": cfg["width"], "intermediate_size": int(cfg["width"] * cfg["mlp_ratio"]),
            "num_hidden_layers": cfg["layers"], "num_attention_heads": heads,
        }  # fmt: skip

    vision_config = tower(vision, vision["width"] // vision["head_width"])
    vision_config |= {"image_size": vision["image_size"], "patch_size": vision["patch_size"]}
    end = text["vocab_size"] - 1
    text_config = tower(text, text["heads"]) | {
        "vocab_size": text["vocab_size"], "max_position_embeddings": text["context_length"],
        "bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end,
    }  # fmt: skip
    config = CLIPConfig(text_config=text_config, vision_config=vision_config, projection_dim=projection_dim)
    processor = tiny_clip()[1]
    processor.tokenizer = clip_tokenizer(text["vocab_size"], text["context_length"])
    return randomized(CLIPModel(config), seed), processor


def inputs(processor):
    return processor(text=TEXTS, images=images(), return_tensors="pt", padding=True, truncation=True)


@torch.no_grad()
def embeds(model, batch):
    """(image embeddings, text embeddings), not normalised."""
    image = model.get_image_features(batch["pixel_values"]).pooler_output
    return image, model.get_text_features(batch["input_ids"], batch["attention_mask"]).pooler_output


def same(found, expected, **tolerance):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


# ---- A student of the teacher's size is the teacher ----


@pytest.mark.parametrize("act", ["gelu", "quick_gelu"])
def test_everything_inherited_is_the_teacher(act):
    model, processor = tiny_clip(act)
    model = randomized(model)
    student = CLIPModel(tiny_clip("gelu")[0].config)
    processor_of_student = copy.deepcopy(processor)
    processor_of_student.image_processor.image_mean = [0.1, 0.2, 0.3]
    before = copy.deepcopy(student.state_dict())
    teacher = kd.CLIPTeacher(model, processor=processor)
    heir, its_processor = kd.init_from_teacher(student, processor_of_student, teacher)
    batch = inputs(its_processor)
    assert torch.equal(batch["pixel_values"], inputs(processor)["pixel_values"])
    expected = model(**batch)
    same([heir.eval()(**batch).logits_per_image], [expected.logits_per_image], rtol=0, atol=0)
    # The given student is unchanged.
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert student.config.vision_config.hidden_act == "gelu"
    assert processor_of_student.image_processor.image_mean == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("values", [{}, {"quick_gelu": True}, {"custom_text": True}])
def test_everything_inherited_from_open_clip_is_the_teacher(values, tmp_path):
    values = values | {"vision": VISION | {"ls_init_value": 0.5}} if "custom_text" in values else values
    model = open_clip_model(tmp_path, **values)
    teacher = kd.CLIPTeacher(model)
    student, processor = clip_of(VISION, TEXT)
    heir, processor = kd.init_from_teacher(student, processor, teacher)
    pixels = teacher.processor.image_processor(images(), return_tensors="pt")["pixel_values"]
    theirs = model(pixels, teacher.processor.tokenizer(TEXTS)["input_ids"])
    own = heir(**(inputs(processor) | {"pixel_values": pixels}))
    same([own.image_embeds, own.text_embeds], theirs[:2], rtol=0, atol=1e-5)
    same([own.logits_per_image], [theirs[2] * theirs[0] @ theirs[1].t()], rtol=0, atol=1e-4)


def test_a_saved_heir_is_a_plain_model(tmp_path):
    model, processor = tiny_clip()
    teacher = kd.CLIPTeacher(randomized(model), processor=processor)
    heir, processor = kd.init_from_teacher(*kd.load_clip("test-resnet"), teacher, ["whole_text"])
    heir.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, its_processor = kd.load_clip(tmp_path)
    ids = its_processor.tokenizer(TEXTS, padding=True, return_tensors="pt")
    same(
        [again.get_text_features(**ids).pooler_output],
        [model.get_text_features(**processor.tokenizer(TEXTS, padding=True, return_tensors="pt")).pooler_output],
        rtol=0,
        atol=0,
    )


# ---- A smaller student is what open_clip computes with the cut weights ----


def cut_as_tinyclip(state, small, layers, heads):
    """The open_clip weights `state` cut to the shapes of the state dict `small`.

    Args:
        layers (`dict[str, list[int]]`): For the blocks of `visual` and of the text tower, which are kept.
        heads (`dict[str, tuple[int, int]]`): Heads of the teacher and of the student.
    """
    cut = {}
    for name, value in small.items():
        tower, source = "visual" if name.startswith("visual.") else "text", name
        if ".resblocks." in name:
            before, after = name.split(".resblocks.")
            index, _, rest = after.partition(".")
            source = f"{before}.resblocks.{layers[tower][int(index)]}.{rest}"
        weight = state[source]
        if ".in_proj_" in name:
            many, few = heads[tower]
            # query, key and value; heads; channels of a head; (inputs)
            weight = weight.unflatten(0, (3, many, -1))[:, :few].flatten(0, 2)
            cut[name] = weight[:, : value.shape[1]] if weight.ndim == 2 else weight
        else:
            for axis, size in enumerate(value.shape):
                weight = weight.narrow(axis, 0, size)
            cut[name] = weight
    return cut


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_a_cut_teacher_computes_what_the_cut_weights_compute(quick_gelu, tmp_path):
    model = open_clip_model(tmp_path, quick_gelu=quick_gelu)
    small = open_clip_model(tmp_path, 16, SMALL_VISION, SMALL_TEXT, quick_gelu=quick_gelu)
    # Five layers to two: every second one from the front.
    kept, heads = {"visual": [0, 2], "text": [0, 2]}, {"visual": (4, 2), "text": (3, 2)}
    small.load_state_dict(cut_as_tinyclip(model.state_dict(), small.state_dict(), kept, heads))
    teacher = kd.CLIPTeacher(model)
    heir, processor = kd.init_from_teacher(*clip_of(SMALL_VISION, SMALL_TEXT, 16), teacher)
    batch = inputs(processor)
    ids = kd.CLIPTeacher(small).processor.tokenizer(TEXTS)["input_ids"]
    same(embeds(heir, batch), [small.encode_image(batch["pixel_values"]), small.encode_text(ids)], rtol=0, atol=1e-4)
    assert heir.logit_scale == 3.0
    assert sum(p.numel() for p in heir.parameters()) == sum(p.numel() for p in small.parameters())


@pytest.mark.parametrize(
    ("depth", "kept"), [(12, range(12)), (9, range(9)), (6, range(0, 12, 2)), (5, [0, 2, 4, 6, 8]), (3, [0, 4, 8])]
)
def test_layers_are_taken_at_equal_steps_from_the_front(depth, kept):
    vision, text = VISION | {"layers": 12}, TEXT | {"layers": 12, "vocab_size": 600}
    model, processor = clip_of(vision, text)
    for tower in (model.vision_model, model.text_model):
        for index, layer in enumerate(tower.encoder.layers):
            layer.mlp.fc2.bias.data.fill_(index)
    student = clip_of(vision | {"layers": depth}, text | {"layers": depth})
    heir, _ = kd.init_from_teacher(*student, kd.CLIPTeacher(model, processor=processor))
    for tower in (heir.vision_model, heir.text_model):
        assert [int(layer.mlp.fc2.bias[0]) for layer in tower.encoder.layers] == list(kept)


@torch.no_grad()
def permute_heads(tower, order):
    """The same function with the attention heads of every layer in another order."""
    for layer in tower.encoder.layers:
        attention = layer.self_attn
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj):
            linear.weight.copy_(linear.weight.unflatten(0, (len(order), -1))[order].flatten(0, 1))
            linear.bias.copy_(linear.bias.unflatten(0, (len(order), -1))[order].flatten())
        weight = attention.out_proj.weight
        weight.copy_(weight.unflatten(1, (len(order), -1))[:, order].flatten(1))


def test_heads_are_inherited_one_by_one():
    text = TEXT | {"vocab_size": 600}
    model, processor = clip_of(VISION, text)
    student = clip_of(VISION | {"width": 32}, text | {"width": 32, "heads": 2}, seed=2)
    teacher = kd.CLIPTeacher(model, processor=processor)
    batch = inputs(processor)
    whole = embeds(model, batch)
    heir = kd.init_from_teacher(*student, teacher)[0]
    # The two heads that a student keeps change places with each other, and so do the others.
    permute_heads(model.vision_model, [1, 0, 3, 2])
    permute_heads(model.text_model, [1, 0, 2])
    same(embeds(model, batch), whole, rtol=1e-4, atol=1e-4)
    permuted = kd.init_from_teacher(*student, teacher)[0]
    same(embeds(permuted, batch), embeds(heir, batch), rtol=1e-4, atol=1e-4)
    # One of them against one that is left out.
    permute_heads(model.vision_model, [2, 1, 0, 3])
    permute_heads(model.text_model, [2, 1, 0])
    other = kd.init_from_teacher(*student, teacher)[0]
    assert all((a - b).abs().max() > 1e-2 for a, b in zip(embeds(other, batch), embeds(heir, batch), strict=True))


@pytest.mark.parametrize("side", [24, 56])
def test_another_image_size_interpolates_the_positions_as_open_clip(side, tmp_path):
    model = open_clip_model(tmp_path)
    other = open_clip_model(tmp_path, 25, VISION | {"image_size": side})
    state = model.state_dict()
    open_clip.model.resize_pos_embed(state, other)
    vision = VISION | {"image_size": side}
    heir, _ = kd.init_from_teacher(*clip_of(vision, TEXT), kd.CLIPTeacher(model), ["image"])
    positions = heir.vision_model.embeddings.position_embedding.weight
    torch.testing.assert_close(positions.data, state["visual.positional_embedding"], rtol=0, atol=1e-6)


def test_a_smaller_vocabulary_keeps_the_embedding_of_each_token():
    model, processor = clip_of(VISION, TEXT | {"vocab_size": 700})
    heir, small = kd.init_from_teacher(
        *clip_of(VISION, TEXT | {"vocab_size": 600}), kd.CLIPTeacher(model, processor=processor)
    )
    assert len(small.tokenizer) == 600
    # The student's tokens, written as the teacher's: the same text, cut where the student's tokenizer cuts it.
    texts = small.tokenizer(TEXTS, truncation=True)["input_ids"]
    translated = [processor.tokenizer.convert_tokens_to_ids(small.tokenizer.convert_ids_to_tokens(t)) for t in texts]
    for own, theirs in zip(texts, translated, strict=True):
        assert own[-1] == 599 and theirs[-1] == 699
        embedding = heir.get_text_features(torch.tensor([own])).pooler_output
        same([embedding], [model.get_text_features(torch.tensor([theirs])).pooler_output], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_metaclip_2_passes_on_its_image_tower(dtype):
    own, processor = clip_of(VISION, TEXT | {"vocab_size": 600})
    config = own.config.to_dict()
    config["text_config"] |= {"vocab_size": 600}
    model = randomized(MetaClip2Model(MetaClip2Config(**config)), seed=5)
    teacher = kd.CLIPTeacher(model, processor=processor, dtype=dtype)
    student = own.to(torch.float64)
    heir, _ = kd.init_from_teacher(student, processor, teacher, ["image"])
    assert heir.dtype == torch.float64
    pixels = inputs(processor)["pixel_values"].double()
    expected = model.double().get_image_features(pixels).pooler_output
    same([heir.get_image_features(pixels).pooler_output], [expected], rtol=0, atol=1e-9)


# ---- Parts ----


def test_one_tower_leaves_the_other_alone():
    teacher = kd.CLIPTeacher(randomized(tiny_clip()[0]), processor=tiny_clip()[1])
    student, processor = tiny_clip()
    student = randomized(student, 7)
    for part, inherited in {"image": "vi", "text": "te"}.items():
        heir, _ = kd.init_from_teacher(student, processor, teacher, [part])
        for name, value in heir.state_dict().items():
            source = teacher.model if name.startswith(inherited) else student
            assert torch.equal(value, source.state_dict()[name]), name


@pytest.mark.parametrize("part", ["whole_text", "frozen_text"])
def test_a_convnet_takes_the_text_tower_of_open_clip(part, tmp_path):
    model = open_clip_model(tmp_path, embed_dim=40)
    student, processor = kd.load_clip("test-resnet")
    heir, its_processor = kd.init_from_teacher(student, processor, kd.CLIPTeacher(model), [part])
    ids = kd.CLIPTeacher(model).processor.tokenizer(TEXTS)["input_ids"]
    batch = inputs(its_processor)
    image, text = embeds(heir.eval(), batch)
    same([text], [model.encode_text(ids)], rtol=0, atol=1e-5)
    assert image.shape == (3, 40) and heir.config.projection_dim == 40
    own, new = student.vision_model.state_dict(), heir.vision_model.state_dict()
    assert own.keys() == new.keys() and all(torch.equal(own[name], new[name]) for name in own)
    frozen = {name for name, parameter in heir.named_parameters() if not parameter.requires_grad}
    text_tower = {name for name, _ in heir.named_parameters() if name.startswith("text_")}
    assert frozen == (text_tower if part == "frozen_text" else set())
    assert heir.logit_scale == student.logit_scale and heir.logit_scale != 3.0
    assert not hasattr(heir.config.vision_config, "projection_dim")


def test_the_recipe_trains_what_is_not_frozen(tmp_path):
    model, processor = clip_of(VISION, TEXT | {"vocab_size": 600})
    for part in (model, processor):
        part.save_pretrained(tmp_path / "teacher")
    recipe = TINY | {
        "teacher_model_name_or_path": str(tmp_path / "teacher"),
        "init_from_teacher": ["image", "frozen_text"],
        "gradient_accumulation_steps": 2,  # the losses see the features once more
        "weight_decay": 0.1,
        "losses": {"clip": 1, "fd": 4},
        "output_dir": str(tmp_path / "student"),
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    distill.main(["--config", str(tmp_path / "recipe.yaml")])
    student, _ = kd.load_clip(tmp_path / "student")
    trained, theirs = student.state_dict(), model.state_dict()
    text = [name for name in trained if name.startswith("text_")]
    assert text and all(torch.equal(trained[name], theirs[name]) for name in text)
    bias = "vision_model.encoder.layers.1.mlp.fc1.bias"  # starts as that of layer 2, moves by two steps
    moved = (trained[bias] - theirs[bias.replace(".1.", ".2.")]).abs().max()
    assert 0 < moved < 0.01


# ---- Errors ----

SIZES = [
    ({"width": 32, "head_width": 8}, {}, r"hidden_size / num_attention_heads=8, exactly 16"),
    ({"layers": 5}, {}, "vision_config.*num_hidden_layers=5, at most 4.*JSON with these sizes"),
    ({"width": 96}, {}, "hidden_size=96, at most 64; intermediate_size=192, at most 128"),
    ({"patch_size": 16}, {}, "patch_size=16, exactly 8"),
    ({}, {"context_length": 30}, "text_config.*max_position_embeddings=30, at most 20"),
]


@pytest.mark.parametrize(("vision", "text", "message"), SIZES)
def test_a_student_that_does_not_fit_into_its_teacher(vision, text, message):
    text_of_all = TEXT | {"vocab_size": 600}
    model, processor = clip_of(VISION, text_of_all)
    student = clip_of(VISION | vision, text_of_all | text)
    with pytest.raises(ValueError, match=message):
        kd.init_from_teacher(*student, kd.CLIPTeacher(model, processor=processor))


def test_a_wider_embedding_than_the_teachers():
    model, processor = tiny_clip()
    with pytest.raises(ValueError, match="projection_dim=32, at most 24"):
        kd.init_from_teacher(*clip_of(VISION, TEXT, 32), kd.CLIPTeacher(model, processor=processor), ["image"])


def test_tokens_that_the_teacher_does_not_know():
    model, processor = tiny_clip()  # 600 tokens
    with pytest.raises(ValueError, match=r"has 100 tokens that the teacher.*has not.*whole_text"):
        kd.init_from_teacher(
            *clip_of(VISION, TEXT | {"vocab_size": 700}), kd.CLIPTeacher(model, processor=processor), ["text"]
        )


@pytest.mark.parametrize(
    "parts", ["image", [], ["vision"], ["text", "whole_text"], ["image", "whole_text", "frozen_text"]]
)
def test_parts_that_do_not_exist(parts):
    with pytest.raises(ValueError, match="init_from_teacher=.*Allowed is a list of 'image' and one of"):
        kd.init_from_teacher(*tiny_clip(), None, parts)


def test_teachers_without_such_a_tower(tmp_path):
    student, processor = tiny_clip()
    siglip, its_processor = tiny_siglip()
    siglip = kd.CLIPTeacher(siglip, processor=its_processor)
    average = kd.CLIPTeacher(open_clip_model(tmp_path, vision=VISION | {"pool_type": "avg"}))
    seeing_all = kd.CLIPTeacher(open_clip_model(tmp_path, 16, text=TEXT | {"no_causal_mask": True}, custom_text=True))
    resnet = kd.CLIPTeacher(open_clip_model(tmp_path, 32, {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16}))
    for teacher, part, message in [
        (None, "image", "with no teacher, but weights come from one model.*Give such a teacher_model_name_or_path"),
        (kd.TeacherEnsemble([siglip, siglip]), "image", "with a TeacherEnsemble"),
        (
            kd.CLIPTeacher(student.vision_model, processor=processor),
            "image",
            "a tower alone, without visual_projection",
        ),
        (siglip, "image", "'SiglipModel' has no image tower.*SiglipVisionModel.*leave the image tower out.*text"),
        (siglip, "text", "'SiglipModel' has no text tower.*SiglipTextModel.*leave the text tower out.*image"),
        (average, "image", "its embedding of an image is not that of the class token"),
        (seeing_all, "text", "compute other embeddings in CLIPTextModel"),
        (resnet, "image", "ModifiedResNet"),
    ]:
        with pytest.raises(ValueError, match=message):
            kd.init_from_teacher(student, processor, teacher, [part])
    with pytest.raises(ValueError, match="The student has no image tower.*TimmVisionModel"):
        kd.init_from_teacher(*kd.load_clip("test-resnet"), kd.CLIPTeacher(student, processor=processor), ["image"])
