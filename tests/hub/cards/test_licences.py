"""The licence of a student is the strictest of its sources."""

import pytest

from hf_clip_kd.hub.cards import write_card
from hf_clip_kd.hub.cards.licences import Licence, inherit, known, licence_of, metadata

FREE = Licence("mit", "any", "", "")
NO_SALE = Licence("cc-by-nc-4.0", "non-commercial", "", "")
RESEARCH = Licence("apple-amlr", "research", "", "")


@pytest.mark.parametrize(
    ("found", "own", "licence", "warned"),
    [
        ({"t": FREE, "d": Licence("apache-2.0", "any", "", "")}, None, "mit", []),
        ({"t": FREE}, "apache-2.0", "apache-2.0", []),
        ({"t": FREE, "d": NO_SALE}, None, "cc-by-nc-4.0", ["Because of d (cc-by-nc-4.0)"]),
        ({"t": RESEARCH, "d": NO_SALE}, None, "apple-amlr", ["Because of t", "Because of d"]),
        ({"t": NO_SALE}, "mit", "mit", ["The licence mit gives more than t allows"]),
        ({"t": FREE, "d": None}, None, None, ["of d allows is not known"]),
        ({}, None, None, []),
    ],
)
def test_licence_is_the_strictest_of_its_sources(found, own, licence, warned):
    given, warnings = inherit(found, own)
    assert given == licence and len(warnings) == len(warned)
    assert all(part in warning for part, warning in zip(warned, warnings, strict=True))


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("openai/clip-vit-large-patch14", "mit"),
        ("apple/MobileCLIP-S1-OpenCLIP", "apple-amlr"),
        ("timm:vit_base_patch16_clip_224.metaclip_400m", "cc-by-nc-4.0"),
        ("timm/vit_base_patch16_dinov3.lvd1689m", "dinov3-license"),
        ("shapes", "apache-2.0"),
    ],
)
def test_known_licences(name, licence):
    assert licence_of(name).licence == licence


def test_licences_say_where_they_were_read_and_unknown_is_unknown():
    assert all(entry["names"] and entry["read_in"] and entry["licence"] for entry in known())
    assert licence_of("somebody/something") is None and licence_of("timm/no_such_model.x") is None
    assert metadata("dinov3-license") == {"license": "other", "license_name": "dinov3-license"}


def test_a_licence_that_the_teacher_does_not_allow_is_said_in_card_and_log(run, caplog):
    folder = run(teacher_model_name_or_path="facebook/metaclip-b16-400m", dataset_name="shapes")
    text = write_card(folder, licence="mit").read_text()
    sentence = "The licence mit gives more than facebook/metaclip-b16-400m allows"
    assert f"> **Warning:** {sentence}" in text and sentence in caplog.text
