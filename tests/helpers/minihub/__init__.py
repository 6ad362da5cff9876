"""Hub on loopback for the real huggingface_hub client: commits, LFS, downloads, and failures on request.

It approximates the public Hub. Its error texts, its choice of LFS files and its rules for cards are not equal.
Large files use only git-LFS (the client's `HF_HUB_DISABLE_XET=1`), from another host name, like a storage bucket. Set
`HF_ENDPOINT` to its `url` before anything imports huggingface_hub.
"""

from .hub import MiniHub

__all__ = ["MiniHub"]
