"""The 3D Slicer side of ImbalanceSeg: knows MRML and Qt, never loads torch.

The work itself happens in the engine, the package ``imbalanceseg`` that lies beside this one, in a
process of its own.
"""
