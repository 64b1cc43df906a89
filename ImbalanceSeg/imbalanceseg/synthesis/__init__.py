"""Synthetic images with exact labels: anatomy first, appearance second.

:mod:`anatomy` says where structures lie (signed distances), from real label maps or grown from
nothing (:mod:`tree_growth`); :mod:`chest_ct` paints a CT over it; :mod:`airway` joins both.
"""
