"""What a person has painted: finished slices, and corrections of single voxels."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from imbalanceseg.annotation.annotation import Annotation, ConfirmedSlice, Conflict
from imbalanceseg.errors import InputError
from imbalanceseg.labels import UNLABELLED
from ImbalanceSegLib.Logic.InputCheck import whyNotReady
from ImbalanceSegLib.Logic.Workpiece import Workpiece
from ImbalanceSegLib.Scene.AnnotationVolume import AnnotationVolume
from ImbalanceSegLib.Scene.BoxChange import BoxChange
from ImbalanceSegLib.Scene.Boxes import ballAround, confirmedMask, planeAt, slabAt, startOf
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.SlicePlane import sliceShownBy
from ImbalanceSegLib.Scene.SubjectHierarchy import placeInStudyOf
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord

_HIGHEST_LABEL = UNLABELLED - 1


class AnnotationLogic:
    """Keeps what was painted beside the segments it was painted in.

    "Not painted" is background in a finished slice only. Everywhere else a voxel says something
    where a person has changed what the engine said.
    """

    def confirmSlice(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        axis: int,
        index: int,
    ) -> Conflict | None:
        """Say that a slice is finished, as the own segments are in it now.

        Args:
            volumeNode: that was segmented.
            segmentationNode: that was painted in.
            axis: index axis of the volume that the slice is normal to: 0 i, 1 j, 2 k.
            index: along it, from 0.

        Returns:
            What other slices and clicks had said otherwise; None where they agree.

        Raises:
            ValueError: there is no such slice, or the nodes cannot be used.
        """
        piece = _pieceOf(volumeNode, segmentationNode)
        if not (piece.segmentIDs or piece.record.segments):
            raise ValueError(
                _(
                    "No segment of '{segmentation}' is one that the engine learns. Segment the "
                    "volume, or let a segment of your own be learned."
                ).format(segmentation=segmentationNode.GetName())
            )
        holder, annotation = self._opened(piece)
        plane = _planeOf(annotation, axis, index)
        _forgetPlane(annotation, axis, index)
        own = piece.ownLabels(slabAt(axis, index, piece.shape)).reshape(plane.shape)
        conflict = annotation.paint_slice(axis, index, own)
        holder.close(annotation)
        return conflict

    def unconfirmSlice(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        axis: int,
        index: int,
        segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
    ) -> None:
        """Take back that a slice is finished; the segments stay as they are.

        Args:
            volumeNode: that was segmented.
            axis: as in :meth:`confirmSlice`.
            index: along it.
            segmentationNode: that was painted in; None for the one that was painted in last.

        Raises:
            ValueError: there is no such slice.
        """
        holder, annotation = self._openedOf(volumeNode, segmentationNode)
        _planeOf(annotation, axis, index)
        if ConfirmedSlice(axis, index) in annotation.confirmed:
            _forgetPlane(annotation, axis, index)
            holder.close(annotation)

    def confirmedSlices(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
    ) -> list[ConfirmedSlice]:
        """The finished slices, in the order they were finished.

        Args:
            volumeNode: that was segmented.
            segmentationNode: that was painted in; None for the one that was painted in last.
        """
        holder = AnnotationVolume.findOf(volumeNode, segmentationNode)
        if holder is None:
            return []
        if segmentationNode is not None and not holder.means(_knownSegments(segmentationNode)):
            return []
        return _confirmedIn(holder)

    def sliceOfView(
        self, sliceNode: slicer.vtkMRMLSliceNode, volumeNode: slicer.vtkMRMLScalarVolumeNode
    ) -> tuple[int, int]:
        """The slice of a volume that a view shows, as axis and index.

        Raises:
            ValueError: the view is turned against the volume, or shows nothing of it.
        """
        return sliceShownBy(sliceNode, volumeNode)

    def beginFromScratch(
        self, volumeNode: slicer.vtkMRMLScalarVolumeNode
    ) -> slicer.vtkMRMLSegmentationNode:
        """Make a segmentation to teach the engine with by painting alone.

        It has one empty segment. All segments that are added to it are learned.

        Args:
            volumeNode: to paint on.

        Raises:
            ValueError: the volume cannot be used.
        """
        if problem := whyNotReady(volumeNode, None):
            raise ValueError(problem)
        node = slicer.mrmlScene.AddNewNodeByClass(
            "vtkMRMLSegmentationNode",
            _("{volume} segmentation").format(volume=volumeNode.GetName()),
        )
        SegmentWriter(node, volumeNode).placeNode()
        placeInStudyOf(volumeNode, node)
        WorkRecord(node).beginFromScratch()
        node.GetSegmentation().AddEmptySegment("", _("Structure"))
        _learnAll(node)
        return node

    def adoptSegment(
        self, segmentationNode: slicer.vtkMRMLSegmentationNode, segmentID: str, label: int
    ) -> None:
        """Let a segment that a person has made count as a class that the engine learns.

        The segment keeps its name, its colour and its voxels; from now on the engine may change
        those. Other segments stay as they are.

        Args:
            segmentationNode: that holds the segment.
            segmentID: of the segment.
            label: of the class, 1 to 254, that no other segment of the segmentation has.

        Raises:
            ValueError: there is no such segment, or the label cannot be used.
        """
        segmentation = segmentationNode.GetSegmentation()
        if segmentation.GetSegment(segmentID) is None:
            raise ValueError(_("There is no segment '{segment}'.").format(segment=segmentID))
        piece = Workpiece(segmentationNode)
        own = piece.segmentIDs
        if not 1 <= label <= _HIGHEST_LABEL or own.get(label, segmentID) != segmentID:
            raise ValueError(
                _("The label {label} cannot be used; give one from 1 to 254 that is free.").format(
                    label=label
                )
            )
        others = {value: name for value, name in own.items() if name != segmentID}
        piece.record.segmentIDs = {**piece.record.segmentIDs, **others, label: segmentID}

    def offerSegments(self, segmentationNode: slicer.vtkMRMLSegmentationNode) -> None:
        """Add empty segments for what the model looks for and has not found, to be painted in.

        Raises:
            ValueError: the nodes cannot be used.
        """
        piece = Workpiece(segmentationNode)
        labels = [info.label for info in piece.record.segments]
        SegmentWriter(piece.node, piece.volumeNode).requireSegments(labels)

    def annotationOf(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
    ) -> Annotation:
        """All that a person has said, as the segments are now.

        Finished slices are read anew, because people go on painting in them. Elsewhere it is what
        the own segments have otherwise than the engine said, and what was said before earlier
        adaptations.

        Raises:
            ValueError: the nodes cannot be used.
        """
        piece = _pieceOf(volumeNode, segmentationNode)
        holder, live = self._opened(piece)
        own, engine = piece.ownLabels(), piece.engineLabels()
        for one in live.confirmed:
            live.labels[planeAt(one.axis, one.index)] = own[planeAt(one.axis, one.index)]
        holder.close(live)
        annotation = live.copy()
        loose = own != engine
        loose &= ~confirmedMask(live.confirmed, piece.shape)
        annotation.labels[loose] = own[loose]
        return annotation

    def readPainted(self, segmentationNode: slicer.vtkMRMLSegmentationNode) -> None:
        """Read finished slices anew, before the volume is segmented again.

        Does nothing where nothing is finished, or cannot be read.
        """
        volumeNode = WorkRecord(segmentationNode).volumeNode
        if volumeNode is None or not self.confirmedSlices(volumeNode, segmentationNode):
            return
        self.annotationOf(volumeNode, segmentationNode)

    def keepPainted(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
    ) -> None:
        """Put finished slices back into the own segments, after the volume was segmented anew.

        Happens by itself before anything else is asked of the annotation.

        Raises:
            ValueError: the nodes cannot be used.
        """
        self._holderOf(_pieceOf(volumeNode, segmentationNode))

    def learn(self, piece: Workpiece, annotation: Annotation) -> BoxChange | None:
        """Keep corrections outside finished slices that the engine was taught.

        The engine agrees with them from then on, so that the segments do not tell them any more.

        Returns:
            What has changed of what is kept.
        """
        holder, live = self._opened(piece)
        before = live.labels.copy()
        loose = annotation.known & ~confirmedMask(annotation.confirmed, piece.shape)
        loose &= ~confirmedMask(live.confirmed, piece.shape)
        live.labels[loose] = annotation.labels[loose]
        holder.close(live)
        return BoxChange.between(before, live.labels)

    def click(
        self, piece: Workpiece, pointMm: tuple[float, float, float], label: int, radiusMm: float
    ) -> BoxChange | None:
        """Keep what a click says; arguments as those of the engine, LPS.

        Returns:
            What has changed of what is kept.
        """
        holder, live = self._opened(piece)
        window, _ball = ballAround(live.grid, pointMm, radiusMm)
        before = live.labels[window].copy()
        live.click(pointMm, label, radiusMm)
        holder.close(live)
        return BoxChange.between(before, live.labels[window], startOf(window))

    def takeBack(self, piece: Workpiece, change: BoxChange | None) -> None:
        """Undo a change of what is kept, except where something else was said since."""
        if change is None:
            return
        holder, live = self._opened(piece)
        before, after = change.unpacked()
        box = live.labels[change.window]
        mine = (box == after) & ~confirmedMask(live.confirmed, piece.shape, change.window)
        box[mine] = before[mine]
        holder.close(live)

    def confirmedOf(self, piece: Workpiece) -> list[ConfirmedSlice]:
        """The finished slices of a segmentation."""
        return _confirmedIn(self._holderOf(piece))

    def _openedOf(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode | None,
    ) -> tuple[AnnotationVolume, Annotation]:
        if segmentationNode is not None:
            return self._opened(_pieceOf(volumeNode, segmentationNode))
        holder = AnnotationVolume.ofVolume(volumeNode)
        return holder, _usable(holder)

    def _opened(self, piece: Workpiece) -> tuple[AnnotationVolume, Annotation]:
        """What is kept of a segmentation, to be changed in place."""
        holder = self._holderOf(piece)
        annotation = _usable(holder)
        classes = {info.label for info in piece.record.segments} | set(piece.segmentIDs)
        annotation.classes = tuple(sorted(classes)) or None
        return holder, annotation

    def _holderOf(self, piece: Workpiece) -> AnnotationVolume:
        """Where it is kept; after a new run its finished slices are put back first."""
        holder = AnnotationVolume.ofSegmentation(
            piece.node, piece.volumeNode, _knownSegments(piece.node)
        )
        steps = piece.record.steps
        run = steps[0]["job"] if steps and steps[0]["kind"] == "segment" else ""
        if holder.run != run:
            holder.run = run
            _putBack(piece, _usable(holder))
        return holder


def _pieceOf(
    volumeNode: slicer.vtkMRMLScalarVolumeNode, segmentationNode: slicer.vtkMRMLSegmentationNode
) -> Workpiece:
    piece = Workpiece(segmentationNode)
    _learnAll(segmentationNode)
    if piece.volumeNode is not volumeNode:
        raise ValueError(
            _("The segmentation '{segmentation}' does not belong to the volume '{volume}'.").format(
                segmentation=segmentationNode.GetName(), volume=volumeNode.GetName()
            )
        )
    return piece


def _learnAll(segmentationNode: slicer.vtkMRMLSegmentationNode) -> None:
    """Give every segment of what was begun from scratch a label."""
    record = WorkRecord(segmentationNode)
    if not record.isFromScratch:
        return
    known = record.segmentIDs
    segmentation = segmentationNode.GetSegmentation()
    for number in range(segmentation.GetNumberOfSegments()):
        segmentID = segmentation.GetNthSegmentID(number)
        free = next((n for n in range(1, _HIGHEST_LABEL + 1) if n not in known), None)
        if segmentID not in known.values() and free is not None:
            known[free] = segmentID
    if known != record.segmentIDs:
        record.segmentIDs = known


def _knownSegments(segmentationNode: slicer.vtkMRMLSegmentationNode) -> dict[int, str]:
    """Segments of all labels, also of those that nothing was found of."""
    known = WorkRecord(segmentationNode).segmentIDs
    return {**known, **SegmentWriter.ownSegments(segmentationNode)}


def _confirmedIn(holder: AnnotationVolume) -> list[ConfirmedSlice]:
    try:
        return holder.confirmed
    except InputError as error:
        raise ValueError(f"{error.message} {error.hint}".strip()) from error


def _usable(holder: AnnotationVolume) -> Annotation:
    try:
        return holder.opened()
    except InputError as error:
        raise ValueError(f"{error.message} {error.hint}".strip()) from error


def _planeOf(annotation: Annotation, axis: int, index: int) -> np.ndarray:
    try:
        return annotation.plane(axis, index)
    except InputError as error:
        raise ValueError(f"{error.message} {error.hint}".strip()) from error


def _forgetPlane(annotation: Annotation, axis: int, index: int) -> None:
    """Say nothing in a finished slice any more, except where other finished slices cross it."""
    one = ConfirmedSlice(axis, index)
    if one not in annotation.confirmed:
        return
    annotation.confirmed = [other for other in annotation.confirmed if other != one]
    box = slabAt(axis, index, annotation.labels.shape)
    crossed = confirmedMask(annotation.confirmed, annotation.labels.shape, box)
    annotation.labels[box][~crossed] = UNLABELLED


def _putBack(piece: Workpiece, annotation: Annotation) -> None:
    for one in annotation.confirmed:
        box = slabAt(one.axis, one.index, piece.shape)
        piece.write(piece.ownLabels(box), annotation.labels[box], box)
