import base64
import io
import logging

import numpy as np
import pytest
import torch
from datasets import Dataset
from odd_pictures import encoded, png_bomb
from PIL import Image
from torch.utils.data import DataLoader
from transformers.image_transforms import convert_to_rgb

from hf_clip_kd.data import BrokenImageError, BrokenImages, decode_image
from hf_clip_kd.data.reading import images

RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)


def noise(width, height, mode="RGB"):
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), mode)


def row(data):
    return {"bytes": data, "path": None}


def half_clear(mode):
    """Red on the left; on the right green under full transparency."""
    image = Image.new("RGBA", (8, 4), (*RED, 255))
    image.paste((0, 255, 0, 0), (4, 0, 8, 4))
    if mode == "P":
        # Palette index 1 is the clear one.
        image = Image.new("P", (8, 4), 0)
        image.putpalette([255, 0, 0, 0, 255, 0])
        image.paste(1, (4, 0, 8, 4))
        return encoded(image, transparency=1)
    if mode == "RGB":
        return encoded(image.convert("RGB"), transparency=(0, 255, 0))
    return encoded(image)


def grey16(values):
    return encoded(Image.fromarray(np.asarray(values, dtype=np.uint16)))


def animated(format):
    first, second = Image.new("RGB", (6, 6), RED), Image.new("RGB", (6, 6), (0, 0, 255))
    return encoded(
        first, format, save_all=True, append_images=[second], **({"lossless": True} if format == "WEBP" else {})
    )


@pytest.mark.parametrize(
    "data, left, right",
    [
        (half_clear("RGBA"), RED, WHITE),
        (half_clear("P"), RED, WHITE),
        (half_clear("RGB"), RED, WHITE),
        (encoded(Image.new("LA", (8, 4), (0, 0))), WHITE, WHITE),
        (encoded(Image.new("1", (8, 4), 1)), WHITE, WHITE),
        (encoded(Image.new("L", (8, 4), 7)), (7, 7, 7), (7, 7, 7)),
        (encoded(Image.new("RGB", (1, 1), RED)), RED, RED),
        (animated("GIF"), RED, RED),
        (animated("PNG"), RED, RED),
        (animated("WEBP"), RED, RED),
        (grey16([[0, 65535]]), BLACK, WHITE),
        (grey16([[257 * 3, 257 * 200]]), (3, 3, 3), (200, 200, 200)),
        (encoded(Image.fromarray(np.array([[0, 65535]], dtype=np.int32)), "TIFF"), BLACK, WHITE),
        (encoded(Image.fromarray(np.array([[0, 200]], dtype=np.int32)), "TIFF"), BLACK, (200, 200, 200)),
        (encoded(Image.fromarray(np.array([[0, 1]], dtype=np.float32)), "TIFF"), BLACK, WHITE),
    ],
    ids="rgba palette key-colour la bilevel grey one-pixel gif apng webp 16-bit 16-bit-mid 32-bit 32-bit-low "
    "float".split(),
)
def test_odd_images_come_out_as_rgb(data, left, right):
    image = decode_image(row(data))
    assert image.mode == "RGB"
    assert image.getpixel((0, 0)) == left
    assert image.getpixel((image.width - 1, 0)) == right


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_no_finite_number_is_told(value):
    pixels = np.array([[value, 255], [0.2, value]], dtype=np.float32)
    for data in (row(encoded(Image.fromarray(pixels), "TIFF")), pixels):
        with pytest.raises(BrokenImageError, match="^2 of 4 pixels are no finite numbers$"):
            decode_image(data)


@pytest.mark.parametrize("mode", ["RGBA", "P", "RGB"])
def test_transparency_is_that_of_transformers(mode):
    data = half_clear(mode)
    expected = convert_to_rgb(Image.open(io.BytesIO(data)), return_numpy=True)
    assert np.array_equal(np.asarray(decode_image(row(data))), expected)


def test_cmyk_jpeg_keeps_its_colours():
    image = decode_image(row(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")))
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - RED).max() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    upright = Image.new("RGB", (32, 16), BLACK)
    upright.paste(WHITE, (0, 0, 8, 8))  # one white corner, top left
    back = [None, None, 0, 3, 1, 5, 2, 6, 4][orientation]  # the transposition that exif_transpose undoes
    stored = upright if back is None else upright.transpose(Image.Transpose(back))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode_image(row(encoded(stored, "JPEG", exif=exif, quality=95)))
    assert image.size == (32, 16)
    assert image.getpixel((2, 2))[0] > 200 and image.getpixel((29, 2))[0] < 50 and image.getpixel((2, 13))[0] < 50


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_does_not_break_the_picture():
    data = encoded(Image.new("RGB", (16, 16), RED), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert decode_image(row(data)).size == (16, 16)


@pytest.mark.parametrize(
    "value, reason",
    [
        (None, "no image"),
        ({"bytes": None, "path": None}, "no image"),
        ({"bytes": b"", "path": None}, "cannot identify"),
        ({"bytes": b"<html>404</html>", "path": None}, "cannot identify"),
        ({"bytes": encoded(noise(64, 64), "JPEG")[:-900], "path": None}, "truncated"),
        ({"bytes": encoded(noise(64, 64))[:5000], "path": None}, "truncated"),
        ({"bytes": None, "path": "/nowhere/cat.jpg"}, "No such file"),
        ("/nowhere/cat.jpg", "No such file"),
        ({"bytes": png_bomb(30_000, 30_000), "path": None}, "DecompressionBomb"),
        ({"bytes": png_bomb(8_500, 8_500), "path": None}, "more than 67,108,864"),
        ({"bytes": encoded(Image.new("L", (1, 5000))), "path": None}, "differ by more than 100"),
        (3.5, "float"),
    ],
)
def test_broken_images_say_why(value, reason):
    with pytest.raises(BrokenImageError, match=reason):
        decode_image(value)


def test_accepts_pictures_bytes_and_paths(tmp_path):
    picture = noise(9, 7)
    picture.save(tmp_path / "a.png")
    for value in (picture, encoded(picture), tmp_path / "a.png", str(tmp_path / "a.png"), row(encoded(picture))):
        assert np.array_equal(np.asarray(decode_image(value)), np.asarray(picture))


def test_files_inside_archives(tmp_path):
    import zipfile

    picture = noise(9, 7)
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        archive.writestr("a.png", encoded(picture))
    value = {"bytes": None, "path": f"zip://a.png::{tmp_path / 'pictures.zip'}"}
    assert np.array_equal(np.asarray(decode_image(value)), np.asarray(picture))


def test_large_jpegs_are_decoded_small():
    data = encoded(Image.linear_gradient("L").resize((1600, 1200)).convert("RGB"), "JPEG", quality=95)
    small = decode_image(row(data), min_side=150)
    assert small.size == (200, 150)
    full = decode_image(row(data)).resize((200, 150), Image.Resampling.BOX)
    assert np.abs(np.asarray(small).astype(int) - np.asarray(full)).max() <= 3


def test_a_jpeg_over_the_limit_is_halved(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 1000 * 1000)
    assert decode_image(row(encoded(Image.new("RGB", (1600, 1200)), "JPEG"))).size == (800, 600)
    with pytest.raises(BrokenImageError, match="more than"):
        decode_image(row(encoded(Image.new("RGB", (1600, 1200)))))


def test_the_picture_of_the_caller_is_left_alone():
    picture = Image.open(io.BytesIO(encoded(noise(640, 480), "JPEG")))
    decode_image(picture, min_side=32)
    assert picture.size == (640, 480)


def test_counter_stops_above_the_share_and_not_before_it_has_seen_enough():
    counter = BrokenImages(0.1, min_seen=20)
    counter.add(10, [("a.jpg", "cut")] * 5)
    counter.add(10, [])
    assert (counter.seen, counter.broken, str(counter)) == (20, 5, "5 of 20 rows skipped as broken")
    with pytest.raises(ValueError, match=r"6 of the first 30 rows.*b\.jpg \(empty\).*max_broken_fraction=0\.1"):
        counter.add(10, [("b.jpg", "empty")])


def test_the_end_of_a_run_judges_any_number_of_rows():
    few = BrokenImages(0.05)
    few.check()  # a resumed run may have nothing left to read
    few.add(6, [("a.jpg", "cut")] * 3)
    with pytest.raises(ValueError, match=r"3 of 6 rows are broken, among them a\.jpg \(cut\).*--max_broken_fraction"):
        few.check()
    few.add(2, [])
    few.check()  # a user's few pictures, some of which cannot be read: all are named
    few.add(40, [("b.jpg", "cut")] * 3)
    with pytest.raises(ValueError, match="6 of 48 rows are broken"):
        few.check()  # a share of 0.05 is 5 of 100 rows
    few.add(72, [])
    few.check()
    strict = BrokenImages(0.0)
    strict.add(8, [("a.jpg", "cut")])
    with pytest.raises(ValueError, match="1 of 8 rows are broken"):
        strict.check()
    half = BrokenImages(0.5)
    half.add(8, [("a.jpg", "cut")] * 4)
    half.check()
    patient = BrokenImages(1.0)
    patient.add(200, [(f"{i}.jpg", "cut") for i in range(200)])
    with pytest.raises(ValueError, match="200 of 200 rows are broken.*one row must be usable"):
        patient.check()
    patient.add(1, [])
    patient.check()


def test_counter_names_each_file_once_and_not_without_end(caplog):
    counter = BrokenImages(1.0)
    with caplog.at_level(logging.WARNING):
        for i in range(150):
            counter.add(2, [(f"{i}.jpg", "cut")])
            counter.add(2, [(f"{i}.jpg", "cut")])
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 101 and lines[0] == "Skipped a broken row: 0.jpg (cut)" and "More than 100" in lines[-1]
    assert counter.broken == 300


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_counter_wants_a_share(share):
    with pytest.raises(ValueError, match=r"max_broken_fraction=.* is not a share.*Pass"):
        BrokenImages(share)


class Counting:
    def __init__(self):
        self.broken = BrokenImages(1.0)

    def __call__(self, rows):
        self.broken.add(len(rows), [(str(r["i"]), "odd") for r in rows if r["i"] % 2])
        return torch.zeros(1)


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_counts_of_workers_reach_the_main_process(method):
    collate = Counting()
    dataset = Dataset.from_dict({"i": list(range(40))})
    loader = DataLoader(dataset, batch_size=5, collate_fn=collate, num_workers=2, multiprocessing_context=method)
    assert len(list(loader)) == 8
    assert (collate.broken.seen, collate.broken.broken) == (40, 20)


def test_pictures_in_text_are_read_and_named_in_short():
    """A user's own rows come to the collator as they are."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    coded = base64.b64encode(buffer.getvalue()).decode()
    assert decode_image(f"data:image/png;base64,{coded}").getpixel((0, 0)) == (255, 0, 0)
    with pytest.raises(BrokenImageError, match=r"damaged base64.*\(\d+ characters\)$") as info:
        decode_image(f"data:image/png;base64,{coded[:-3]}")
    assert len(str(info.value)) < 300
    assert images.image_name({"image": "A" * 5000}) == "A" * 60 + "... (5,000 characters)"
    assert images.image_name({"image": "/data/" + "a" * 200}) == "/data/" + "a" * 200


@pytest.mark.parametrize("header", [b"P6 5 4 255\n", b"P6\n5 4\n255\n", b"P6 # a comment\n5 4 255\n", b"P6 5 4 100\n"])
def test_a_ppm_reads_as_pillow_reads_it(header):
    data = header + bytes(range(60))
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image)
    for value in (data, {"bytes": data, "path": "a.ppm"}):
        image = decode_image(value)
        assert image.mode == "RGB" and image.size == (5, 4) and np.array_equal(image, expected)


def test_a_ppm_that_is_cut_short_or_too_narrow_is_broken():
    for data in (b"P6 5 4 255\n" + bytes(59), b"P6 1 200 255\n" + bytes(600), b"P6 0 4 255\n"):
        with pytest.raises(BrokenImageError):
            decode_image(data)
