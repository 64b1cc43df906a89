"""What decides which buttons of the panel can be pressed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PanelFacts:
    """What decides which buttons of the panel can be pressed.

    Attributes:
        activity: kind of the work that goes on; empty while nothing does.
        sceneIsOpen: whether there is a parameter node.
        segmentProblem: why the volume cannot be segmented; empty when it can.
        hasSegments: whether the selected segmentation holds segments of this module.
        hasViews: whether the application shows slice views.
        isFromScratch: whether no model is chosen, so that painting comes first.
        resultProblem: why the segments cannot be corrected; empty when they can.
        baseProblem: why the engine cannot go on from its result; empty when it can.
        hasHardness: whether the result has a hardness map.
        confirmed: number of finished slices of the volume.
        confirmedSelected: whether one of them is selected in the list.
        undoes: kind of the step that Undo takes back; empty when there is none.
        adapted: whether the model behind the result was adapted.
        exportProblem: why there cannot be a DICOM Segmentation; empty when there can.
        targetProblem: what the export target lacks; empty when nothing.
        findProblem: why the PACS cannot be searched; empty when it can.
        scanSelected: whether a scan of the PACS is selected in the list.
        isServer: whether the engine runs on a server.
        serverProblem: what the address of the server lacks; empty when nothing.
    """

    activity: str = ""
    sceneIsOpen: bool = True
    segmentProblem: str = ""
    hasSegments: bool = False
    hasViews: bool = True
    isFromScratch: bool = False
    resultProblem: str = ""
    baseProblem: str = ""
    hasHardness: bool = False
    confirmed: int = 0
    confirmedSelected: bool = False
    undoes: str = ""
    adapted: bool = False
    exportProblem: str = ""
    targetProblem: str = ""
    findProblem: str = ""
    scanSelected: bool = False
    isServer: bool = False
    serverProblem: str = ""
