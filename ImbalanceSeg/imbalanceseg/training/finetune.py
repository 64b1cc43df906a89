"""Teach a model this patient from what was painted.

The rest of the scan follows in three depths of one objective, cross entropy and Dice on the
labelled voxels (Cicek et al., MICCAI 2016), with what the model was sure of kept elsewhere:
``head`` trains a classifier of voxels behind the network, ``decoder`` and ``all`` the network too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import SimpleITK as sitk

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.inference.segmentation import Segmentation
from imbalanceseg.models.bundle import Model
from imbalanceseg.models.write import write_bundle
from imbalanceseg.progress import ProgressCallback, ignore_progress
from imbalanceseg.training.finetune_checks import Depth
from imbalanceseg.training.finetune_clock import TimeBudget
from imbalanceseg.training.finetune_run import Asked, FineTuning


@dataclass(frozen=True)
class Step:
    """A moment of an adaptation.

    Attributes:
        seconds: since it began.
        stage: ``"round 1"``, ``"round 2"``, ... or ``"network"``.
        loss: there.
        held_out_dice: of the slice held out, after the round before; None where none is, or yet.
    """

    seconds: float
    stage: str
    loss: float
    held_out_dice: float | None = None


@dataclass(frozen=True)
class FineTuned:
    """A model that knows one patient.

    Attributes:
        model: the child; :meth:`save` writes it as a bundle. The parent is what it was.
        segmentation: of the scan, by the child; what was painted stands in it as it was painted,
            and :func:`~imbalanceseg.annotation.painted_result.with_annotation` has cleaned it.
        history: losses over time.
    """

    model: Model
    segmentation: Segmentation
    history: list[Step] = field(default_factory=list)

    def save(self, folder: Path) -> Model:
        """Write the child as a bundle of its own, and return that."""
        return write_bundle(folder, self.model.networks, self.model.card)


def finetune(
    image: sitk.Image | Sequence[sitk.Image],
    annotation: Annotation,
    model: Model | str | Path | None = None,
    depth: Depth = "auto",
    seconds: float = 60,
    iterations: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: ProgressCallback | None = None,
    *,
    names: Mapping[int, str] | None = None,
    memory_gb: float | None = None,
    preview: Callable[[Segmentation], None] | None = None,
    enough: Callable[[], bool] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    seconds_used: float = 0.0,
) -> FineTuned:
    """Adapt a model to a patient, or begin one from nothing.

    Args:
        image: the scan, one image a channel.
        annotation: of some of its voxels.
        model: what to start from; None begins from the painted slices alone.
        depth: how much of the network is trained; ``"auto"`` decides by labels and time.
        seconds: wall time for everything, until the segmentation is there. What does not fit any
            more, by what it took before, is not begun.
        iterations: steps a round, instead of what time allows.
        seed: same seed, same machine, same result, as long as time does not end it.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``.
        progress: receives stage ``"finetune"`` with the metrics ``loss`` and, where a slice is
            held out, ``held_out_dice``. Where it raises
            :class:`~imbalanceseg.errors.Cancelled` after the first round, the best so far is kept.
        names: of the classes, where there is no model; their numbers when None.
        memory_gb: that may be taken, in GiB; most of what is free when None.
        preview: receives the segmentation as soon as there is one and whenever there is a newer
            one, as long as that takes at most 15 % of the time.
        enough: asked at every step. Once it says yes, nothing more is begun: training of the
            network ends, the first round is taught to its end, any other is dropped, and the best
            so far is what is returned.
        checkpoint: a file that is kept up to date, with which a killed adaptation can go on; it
            stays when all is done. Its folder must exist.
        resume: go on with what the checkpoint holds. Where steps are counted by ``iterations``, the
            result is the same as without the interruption; the seconds of all runs count.
        seconds_used: of ``seconds``, before this call.

    Raises:
        InputError: the annotation is empty, has classes that the model does not have, or one class
            only where there is no model; the scan or a setting cannot be used; a checkpoint is
            there, is missing, is damaged, or is of another adaptation (``checkpoint-exists``,
            ``checkpoint-missing``, ``checkpoint-damaged``, ``checkpoint-other``).
        GeometryError: the annotation is not on the scan's grid.
        ModelError: the model is unknown, damaged, or cannot be adapted.
    """
    channels = [image] if isinstance(image, sitk.Image) else list(image)
    asked = Asked(
        channels, annotation, model, depth, seconds, iterations, seed, device, names, memory_gb
    )
    budget = TimeBudget(seconds, seconds_used)
    run = FineTuning(asked, budget, checkpoint, resume)
    child, segmentation = run.through(progress or ignore_progress, preview, enough)
    return FineTuned(child, segmentation, [Step(*moment) for moment in run.standing.history])
