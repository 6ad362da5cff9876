"""Parts that every training run needs, whatever it trains."""
