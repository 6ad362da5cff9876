"""The caption decoder, against torch's own transformer and by what each place may see."""

from itertools import product

import pytest
import torch
from torch import nn

from hf_clip_kd.losses.parts.decoder import CaptionDecoder, with_prefix

WIDTH, WORDS, TOKENS, LENGTH = 8, 11, 6, 5
IDS = torch.tensor([[1, 4, 5, 6, 2], [1, 7, 3, 9, 2]])
EVERYWHERE = torch.ones(2, LENGTH, dtype=torch.bool)


def make(**options):
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "num_layers": 2, "num_heads": 2, "max_length": LENGTH}
    decoder = CaptionDecoder(3, WORDS, **sizes | options).double()
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    return decoder


def image(seed=1):
    return torch.randn(2, TOKENS, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def torch_attention(own):
    """The same attention with torch's weights."""
    attention = nn.MultiheadAttention(WIDTH, own.num_heads, batch_first=True, dtype=torch.float64)
    attention.in_proj_weight.data = torch.cat([own.query.weight, own.key_value.weight]).detach()
    attention.in_proj_bias.data = torch.cat([own.query.bias, own.key_value.bias]).detach()
    attention.out_proj.load_state_dict(own.out.state_dict())
    return attention


def test_cross_attention_is_that_of_torch():
    decoder = make()
    hidden = decoder.words(IDS) + decoder.places
    memory = decoder.image(decoder.image_norm(image()))
    future = nn.Transformer.generate_square_subsequent_mask(LENGTH, dtype=torch.float64)
    for own in decoder.layers:
        layer = nn.TransformerDecoderLayer(
            WIDTH, 2, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64
        )
        layer.self_attn, layer.multihead_attn = map(torch_attention, (own.self_attention, own.cross_attention))
        layer.linear1.load_state_dict(own.expand.state_dict())
        layer.linear2.load_state_dict(own.reduce.state_dict())
        for norm, its in ((layer.norm1, own.self_norm), (layer.norm2, own.cross_norm), (layer.norm3, own.norm)):
            norm.load_state_dict(its.state_dict())
        hidden = layer(hidden, memory, tgt_mask=future)
    expected = decoder.head(decoder.norm(hidden))
    torch.testing.assert_close(decoder(image(), IDS, EVERYWHERE), expected.flatten(0, 1))


def test_without_layers_it_is_worked_out_by_hand():
    decoder = make()
    decoder.layers = nn.ModuleList()
    with torch.no_grad():
        decoder.words.weight.zero_()
        decoder.places.zero_()
        decoder.head.bias.copy_(torch.arange(WORDS))
        decoder.norm.bias.zero_()
    positions = torch.tensor([[True, False, False, False, True], [False, True, False, False, False]])
    logits = decoder(image(), IDS, positions)
    assert logits.shape == (3, WORDS)
    torch.testing.assert_close(logits, torch.arange(WORDS, dtype=torch.float64).expand(3, -1))


@pytest.mark.parametrize("fusion", ["cross", "prefix"])
def test_a_place_sees_the_image_and_the_words_before(fusion):
    decoder = make(fusion=fusion)
    before = decoder(image(), IDS, EVERYWHERE).unflatten(0, (2, LENGTH))
    other = IDS.clone()
    other[:, 3] = 10
    after = decoder(image(), other, EVERYWHERE).unflatten(0, (2, LENGTH))
    changed = (after - before).abs().amax(dim=(0, 2)) > 1e-9
    assert changed.tolist() == [False, False, False, True, True]
    elsewhere = decoder(image(2), IDS, EVERYWHERE).unflatten(0, (2, LENGTH))
    assert ((elsewhere - before).abs().amax(dim=2) > 1e-9).all()


@pytest.mark.parametrize("fusion", ["cross", "prefix"])
def test_parallel_texts_are_predicted_from_the_image_alone(fusion):
    decoder = make(fusion=fusion, parallel=True)
    parallel = torch.tensor([True, False])
    first, second = (
        decoder(image(), ids, EVERYWHERE, parallel).unflatten(0, (2, LENGTH)) for ids in (IDS, IDS.roll(1, dims=0))
    )
    torch.testing.assert_close(first[0], second[0])
    assert (first[1] - second[1]).abs().max() > 1e-3
    torch.testing.assert_close(first[1], decoder(image(), IDS, EVERYWHERE).unflatten(0, (2, LENGTH))[1])
    # The first place sees the last, through its place alone.
    with torch.no_grad():
        decoder.places[-1].neg_()
    assert (decoder(image(), IDS, EVERYWHERE, parallel)[0] - first[0, 0]).abs().max() > 1e-6


def test_prefix_mask():
    allowed = torch.tensor([[[True, False], [True, True]]])
    assert with_prefix(allowed, 2).int().tolist() == [[[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]]


def test_refused():
    with pytest.raises(ValueError, match="fusion='sum'.*'cross', 'prefix'.*'fusion': 'cross'"):
        make(fusion="sum")
    for name, size in product(("hidden_size", "num_layers", "num_heads", "max_length"), (0, -1, "2", 2.0, True, None)):
        with pytest.raises(ValueError, match=rf"^{name}={size!r} is no size.*integers above 0.*`{name}: \d+`"):
            make(**{name: size})
    with pytest.raises(ValueError, match="hidden_size=8.*no multiple of num_heads=3"):
        make(num_heads=3)
