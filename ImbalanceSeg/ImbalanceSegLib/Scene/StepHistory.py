"""Steps of corrections, so that they can be taken back in turn."""

from __future__ import annotations

import weakref

import slicer

from ImbalanceSegLib.Scene.CorrectionStep import CorrectionStep


class StepHistory:
    """Steps of all segmentations, in memory; the oldest go when there is no room.

    A scene that is closed takes all of them with it.

    Args:
        budgetBytes: for everything that is kept.
    """

    def __init__(self, budgetBytes: int = 256 * 2**20) -> None:
        self._budget = budgetBytes
        self._steps: list[tuple[str, CorrectionStep]] = []
        # The scene outlives this object, and must not keep it.
        own = weakref.ref(self)

        def forget(_caller: object, _event: str) -> None:
            history = own()
            if history is not None:
                history._steps.clear()

        slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, forget)

    def push(self, node: slicer.vtkMRMLSegmentationNode, step: CorrectionStep) -> None:
        """Keep a step of a segmentation."""
        self._steps.append((node.GetID(), step))
        while len(self._steps) > 1 and sum(kept.bytes for _, kept in self._steps) > self._budget:
            self._steps.pop(0)

    def last(self, node: slicer.vtkMRMLSegmentationNode) -> CorrectionStep | None:
        """The newest step of a segmentation; None where there is none."""
        own = [step for nodeID, step in self._steps if nodeID == node.GetID()]
        return own[-1] if own else None

    def drop(self, node: slicer.vtkMRMLSegmentationNode, step: CorrectionStep) -> None:
        """Forget a step."""
        self._steps = [kept for kept in self._steps if kept[1] is not step]

    def clear(self, node: slicer.vtkMRMLSegmentationNode) -> None:
        """Forget the steps of a segmentation."""
        self._steps = [kept for kept in self._steps if kept[0] != node.GetID()]
