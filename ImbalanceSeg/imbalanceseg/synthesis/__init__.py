"""Synthetic images with exact labels: anatomy first, appearance second.

:mod:`anatomy` says where structures lie (signed distances), from real label maps or grown from
nothing (:mod:`tree_growth`); :mod:`chest_ct` paints a CT over it; :mod:`airway` joins both.
:mod:`brain` is the anatomy of a head and :mod:`brain_mr` its MR; :mod:`tumor` and :mod:`lesions`
put disease into it; :mod:`tumor_cases` mixes such heads with real scans that tumours are implanted
into. :mod:`difficulty` is the dial that all phantoms share.
"""
