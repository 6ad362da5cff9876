"""`build_llava`: every tower and every language model become a stock LLaVA that computes what its parts compute."""

import logging
import math

import pytest
import torch
from teacher_models import TOWER, tiny_clip, tiny_siglip, word_tokenizer
from torch.nn.functional import avg_pool2d
from transformers import LlavaForConditionalGeneration, LlavaProcessor, ViTConfig, ViTModel
from vlm_parts import SIDE, TOWERS, image_processor, language_model, picture, timm_tower

from hf_clip_kd.models import encode_images, load_clip
from hf_clip_kd.models.towers.checksum import tower_checksum
from hf_clip_kd.vlm.build import build_llava
from hf_clip_kd.vlm.saving import load_llava, save_llava

LAYERS = [-2, [-2, -1], -1]
# Number of image tokens at each of LAYERS, without class token and levels, by hand for 64 pixels.
COUNTS = {"vit_with_registers": [20, 20, 20], "vit_with_only_registers": [20, 20, 20]}
COUNTS |= dict.fromkeys(("vit", "vit_without_class_token"), [16, 16, 16])
COUNTS |= dict.fromkeys(("convnext", "resnet", "swin", "fastvit"), [16, 4, 4])
WIDTHS = {"convnext": [24, 64, 32], "resnet": [24, 64, 32], "swin": [64, 256, 128], "fastvit": [64, 256, 128]}


def build(tower, family="qwen2", **arguments):
    model, tokenizer = language_model(family)
    if not isinstance(tower, str):
        arguments = {"image_processor": image_processor(), **arguments}
    return build_llava(tower, model, tokenizer=tokenizer, **arguments)


def inputs_of(processor):
    return processor(images=[picture()], text="<image>\nWhat shape?", return_tensors="pt")


def features_of(model, pixel_values):
    """Return the input of the projector."""
    seen = []
    handle = model.model.multi_modal_projector.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model.get_image_features(pixel_values)
    handle.remove()
    return seen[0]


def first_layer(trunk):
    return [parameter for name, parameter in trunk.named_parameters() if "patch_embed" in name or "stem" in name] or [
        trunk.conv1.weight
    ]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("family", TOWERS)
def test_tower_trains_generates_saves_and_reloads(family, layer, tmp_path):
    tower = timm_tower(family)
    checksum = tower_checksum(tower)
    model, processor = build(tower, vision_feature_layer=layer)
    assert type(model) is LlavaForConditionalGeneration and type(processor) is LlavaProcessor
    assert not model.training and not [name for name, value in model.state_dict().items() if value.is_meta]
    assert tower_checksum(model.model.vision_tower) == checksum
    assert tower.config.feature_layers is None  # the given tower stays a student's

    inputs = inputs_of(processor)
    index = LAYERS.index(layer)
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == COUNTS[family][index]
    features = features_of(model, inputs["pixel_values"])
    assert features.shape[1] == COUNTS[family][index] == model.config.image_seq_length
    assert features.shape[2] == WIDTHS.get(family, [32, 64, 32])[index]

    # The features are timm's own, from its own call.
    trunk = tower.trunk
    with torch.no_grad():
        if tower.config.num_prefix_tokens:
            pairs = trunk.forward_intermediates(
                inputs["pixel_values"],
                norm=False,
                output_fmt="NLC",
                return_prefix_tokens=True,
                intermediates_only=True,
            )
            keep = 0 if "only_registers" in family else 1
            levels = [torch.cat([prefix[:, keep:], patches], 1) for patches, prefix in pairs]
        else:
            levels = trunk.forward_intermediates(inputs["pixel_values"], norm=False, intermediates_only=True)
            if isinstance(layer, list) and levels[-2].shape != levels[-1].shape:
                pooled = avg_pool2d(levels[-2], 2)
                zeros = torch.zeros(1, levels[-1].shape[1] - pooled.shape[1], *pooled.shape[2:])
                levels[-2] = torch.cat([pooled, zeros], 1)
            levels = [level.flatten(2).transpose(1, 2) for level in levels]
    expected = torch.cat([levels[index] for index in ([layer] if isinstance(layer, int) else layer)], -1)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-6)

    model.train()
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert any(parameter.grad.abs().sum() > 0 for parameter in first_layer(model.model.vision_tower.trunk))
    model.eval()
    assert model.generate(**inputs, max_new_tokens=3).shape[0] == 1

    checksum = tower_checksum(model.model.vision_tower)  # BatchNorm has moved
    save_llava(model, processor, tmp_path)
    again, processor_again = load_llava(tmp_path)
    assert tower_checksum(again.model.vision_tower) == checksum
    inputs_again = inputs_of(processor_again)
    assert all(torch.equal(inputs[key], inputs_again[key]) for key in inputs)
    with torch.no_grad():
        assert torch.equal(again(**inputs_again).logits, model(**inputs).logits)


@pytest.mark.parametrize("tower", ["clip", "siglip"])
def test_stock_towers(tower):
    dual, processor = tiny_clip() if tower == "clip" else tiny_siglip()
    checksum = tower_checksum(dual.vision_model)
    model, processor = build(dual, image_processor=processor.image_processor)
    assert type(model.model.vision_tower) is type(dual.vision_model)
    assert model.model.vision_tower is not dual.vision_model
    assert tower_checksum(model.model.vision_tower) == checksum
    assert processor.vision_feature_select_strategy == ("default" if tower == "clip" else "full")
    pixels = processor.image_processor([picture()], return_tensors="pt")["pixel_values"]
    _, expected = encode_images(dual, pixels, -2)
    assert torch.equal(features_of(model, pixels), expected) and expected.shape[1] == 16


def test_tower_that_the_stock_class_would_give_more_weights():
    """The saved LLaVA could not be loaded: its ViT would come with a pooler that no file has."""
    vit = ViTModel(ViTConfig(**TOWER, image_size=SIDE, patch_size=16), add_pooling_layer=False)
    with pytest.raises(ValueError, match="ViTModel with 2 tensors .*pooler.dense.bias.*'timm:NAME'"):
        build(vit)


def test_preset_tower_by_name():
    model, processor = build("shapes-vit-t")
    student, _ = load_clip("shapes-vit-t")
    assert model.config.vision_config.to_dict().items() >= {"patch_size": 8, "model_type": "clip_vision_model"}.items()
    assert tower_checksum(model.model.vision_tower) != tower_checksum(student.vision_model)  # fresh weights each


@pytest.mark.parametrize("family", ["qwen2", "llama", "gemma", "gpt2"])
def test_language_model_keeps_its_logits(family, tmp_path):
    causal, tokenizer = language_model(family)
    ids = torch.randint(0, causal.config.vocab_size, (2, 9))
    template = "vicuna" if family == "gpt2" else None
    model, processor = build_llava(
        timm_tower(), causal, tokenizer=tokenizer, image_processor=image_processor(), chat_template=template
    )
    vocabulary = causal.config.vocab_size
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits[..., :vocabulary], causal(ids).logits)
    # GPT-2's tied embeddings have a name that the stock class cannot tie to.
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    assert tied == model.config.tie_word_embeddings == (family in ("qwen2", "gemma"))
    assert not any(parameter is shared for parameter in model.parameters() for shared in causal.parameters())

    inputs = inputs_of(processor)
    expected = model(**inputs).logits
    save_llava(model, processor, tmp_path)
    again, processor = load_llava(tmp_path)
    assert (again.lm_head.weight is again.get_input_embeddings().weight) == tied
    assert torch.equal(again(**inputs_of(processor)).logits, expected)


@pytest.mark.parametrize(
    ("family", "reason"),
    [("phi", "with a bias"), ("gemma2", "other logits"), ("cohere", "other logits")],
)
def test_head_that_the_stock_class_cannot_hold(family, reason):
    with pytest.raises(ValueError, match=f"{reason}.*plain linear head without bias, scale or soft-capping"):
        build(timm_tower(), family, chat_template="vicuna")


def test_image_token_and_padding_are_added_only_where_needed():
    tokenizer = word_tokenizer(False)
    tokenizer.pad_token = None
    causal, _ = language_model("llama", vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    assert "<image>" not in tokenizer.get_vocab()
    arguments = {"tokenizer": tokenizer, "image_processor": image_processor(), "chat_template": "vicuna"}
    model, processor = build_llava(timm_tower(), causal, **arguments)
    size = len(tokenizer)
    assert "<image>" not in tokenizer.get_vocab() and tokenizer.pad_token is None  # the given one stays as it was
    assert processor.tokenizer.encode("red<image>", add_special_tokens=False)[-1] == processor.image_token_id == size
    assert model.config.image_token_id == size and model.lm_head.out_features == size + 1
    assert processor.tokenizer.pad_token == "<unk>" and processor.tokenizer.eos_token == "<eos>"

    spare, _ = language_model("llama", vocab_size=size + 64)
    model, _ = build_llava(timm_tower(), spare, **arguments)
    assert model.lm_head.out_features == size + 64

    # Padding that is EOS: another token, and EOS keeps its id.
    causal, tokenizer = language_model("llama")
    assert tokenizer.pad_token == tokenizer.eos_token == "</s>"
    model, processor = build_llava(timm_tower(), causal, tokenizer=tokenizer, image_processor=image_processor())
    assert processor.tokenizer.eos_token_id == tokenizer.eos_token_id != processor.tokenizer.pad_token_id
    assert model.generation_config.pad_token_id == processor.tokenizer.pad_token_id
    assert processor.tokenizer.pad_token_id < model.get_input_embeddings().num_embeddings


def test_a_tokenizer_that_adds_a_bos_to_a_template_without_is_refused():
    causal, tokenizer = language_model("qwen2")
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.add_bos_token = True
    parts = {"tokenizer": tokenizer, "image_processor": image_processor()}
    with pytest.raises(ValueError, match=r"chat_template='qwen2'` writes no '<\|endoftext\|>'.*add_bos_token = False"):
        build_llava(timm_tower(), causal, **parts)
    build_llava(timm_tower(), causal, **parts, chat_template="vicuna")


@pytest.mark.parametrize("template", ["vicuna", "plain", "short"])
def test_a_language_model_that_knows_no_end_is_refused(template):
    causal, tokenizer = language_model("llama")
    parts = {"image_processor": image_processor(), "chat_template": template}
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="The tokenizer has no `eos_token` to end an answer, and LlamaForCausalLM"):
        build_llava(timm_tower(), causal, tokenizer=tokenizer, **parts)
    tokenizer.add_special_tokens({"eos_token": "<new>"})
    message = rf"'<new>' that ends an answer has the id {len(tokenizer) - 1}, and LlamaForCausalLM has embeddings of"
    with pytest.raises(ValueError, match=message):
        build_llava(timm_tower(), causal, tokenizer=tokenizer, **parts)


def test_generation_is_greedy_and_stops_at_the_end_of_a_turn():
    model, processor = build(timm_tower(), "gemma")
    tokenizer = processor.tokenizer
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end_of_turn>")]
    assert model.generation_config.eos_token_id == ends and not model.generation_config.do_sample
    assert processor.chat_template == tokenizer.chat_template and "generation" in processor.chat_template
    question = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What shape?"}]}]
    text = processor.apply_chat_template(question, add_generation_prompt=True)
    assert text.count("<image>") == 1 and text.endswith("<start_of_turn>model\n")


@pytest.mark.parametrize("family", ["vit", "resnet"])
def test_gradient_checkpointing_changes_nothing(family):
    torch.manual_seed(0)
    model, processor = build(timm_tower(family), vision_feature_layer=[-2, -1])
    inputs = inputs_of(processor)
    model.train()

    def gradients():
        for module in model.modules():  # The second pass must see the same statistics.
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        model.zero_grad()
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
        return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}

    expected = gradients()
    model.activation_checkpointing_enable()
    found = gradients()
    assert model.model.vision_tower._trunk_checkpoints
    assert found.keys() == expected.keys() and any("vision_tower" in name for name in found)
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)


def test_layers_above_the_one_that_is_read_get_no_gradient():
    model, processor = build(timm_tower(), vision_feature_layer=-2)
    inputs = inputs_of(processor)
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    blocks = model.model.vision_tower.trunk.blocks
    assert blocks[0].attn.qkv.weight.grad.abs().sum() > 0 and blocks[1].attn.qkv.weight.grad is None


@pytest.mark.parametrize("mode", ["square", "pad", "crop"])
def test_image_modes(mode):
    _, processor = build(timm_tower(), image_mode=mode)
    own = processor.image_processor
    # Left half black, right half white, twice as wide as high.
    image = picture(32, 64)
    image.paste((0, 0, 0), (0, 0, 32, 32))
    image.paste((255, 255, 255), (32, 0, 64, 32))
    pixels = own([image], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, SIDE, SIDE)
    mean, std = torch.tensor(own.image_mean)[:, None, None], torch.tensor(own.image_std)[:, None, None]
    colours = (pixels[0] * std + mean) * 255
    if mode == "pad":  # bars above and below, of the mean colour
        assert torch.allclose(colours[:, 8, 8], (mean * 255).floor().squeeze(), atol=1e-2)
        assert colours[:, 32, 8].max() < 1 and colours[:, 32, 56].min() > 254
    else:
        assert colours[:, 2, 2].max() < 1 and colours[:, 2, -3].min() > 254
    expected = image_processor()([image], return_tensors="pt")["pixel_values"]
    assert torch.equal(pixels, expected) == (mode == "crop")


def test_features_are_logged(caplog):
    with caplog.at_level(logging.INFO, logger="hf_clip_kd.vlm.build"):
        build(timm_tower("convnext"))
    (line,) = [record.getMessage() for record in caplog.records]
    assert "convnext_atto" in line and "16 tokens per image" in line
    assert all(math.isfinite(float(line.split(word)[1].split(",")[0])) for word in (" mean ", " std ", " largest "))


@pytest.mark.parametrize(
    ("family", "arguments", "message"),
    [
        ("vit", {"vision_feature_layer": 0}, "vision_feature_layer=0 names no layer.*-2"),
        ("vit", {"vision_feature_layer": []}, "names no layer"),
        ("vit", {"vision_feature_layer": -3}, r"cannot give layer \[-3\].*vision_feature_layer"),
        ("vit", {"vision_feature_layer": [-2, 9]}, r"cannot give layer \[-2, 9\]"),
        ("vit", {"image_mode": "squash"}, "image_mode='squash' is unknown. Allowed are square, pad, crop"),
        ("vit", {"image_processor": image_processor(48)}, "48x48 pixels"),
        ("vit", {"image_processor": None}, "image_processor is None.*processor.image_processor"),
        ("vit", {"chat_template": "phi3"}, r"<\|end\|>.*no token of this tokenizer.*vicuna"),
        ("vit", {"chat_template": "nonsense"}, "no chat template 'nonsense'"),
    ],
)
def test_bad_arguments(family, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(timm_tower(family), **arguments)


def test_language_model_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="tokenizer is None.*tokenizer=tokenizer"):
        build_llava(timm_tower(), language_model()[0], image_processor=image_processor())
    with pytest.raises(ValueError, match="cannot be loaded .*causal language model"):
        build_llava(timm_tower(), str(tmp_path), image_processor=image_processor())


def test_language_model_from_a_folder(tmp_path):
    causal, tokenizer = language_model()
    causal.to(torch.bfloat16).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, _ = build_llava("shapes-vit-t", tmp_path)
    assert model.dtype == model.lm_head.weight.dtype == model.model.vision_tower.dtype == torch.float32
    assert torch.equal(model.lm_head.weight[: causal.config.vocab_size], causal.lm_head.weight.float())
    model, processor = build_llava("shapes-vit-t", tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
