"""Versions of formats: earlier ones are read, later ones and nonsense are refused in a sentence."""

import pytest

from hf_clip_kd.recipe_io.foreign import ForeignFileError
from hf_clip_kd.recipe_io.format_version import CURRENT, NAME, check_version, stamped


@pytest.mark.parametrize("kind", CURRENT)
def test_known_versions_are_read_and_others_refused(kind):
    check_version({}, "a.json", kind)
    check_version(stamped({"a": 1}, kind), "a.json", kind)
    for version in (CURRENT[kind] + 1, 0, -1, None, "2", [2], 1.5):
        with pytest.raises(
            ForeignFileError, match=f"a.json: it is a {kind} of the format version .*Install the version"
        ):
            check_version({NAME: version}, "a.json", kind)
