"""Students and towers on timm trunks, and towers with fewer tokens.

These files are copied to the Hub, so they import only their siblings.
"""
