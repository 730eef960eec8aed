"""The only thing both halves know: which events exist, how their bytes look, how they are written down."""
