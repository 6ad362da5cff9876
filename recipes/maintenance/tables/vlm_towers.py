"""Vision towers that come out of vision-language models: which were tried as teachers, with random weights."""

from dataclasses import dataclass

from .markdown import render

HEADER = ("tower", "of", "tokens before the patches", "tokens for a student")
# Reasons for which a tower has no tokens for a student.
PATCHES = "no: it reads packed patches and their grid, not an image"
TIMM = "no: it is a model of timm inside. Take that: `timm:NAME`"
MAPS = "no: its outputs are maps. Write `timm:NAME` for a convnet"


@dataclass(frozen=True)
class Tower:
    """
    A tower that was tried.

    Args:
        name (`str`): Class of transformers, or `timm:NAME`.
        of (`str`): Models that have it.
        prefix (`int`, *optional*): Tokens before the patches, `None` if a teacher cannot give its tokens.
        why (`str`, *optional*): The reason, if it cannot.
    """

    name: str
    of: str
    prefix: int | None
    why: str = ""


TOWERS = (
    Tower("CLIPVisionModel", "LLaVA, LLaVA-NeXT, VipLLaVA", 1),
    Tower("SiglipVisionModel", "PaliGemma, Gemma 3, LLaVA-OneVision, DeepSeek-VL, Aya Vision", 0),
    Tower("Aimv2VisionModel", "AIMv2", 0),
    Tower("MLCDVisionModel", "vision models of MLCD", 1),
    Tower("InternVLVisionModel", "InternVL", 1),
    Tower("Idefics2VisionTransformer", "Idefics2", 0),
    Tower("Idefics3VisionTransformer", "Idefics3, Aria", 0),
    Tower("SmolVLMVisionTransformer", "SmolVLM", 0),
    Tower("PixtralVisionModel", "Pixtral, Mistral 3, LightOnOCR", 0),
    Tower("Ovis2VisionModel", "Ovis2", 0),
    Tower("JanusVisionModel", "Janus", 0),
    Tower("Kosmos2VisionModel", "Kosmos-2", 1),
    Tower("BlipVisionModel", "BLIP", 1),
    Tower("Blip2VisionModel", "BLIP-2", 1),
    Tower("GitVisionModel", "GIT", 1),
    Tower("Phi4MultimodalVisionModel", "Phi-4-multimodal", 0),
    Tower("RadioModel", "C-RADIO, Nemotron-H-Omni", 10),
    Tower("Llama4VisionModel", "Llama 4", None, "no: its class token stands behind the patches"),
    Tower("MllamaVisionModel", "Llama 3.2 Vision", None, "no: it reads tiles and their shape, not an image"),
    Tower("Siglip2VisionModel", "LFM2-VL", None, PATCHES),
    Tower("Qwen2VisionTransformerPretrainedModel", "Qwen2-VL", None, PATCHES),
    Tower("Qwen2_5_VisionTransformerPretrainedModel", "Qwen2.5-VL", None, PATCHES),
    Tower("Qwen3VLVisionModel", "Qwen3-VL", None, f"{PATCHES}. Take `timm:qwen3_vit_*`"),
    Tower("Glm4vVisionModel", "GLM-4V", None, PATCHES),
    Tower("TimmWrapperModel", "FastVLM, PerceptionLM, Gemma 3n", None, TIMM),
    Tower("GotOcr2VisionEncoder", "GOT-OCR2", None, MAPS),
    Tower("timm:vit_pe_lang_large_patch14_448", "Perception Encoder, lifted: PLM", 1),
    Tower("timm:vit_pe_spatial_tiny_patch16_512", "Perception Encoder, for dense tasks", 1),
    Tower("timm:vit_so400m_patch14_siglip_224", "SigLIP: PaliGemma and others", 0),
    Tower("timm:aimv2_large_patch14_224", "AIMv2", 0),
    Tower("timm:vit_intern300m_patch14_448", "InternVL", 1),
    Tower("timm:vit_base_patch16_radio_v3", "C-RADIOv3", 8),
    Tower("timm:qwen3_vit_88m", "Qwen3.5, Qwen3-VL", 0),
    Tower("timm:gemma4_vit_167m", "Gemma 4", 0),
    Tower("timm:fastvit_mci3", "FastVLM", 0),
)


def table() -> str:
    """Return the table, those that work first."""
    rows = sorted(TOWERS, key=lambda tower: tower.prefix is None)
    return render(
        HEADER,
        [(f"`{row.name}`", row.of, "–" if row.prefix is None else str(row.prefix), row.why or "yes") for row in rows],
        right=HEADER[2:3],
    )
