"""Made-up packages in the layout of those that hold the pictures, with a few files each."""

import io
import struct
import sys
import zlib
from types import SimpleNamespace

import numpy as np
from fontTools.fontBuilder import FontBuilder
from fontTools.ttLib import newTable
from fontTools.ttLib.tables.BitmapGlyphMetrics import SmallGlyphMetrics
from fontTools.ttLib.tables.C_B_D_T_ import cbdt_bitmap_format_17
from fontTools.ttLib.tables.E_B_L_C_ import BitmapSizeTable, SbitLineMetrics, Strike, eblc_index_sub_table_1
from PIL import Image

from hf_clip_kd.data.pictures.packages import DEBIAN, NPM

LINE_METRICS = """ascender descender widthMax caretSlopeNumerator caretSlopeDenominator caretOffset minOriginSB
minAdvanceSB maxBeforeBL minAfterBL pad1 pad2"""
COLUMNS = "emoji,hexcode,group,subgroups,annotation,tags,skintone"
CAT = '🐈,1F408,animals-nature,animal-mammal,cat,"animal, cat, pet",'
GERMANY = "🇩🇪,1F1E9-1F1EA,flags,country-flag,flag: Germany,DE,"
HEART = '❤️,2764-FE0F,smileys-emotion,heart,red heart,"emotion, red heart",'
WAVE = "👋🏻,1F44B-1F3FB,people-body,hand-fingers-open,waving hand,hello,1"
EXTRA = "🛠,E000,extras-openmoji,brand,brand of tools,,"
NAMES = "\n".join([COLUMNS, CAT, GERMANY, HEART, WAVE, EXTRA, ""])
SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns:cc="http://web.resource.org/cc/" xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><rdf:RDF><cc:Work>
<dc:title>{title}</dc:title><dc:creator><cc:Agent><dc:title>{author}</dc:title></cc:Agent></dc:creator>
<dc:subject><rdf:Bag>{keywords}</rdf:Bag></dc:subject><cc:license rdf:resource="{licence}"/>
</cc:Work></rdf:RDF></metadata></svg>"""
PUBLIC = "http://web.resource.org/cc/PublicDomain"


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def drawing(color="red", size=(8, 6), mode="RGB", kind="PNG"):
    """Return a picture file of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, color).convert(mode).save(file, kind, lossless=True)
    return file.getvalue()


def photograph(seed=0):
    """Return a PNG in which hardly any two pixels are equal."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def svg(title="", author="", keywords=(), licence=PUBLIC):
    """Return an SVG with the metadata of openclipart."""
    words = "".join(f"<rdf:li>{word}</rdf:li>" for word in keywords)
    return SVG.format(title=title, author=author, keywords=words, licence=licence)


def qt_resources(files, version=3, compressed=()):
    """Return a Qt resource file with `files`, a dict of path to content; the paths `compressed` are packed."""
    nodes, children = [""], {}
    for path in nodes:  # The list grows: children of a folder stand in a row.
        if path not in files:
            start = f"{path}/" if path else ""
            inside = sorted({start + other[len(start) :].split("/")[0] for other in files if other.startswith(start)})
            children[path] = (len(inside), len(nodes))
            nodes += inside
    tree, contents, names = b"", b"", b""
    for path in nodes:
        name = path.rpartition("/")[2]
        tree += struct.pack(">I", len(names))
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
        if path in children:
            tree += struct.pack(">HII", 2, *children[path])
        else:
            content = files[path]
            if path in compressed:
                content = struct.pack(">I", len(content)) + zlib.compress(content)
            tree += struct.pack(">HHHI", int(path in compressed), 0, 0, len(contents))
            contents += struct.pack(">I", len(content)) + content
        tree += b"" if version == 1 else bytes(8)
    head = 20 if version < 3 else 24
    offsets = (head, head + len(tree), head + len(tree) + len(contents))
    return b"qres" + struct.pack(">4I", version, *offsets) + bytes(head - 20) + tree + contents + names


def font(characters, ligatures, bitmaps):
    """Return a font: code point to glyph, glyphs to their ligature, and glyph to its PNG."""
    glyphs = dict.fromkeys([".notdef", *characters.values(), *ligatures.values()])
    names = [*(name for name in glyphs if name not in bitmaps), *bitmaps]
    builder = FontBuilder(1024, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap(characters)
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1024, 0)))
    builder.setupHorizontalHeader()
    builder.setupNameTable({"familyName": "Emoji"})
    builder.setupOS2()
    builder.setupPost()
    rules = "".join(f"sub {' '.join(parts)} by {whole};" for parts, whole in ligatures.items())
    builder.addOpenTypeFeatures(f"feature ccmp {{ {rules} }} ccmp;")
    size, strike = BitmapSizeTable(), Strike()
    size.hori, size.vert = SbitLineMetrics(), SbitLineMetrics()
    for metrics in (size.hori, size.vert):
        vars(metrics).update(dict.fromkeys(LINE_METRICS.split(), 0))
    vars(size).update(colorRef=0, startGlyphIndex=0, endGlyphIndex=0, ppemX=109, ppemY=109, bitDepth=32, flags=1)
    table = eblc_index_sub_table_1(b"", builder.font)
    table.names, table.indexFormat, table.imageFormat = list(bitmaps), 1, 17
    strike.bitmapSizeTable, strike.indexSubTables = size, [table]
    data = {}
    for name, png in bitmaps.items():
        data[name] = cbdt_bitmap_format_17(b"", builder.font)
        data[name].metrics, data[name].imageData = SmallGlyphMetrics(), png
        vars(data[name].metrics).update(height=1, width=1, BearingX=0, BearingY=0, Advance=1)
    for tag, content in (("CBLC", {"strikes": [strike]}), ("CBDT", {"strikeData": [data]})):
        builder.font[tag] = newTable(tag)
        vars(builder.font[tag]).update(version=3.0, **content)
    file = io.BytesIO()
    builder.save(file)
    return file.getvalue()


def draw_with_stub(monkeypatch):
    """Paint each SVG in one colour of its own: the library for SVG is optional."""

    def svg_to_bytes(svg_path, width):
        return drawing((len(svg_path) % 256, width, 0), (width, width))

    monkeypatch.setitem(sys.modules, "resvg_py", SimpleNamespace(svg_to_bytes=svg_to_bytes, __spec__=object()))


def write_packages(folder):
    """Write all packages, and return the folder of each by its name."""
    found = {name: folder / name for name in (*DEBIAN, *NPM)}
    share = {name: folder / name / "usr/share" for name in DEBIAN}
    for stem, facts in {
        "animals/owl_ann_lee_01": {"title": "Big owl", "author": "Ann Lee", "keywords": ("bird", "owl")},
        "food/apple": {"title": "Apple"},
        "shapes/stars/gramastar_1": {"title": "gramastar"},
    }.items():
        put(share["openclipart-svg"] / f"openclipart/svg/{stem}.svg", svg(**facts))
        put(share["openclipart-png"] / f"openclipart/png/{stem}.png", drawing("blue", (30, len(stem))))
    stamps = share["tuxpaint-stamps-default"] / "tuxpaint/stamps"
    for stem, caption, content in (
        ("animals/birds/tit", "A blue tit.", photograph()),
        ("town/roadsigns/stop", "The stop sign.", drawing()),
        ("symbols/alphabets/a", "The letter a.", drawing()),
    ):
        put(stamps / f"{stem}.png", content)
        put(stamps / f"{stem}.txt", f"{caption}\nfr.utf8=Non.\n")
    activities = "gcompris/src/activities"
    for archive, inside in {
        "categorization": "images/tools/hammer1.webp",
        "explore_farm_animals": "animals/cow.webp",
        "explore_monuments": "france/eiffelTower.webp",
        "explore_world_animals": "animals/polar_bear.webp",
        "lang": "words_sample/lemon.webp",
    }.items():
        files = {
            f"{activities}/{archive}/resource/{inside}": drawing("green", (9, len(archive)), kind="WEBP"),
            f"{activities}/{archive}/resource/images/numbers/one.webp": drawing(),
            f"{activities}/{archive}/resource/README": b"Of whom?",
        }
        put(share["gcompris-qt-data"] / f"gcompris-qt/rcc/{archive}.rcc", qt_resources(files))
    characters = {0x1F408: "cat", 0x1F1E9: "d", 0x1F1EA: "e", 0x2764: "heart"}
    bitmaps = {"cat": drawing("yellow"), "germany": drawing("gold")}
    noto = share["fonts-noto-color-emoji"] / "fonts/truetype/noto/NotoColorEmoji.ttf"
    put(noto, font(characters, {("d", "e"): "germany"}, bitmaps))
    put(found["openmoji"] / "data/openmoji.csv", NAMES)
    put(found["openmoji"] / "color/svg/1F408.svg", "<svg/>")
    put(found["fluentui-emoji"] / "icons/flat/red-heart.svg", "<svg/>")
    for code in ("1f408", "2764"):
        put(found["emoji-datasource-twitter"] / f"img/twitter/64/{code}.png", drawing("brown", (4, len(code))))
    return found
