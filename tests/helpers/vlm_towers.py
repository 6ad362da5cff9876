"""Vision towers of vision-language models in miniature, with random weights: 4 x 4 patches of an image."""

import importlib
import inspect

import torch
from teacher_models import TOWER
from transformers import CLIPImageProcessorPil, PreTrainedConfig

from hf_clip_kd.models import TimmVisionConfig, TimmVisionModel
from hf_clip_kd.models.presets import measure_trunk

GRID = 4
VIT = TOWER | {"image_size": 32, "patch_size": 8}
PACKED = {"depth": 2, "num_heads": 2, "patch_size": 8, "spatial_merge_size": 2, "hidden_size": 32}
SIGLIP2 = TOWER | {"num_patches": 16, "patch_size": 8}
BEIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
# Class of transformers -> (folder of its model, values of its configuration)
OF_TRANSFORMERS = {
    "CLIPVisionModel": ("clip", VIT),
    "SiglipVisionModel": ("siglip", VIT),
    "Aimv2VisionModel": ("aimv2", VIT),
    "MLCDVisionModel": ("mlcd", VIT),
    "InternVLVisionModel": ("internvl", TOWER | {"image_size": [32, 32], "patch_size": [8, 8]}),
    "Idefics2VisionTransformer": ("idefics2", VIT),
    "Idefics3VisionTransformer": ("idefics3", VIT),
    "SmolVLMVisionTransformer": ("smolvlm", VIT),
    "PixtralVisionModel": ("pixtral", VIT),
    "Ovis2VisionModel": ("ovis2", VIT | {"vocab_size": 25}),
    "JanusVisionModel": ("janus", VIT),
    "Kosmos2VisionModel": ("kosmos2", VIT),
    "BlipVisionModel": ("blip", VIT | {"initializer_range": 0.02}),
    "Blip2VisionModel": ("blip_2", VIT | {"initializer_range": 0.02}),
    "GitVisionModel": ("git", VIT),
    "Phi4MultimodalVisionModel": ("phi4_multimodal", VIT | {"crop_size": 32}),
    "RadioModel": ("radio", BEIT | {"image_size": 32, "patch_size": 8, "max_img_size": 32}),
    "Llama4VisionModel": ("llama4", VIT | {"projector_input_dim": 32, "projector_output_dim": 32}),
    "MllamaVisionModel": (
        "mllama",
        {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_global_layers": 1}
        | {"attention_heads": 2, "image_size": 32, "patch_size": 8, "intermediate_layers_indices": [0]},
    ),
    "Siglip2VisionModel": ("siglip2", SIGLIP2),
    "Qwen2VisionTransformerPretrainedModel": ("qwen2_vl", PACKED | {"embed_dim": 32}),
    "Qwen2_5_VisionTransformerPretrainedModel": ("qwen2_5_vl", PACKED | {"out_hidden_size": 32}),
    "Qwen3VLVisionModel": (
        "qwen3_vl",
        PACKED | {"out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
    ),
    "Glm4vVisionModel": ("glm4v", PACKED | {"out_hidden_size": 32, "intermediate_size": 64, "image_size": 32}),
    "TimmWrapperModel": ("timm_wrapper", {"architecture": "test_vit", "do_pooling": True}),
    "GotOcr2VisionEncoder": (
        "got_ocr2",
        BEIT | {"image_size": 32, "patch_size": 8, "output_channels": 16, "mlp_dim": 64, "window_size": 2}
        | {"global_attn_indexes": [1]},
    ),
}  # fmt: skip
THIN = {"embed_dim": 32, "depth": 2, "num_heads": 2}
# Model of timm -> (side of its images in pixels, its arguments)
OF_TIMM = {
    "vit_pe_lang_large_patch14_448": (56, THIN | {"img_size": 56, "ref_feat_shape": (4, 4)}),
    "vit_pe_spatial_tiny_patch16_512": (64, THIN | {"img_size": 64, "ref_feat_shape": (4, 4)}),
    "vit_so400m_patch14_siglip_224": (56, THIN | {"img_size": 56}),
    "aimv2_large_patch14_224": (56, THIN | {"img_size": 56}),
    "vit_intern300m_patch14_448": (56, THIN | {"img_size": 56}),
    "vit_base_patch16_radio_v3": (64, THIN | {"img_size": 64}),
    "qwen3_vit_88m": (64, THIN | {"img_size": 64}),
    "gemma4_vit_167m": (192, THIN | {"img_size": 192}),
    "fastvit_mci3": (256, {"layers": [1] * 5, "embed_dims": [8, 8, 16, 32, 32]}),
}


def build(name):
    """Return a tower of transformers by its class, or of timm as `timm:NAME`, and its image processor."""
    torch.manual_seed(0)
    if name.startswith("timm:"):
        architecture = name.removeprefix("timm:")
        side, arguments = OF_TIMM[architecture]
        config = {"architecture": architecture, "image_size": side, "model_args": arguments}
        tower = TimmVisionModel(TimmVisionConfig(**config, **measure_trunk(TimmVisionConfig(**config), name)))
        return tower.eval(), square(side)
    folder, values = OF_TRANSFORMERS[name]
    module = importlib.import_module(f"transformers.models.{folder}.modeling_{folder}")
    tower_class = getattr(module, name)
    return tower_class(config_of(tower_class, values)).eval(), square(32)


def config_of(tower_class, values):
    """Return a configuration of the class that a tower's `__init__` or the class itself names."""
    hint = inspect.signature(tower_class.__init__).parameters["config"].annotation
    module = importlib.import_module(tower_class.__module__)
    found = getattr(module, hint, None) if isinstance(hint, str) else hint
    config_class = (
        found if inspect.isclass(found) and issubclass(found, PreTrainedConfig) else tower_class.config_class
    )
    return config_class(**values)


def square(side):
    size = {"height": side, "width": side}
    return CLIPImageProcessorPil(size=size, do_center_crop=False)


def pixels_with_a_spot(side, row, column):
    """Two images that differ in a single patch of the grid alone."""
    patch = side // GRID
    plain = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    spot = plain.clone()
    spot[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] += 3
    return torch.cat([plain, spot])
