"""The loss `caption`, word by word."""

from dataclasses import replace

import pytest
import torch
from loss_inputs import BATCH, PAIRS, STUDENT, WORDS, build, features

from hf_clip_kd.losses import requested
from hf_clip_kd.losses.answers import Captions
from hf_clip_kd.losses.caption import drawn
from hf_clip_kd.losses.features import CLIPDims, FeatureRequest


def small(**options):
    return build("caption", PAIRS["same width"], **options).double()


def test_is_the_formula():
    loss, student = small(), features(STUDENT, 1, torch.float64)
    expected = []
    for i in range(BATCH):
        ids = student.captions.ids[i][student.captions.mask[i]]
        words = []
        for place in range(1, len(ids)):
            seen = ids[None, :place]
            wanted = torch.zeros_like(seen, dtype=torch.bool)
            wanted[0, -1] = True
            (logits,) = loss.decoder(student.image_tokens[i : i + 1], seen, wanted)
            words.append(-logits.log_softmax(0)[ids[place]])
        expected.append(torch.stack(words).mean())
    torch.testing.assert_close(loss.values(student), torch.stack(expected))
    torch.testing.assert_close(loss(student), torch.stack(expected).mean())


def test_a_share_of_the_captions_is_parallel_in_training_alone():
    loss, plain = small(parallel=0.25), small()
    plain.load_state_dict({key: x for key, x in loss.state_dict().items() if key != "decoder.mask"})
    student = features(STUDENT, 1, torch.float64)
    values, expected = loss.values(student), plain.values(student)
    parallel = drawn(student.captions, 0.25)
    assert 0 < parallel.sum() < BATCH
    assert torch.equal((values - expected).abs() > 1e-9, parallel)
    torch.testing.assert_close(loss.eval().values(student), expected)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.75, 1.0])
def test_captions_are_drawn_by_their_words(share):
    ids = torch.randint(0, 600, (4000, 12), generator=torch.Generator().manual_seed(0))
    captions = Captions(ids, torch.arange(12)[None] < 3 + torch.arange(4000)[:, None] % 9)
    found = drawn(captions, share)
    assert found.float().mean() == pytest.approx(share, abs=0.03)
    padded = Captions(torch.nn.functional.pad(ids, (0, 5), value=7), torch.nn.functional.pad(captions.mask, (0, 5)))
    assert torch.equal(drawn(padded, share), found)
    assert torch.equal(drawn(Captions(ids.flip(0), captions.mask.flip(0)), share), found.flip(0))


def test_long_captions_are_cut():
    loss, student = small(max_length=2), features(STUDENT, 1, torch.float64)
    short = Captions(student.captions.ids[:, :3], student.captions.mask[:, :3])
    torch.testing.assert_close(loss(student), loss(replace(student, captions=short)))


def test_needs_no_teacher_and_asks_for_a_layer():
    assert requested({"caption": {"layer": -1}}) == FeatureRequest(layer=-1)
    assert not build("caption", (STUDENT, None)).needs_teacher


def test_refused():
    with pytest.raises(ValueError, match="vocabulary, whose size is unknown.*vocab_size="):
        build("caption", (CLIPDims(16, token_dim=10), None))
    for parallel in (1.5, "all"):
        with pytest.raises(ValueError, match=rf"parallel={parallel!r} .*from 0 to 1.*'parallel': 0\.75"):
            small(parallel=parallel)
    with pytest.raises(ValueError, match="no `captions`.*Captions.of"):
        small()(replace(features(STUDENT, 1), captions=None))
    assert small().decoder.head.out_features == WORDS
