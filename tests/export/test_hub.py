"""An export in open_clip's format, once on the Hub, loads by its name, and comes back as a checkpoint."""

import open_clip
import torch
from teacher_models import TEXTS, images, tiny_clip

from hf_clip_kd.export import export_model
from hf_clip_kd.export.importing import import_checkpoint
from hf_clip_kd.models import load_clip
from hf_clip_kd.models.towers.tokens import pooled

REPO = "me/student"


def on_hub(hub, tmp_path, formats):
    """A tiny student and its processor, whose export lies on the Hub."""
    model, processor = tiny_clip("gelu")
    model.save_pretrained(tmp_path / "run")
    processor.save_pretrained(tmp_path / "run")
    out = tmp_path / "out"
    export_model(tmp_path / "run", out, formats, repo_id=REPO)
    files = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    hub.seed(REPO, files)
    return model, processor


@torch.no_grad()
def test_open_clip_by_hub_name(hub, tmp_path):
    model, processor = on_hub(hub, tmp_path, ["open_clip"])
    theirs, _, transform = open_clip.create_model_and_transforms(f"hf-hub:{REPO}")
    picture = images(1, (40, 60))[0]
    pixels = processor.image_processor(picture, return_tensors="pt")["pixel_values"]
    assert torch.equal(transform(picture)[None], pixels)
    ids = processor.tokenizer(TEXTS, padding="max_length", max_length=77, return_tensors="pt")["input_ids"]
    assert torch.equal(open_clip.get_tokenizer(f"hf-hub:{REPO}")(TEXTS), ids)
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(theirs.eval().encode_image(pixels), pooled(model.get_image_features(pixels)), **close)
    torch.testing.assert_close(theirs.encode_text(ids), pooled(model.get_text_features(ids)), **close)
    # The export is read back as a checkpoint, by its name.
    state = load_clip(import_checkpoint(REPO, tmp_path / "again", "open_clip"))[0].state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
