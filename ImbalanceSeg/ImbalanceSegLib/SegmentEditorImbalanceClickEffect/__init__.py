"""The effect "Imbalance click" of the Segment Editor, in a folder as the editor wants it."""
