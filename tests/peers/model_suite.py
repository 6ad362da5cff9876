"""
Run transformers' common model tests on one of our classes, and write what each test gives.

Use: `python tests/peers/model_suite.py SUITE FILE.json`, where transformers' own folder `tests` can be imported. A
process of its own runs them, since they change torch's global state. The folder of ours has the name of theirs.
"""

import importlib
import json
import sys
import types
import unittest
from unittest import mock

import timm
from transformers import set_seed

from hf_clip_kd.models import TimmCLIPConfig, TimmCLIPModel, TimmVisionConfig, TimmVisionModel
from hf_clip_kd.models.presets import measure_trunk

# The source distribution lacks these two files. No model here generates.
LEFT_OUT = {"exporters.test_export": "ExportTesterMixin", "generation.test_utils": "GenerationTesterMixin"}
for name, mixin in LEFT_OUT.items():
    stub = types.ModuleType(f"tests.{name}")
    setattr(stub, mixin, type(mixin, (), {}))
    sys.modules[stub.__name__] = stub

theirs = importlib.import_module("tests.test_modeling_common")

SIDE = 32
TRUNKS = {
    "vit": ("vit_tiny_patch16_224", {"img_size": SIDE, "patch_size": 8, "depth": 2, "embed_dim": 32, "num_heads": 4}),
    "conv": ("test_resnet", None),
    "hybrid": ("mobilevit_xxs", None),
}
TEXT = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
    "projection_dim": 32,
    "bos_token_id": 97,
    "eos_token_id": 98,
    "pad_token_id": 98,
}


class Tester:
    """The model tester that the common tests ask for a configuration and its inputs."""

    batch_size = 3
    seq_length = 7
    is_training = True

    def __init__(self, trunk):
        architecture, model_args = TRUNKS[trunk]
        vision = {"architecture": architecture, "model_args": model_args, "image_size": SIDE}
        self.vision_config = vision | measure_trunk(TimmVisionConfig(**vision), trunk)

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), self.get_inputs()


class TowerTester(Tester):
    def __init__(self, trunk):
        super().__init__(trunk)
        self.num_hidden_layers, self.hidden_size = (
            self.vision_config[name] for name in ("num_hidden_layers", "hidden_size")
        )

    def get_config(self):
        return TimmVisionConfig(**self.vision_config)

    def get_inputs(self):
        return {"pixel_values": theirs.floats_tensor([self.batch_size, 3, SIDE, SIDE])}


class DualEncoderTester(Tester):
    num_hidden_layers, hidden_size = TEXT["num_hidden_layers"], TEXT["hidden_size"]

    def get_config(self):
        return TimmCLIPConfig(vision_config=dict(self.vision_config), text_config=dict(TEXT), projection_dim=32)

    def get_inputs(self):
        shape = [self.batch_size, self.seq_length]
        input_ids = theirs.ids_tensor(shape, TEXT["bos_token_id"])
        input_ids[:, -1] = TEXT["eos_token_id"]
        pixels = theirs.floats_tensor([self.batch_size, 3, SIDE, SIDE])
        return {"input_ids": input_ids, "attention_mask": theirs.random_attention_mask(shape), "pixel_values": pixels}


class Common(theirs.ModelTesterMixin):
    """The common tests, all switched on."""

    test_can_init_all_missing_weights_before_2023 = True
    own_tester, trunk = None, None

    def setUp(self):
        set_seed(0)
        self.model_tester = self.own_tester(self.trunk)

    def test_can_init_all_missing_weights(self):
        # The test seeds each initialisation of transformers. timm draws in the constructor, so it is seeded alike.
        create_model = timm.create_model

        def seeded(*args, **kwargs):
            set_seed(42)
            return create_model(*args, **kwargs)

        with mock.patch.object(timm, "create_model", seeded):
            super().test_can_init_all_missing_weights()


class Tower(Common):
    all_model_classes = (TimmVisionModel,)
    own_tester = TowerTester


class DualEncoder(Common):
    all_model_classes = (TimmCLIPModel,)
    own_tester = DualEncoderTester
    _is_composite = True
    additional_model_inputs = ["pixel_values"]

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        # The pairs of a batch are its labels.
        return super()._prepare_for_class(inputs_dict, model_class) | ({"return_loss": True} if return_labels else {})


SUITES = {
    f"{name}-{trunk}": type(f"{base.__name__}Test", (base, unittest.TestCase), {"trunk": trunk})
    for name, base in {"tower": Tower, "dual_encoder": DualEncoder}.items()
    for trunk in TRUNKS
}


class Outcomes(unittest.TestResult):
    """`found` maps the name of a test to `[passed, failed or skipped, the reason]`."""

    def __init__(self):
        super().__init__()
        self.found = {}

    def note(self, test, outcome, reason=""):
        # A subtest reports before its test. A failure decides.
        name = getattr(test, "test_case", test)._testMethodName
        if outcome == "failed" and self.found.get(name, [""])[0] != "failed":
            self.found[name] = [outcome, reason]
        self.found.setdefault(name, [outcome, reason])

    def addSuccess(self, test):
        self.note(test, "passed")

    def addSkip(self, test, reason):
        self.note(test, "skipped", reason)

    def addFailure(self, test, error):
        self.note(test, "failed", f"{error[0].__name__}: {error[1]}")

    addError = addFailure

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.note(test, "failed", f"{subtest}: {error[0].__name__}: {error[1]}")


def main(suite, path):
    outcomes = Outcomes()
    unittest.defaultTestLoader.loadTestsFromTestCase(SUITES[suite]).run(outcomes)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(outcomes.found, file, indent=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
