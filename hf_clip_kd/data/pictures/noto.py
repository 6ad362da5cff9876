"""Bitmaps of the font Noto Color Emoji."""

from __future__ import annotations

from pathlib import Path

from ...recipe_io.foreign import ForeignFileError

_EMOJI_STYLE = 0xFE0F


class NotoBitmaps:
    """
    PNGs of emoji in a font with the tables CBDT and GSUB.

    Args:
        path (`Path`): Font. The package fonttools reads it.

    Raises:
        ForeignFileError: if the file is missing, or is no such font.
    """

    def __init__(self, path: Path):
        from fontTools.ttLib import TTFont, TTLibError  # An optional dependency.

        try:
            font = TTFont(path)
            self.glyphs = font.getBestCmap()
            self.bitmaps = font["CBDT"].strikeData[0]
            lookups = font["GSUB"].table.LookupList.Lookup
        except (OSError, KeyError, TTLibError) as error:
            form = "It must be the font Noto Color Emoji with the tables CBDT and GSUB."
            fix = "Unpack the package fonts-noto-color-emoji of Debian 12 anew."
            raise ForeignFileError(path, f"it cannot be read ({error!r})", allowed=form, fix=fix) from error
        self.ligatures = {}
        for lookup in lookups:
            for table in lookup.SubTable:
                table = getattr(table, "ExtSubTable", table)
                for first, found in getattr(table, "ligatures", {}).items():
                    self.ligatures |= {(first, *ligature.Component): ligature.LigGlyph for ligature in found}

    def find(self, points: list[int]) -> bytes | None:
        """Return the PNG of an emoji by its code points, or `None` if the font has none."""
        glyphs = tuple(self.glyphs.get(point) for point in points if point != _EMOJI_STYLE)
        glyph = glyphs[0] if len(glyphs) == 1 else self.ligatures.get(glyphs)
        return self.bitmaps[glyph].imageData if glyph in self.bitmaps else None
