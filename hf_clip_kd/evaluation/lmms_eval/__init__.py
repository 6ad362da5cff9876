"""
Our models in [lmms-eval](https://github.com/EvolvingLMMs-Lab/lmms-eval): `python -m lmms_eval --model hf_clip_kd ...`.

lmms-eval finds [`manifests`] by the entry point `lmms_eval.models` and calls it at its start. That alone imports this
package, which registers our towers, so lmms-eval's own `llava_hf` loads our folders too.
"""


def manifests() -> list:
    """Return the models that lmms-eval offers because this package is installed beside it."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return [
        ModelManifest(model_id="hf_clip_kd", simple_class_path="hf_clip_kd.evaluation.lmms_eval.model.ImageTextToText")
    ]
