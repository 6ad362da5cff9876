"""Students on a timm trunk. These files travel to the Hub: they import only their siblings."""
