"""Students on a timm trunk. These files are copied to the Hub, so they import only their siblings."""
