"""A training recipe: what of a training is not left to the plan."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from imbalanceseg.planning.imbalance import Sampling, Share, WeightName
from imbalanceseg.planning.plan import Preset
from imbalanceseg.training.hard_samples import SPARSITIES

_PatchSide = Annotated[int, Field(ge=1, le=1024)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NetworkChoice(_Frozen):
    """Which network, in the words of ``create_network``.

    Attributes:
        name: of the network; ``"plan"`` takes the plan's with its strides, kernels and features.
        settings: arguments beside ``in_channels``, which the dataset decides, and
            ``deep_supervision``, which :class:`Supervision` does.
        width: of the plan's network, share of the features that the plan gives each stage. A
            narrower network takes more steps in the same time.
        prior: probability of foreground that the untrained network tells everywhere. Where
            foreground is rare, Dice of a network that begins with a half moves next to nothing.
    """

    name: str = "plan"
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    prior: Annotated[float, Field(gt=0, lt=1)] = 0.5
    settings: dict[str, Any] = {}


class LossChoice(_Frozen):
    """Which loss, in the words of ``create_loss``.

    Attributes:
        name: of the loss; ``"plan"`` takes what the plan chose.
        settings: its constants.
        weight: map given as the loss's ``weight``: the U-Net's border map, the centreline distance
            or the local imbalance weight of the airway papers. A loss of the plan has the plan's
            where none is named.
        cross_entropy: weight of plain cross entropy that is added to the loss. Of overlap alone a
            network that finds nothing yet, or is sure of the wrong thing, learns next to nothing.
    """

    name: str = "plan"
    settings: dict[str, Any] = {}
    weight: WeightName = "none"
    cross_entropy: Annotated[float, Field(ge=0)] = 0.0


class Supervision(_Frozen):
    """Which outputs of the network are supervised.

    Attributes:
        kind: ``"output"`` the logits alone; ``"deep"`` coarser logits too (nnU-Net); ``"group"``
            the encoding head too (WingsNet); ``"attention"`` the attention maps too (2.5D U-Net).
        weight: of the encoding head, or of the attention maps.
    """

    kind: Literal["output", "deep", "group", "attention"] = "output"
    weight: PositiveFloat = 1.0


class OptimizerChoice(_Frozen):
    """Optimiser and its constants; ``momentum`` is SGD's, with Nesterov's correction."""

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    momentum: Share = 0.99
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4


class Schedule(_Frozen):
    """Learning rate over time.

    Attributes:
        name: ``"poly"`` falls as ``(1 - t) ** power`` over the whole training; ``"cosine"`` along
            half a cosine; ``"plateau"`` by ``factor`` when the average training loss has not
            improved for ``patience`` validations; ``"steps"`` by ``factor`` at each of
            ``milestones``; ``"constant"`` never.
        warmup: iterations of linear rise at the start.
        power: of ``"poly"``.
        factor: of ``"plateau"`` and ``"steps"``.
        patience: validations, of ``"plateau"``.
        milestones: shares of the training, of ``"steps"``.
        lowest: share of the first learning rate at which ``"plateau"`` ends the training.
    """

    name: Literal["poly", "cosine", "plateau", "steps", "constant"] = "poly"
    warmup: Annotated[int, Field(ge=0)] = 0
    power: PositiveFloat = 0.9
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.2
    patience: PositiveInt = 30
    milestones: tuple[Share, ...] = (0.6, 0.9)
    lowest: Annotated[float, Field(ge=0, lt=1)] = 1e-3


class Augmentation(_Frozen):
    """How often a patch is changed in which way; shares of patches.

    Where slices are thick, rotation, zoom and bending stay within the slice.

    Attributes:
        rotation: by up to ``rotation_degrees``.
        rotation_degrees: about each axis, at most; None for nnU-Net's: 30, and 180 within the plane
            where the plan is 2D or anisotropic.
        zoom: by a factor within ``zoom_range``.
        zoom_range: smallest and largest factor.
        elastic: bent by a smooth field.
        elastic_grid_mm: distance of the field's control points.
        elastic_mm: standard deviation of its displacements.
        noise: Gaussian, of up to 0.3 standard deviations of the image.
        blur: Gaussian, of 0.5 to 1 voxel.
        brightness: multiplied by 0.75 to 1.25.
        contrast: stretched by 0.75 to 1.25 about the mean, kept within its range.
        low_resolution: sampled at 0.5 to 1 times the resolution and back.
        gamma: an exponent of 0.7 to 1.5.
        inverted_gamma: the same on the negative.
        mirror: along each axis with probability 1/2; a share of 0 keeps left and right apart.
        histogram: grey values matched to those of another case (V-Net).
    """

    rotation: Share = 0.2
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] | None = None
    zoom: Share = 0.2
    zoom_range: tuple[PositiveFloat, PositiveFloat] = (0.7, 1.4)
    elastic: Share = 0.0
    elastic_grid_mm: PositiveFloat = 32.0
    elastic_mm: PositiveFloat = 4.0
    noise: Share = 0.1
    blur: Share = 0.2
    brightness: Share = 0.15
    contrast: Share = 0.15
    low_resolution: Share = 0.25
    gamma: Share = 0.3
    inverted_gamma: Share = 0.1
    mirror: Share = 1.0
    histogram: Share = 0.0

    @model_validator(mode="after")
    def _smallest_first(self) -> Augmentation:
        if self.zoom_range[0] > self.zoom_range[1]:
            raise ValueError("the smallest factor of zoom_range is larger than the largest")
        return self


class Synthesis(_Frozen):
    """Cases that are made before the training, instead of a dataset.

    Attributes:
        task: what they show.
        cases: to train on.
        validation_cases: to choose the best weights on, made of other scans.
        seed: of the first case.
        fresh: share of the patches that are not taken from these cases but painted for their step,
            and never seen again; with a GPU that takes little time. Only airways can be.
    """

    task: Literal["airway", "lesion", "tumor"]
    cases: PositiveInt
    validation_cases: PositiveInt
    seed: Annotated[int, Field(ge=0)] = 0
    fresh: Share = 0.0

    @model_validator(mode="after")
    def _of_airways(self) -> Synthesis:
        if self.fresh and self.task != "airway":
            raise ValueError("only patches of airways can be painted fresh")
        return self


class HardSamples(_Frozen):
    """Attend to the cases on which weakened copies of the network disagree with it.

    Attributes:
        sparsities: share of the weights that each copy lacks.
        strength: the hardest case weighs ``1 + strength`` times the easiest.
        after: share of the training before which all cases weigh alike: copies of a network that
            has learned little disagree everywhere.
        every: share of the training between two looks.
        use: what the weights change: how often patches are taken from a case, how much they count
            in the loss, or both.
    """

    sparsities: Annotated[tuple[Share, ...], Field(min_length=1)] = SPARSITIES
    strength: Annotated[float, Field(ge=0)] = 1.0
    after: Share = 0.5
    every: Annotated[float, Field(gt=0, le=1)] = 0.1
    use: Literal["sampling", "loss", "both"] = "sampling"


class MeanTeacher(_Frozen):
    """Learn from images without labels to say what an average of one's own weights says.

    Attributes:
        kind: its name.
        decay: of the teacher's weights.
        weight: of the squared difference between the probabilities of student and teacher.
        ramp: share of the training over which that weight rises, as ``exp(-5 (1 - t)**2)``.

    Source: Tarvainen and Valpola, NeurIPS 2017, arXiv 1703.01780.
    """

    kind: Literal["mean_teacher"]
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    weight: PositiveFloat = 10.0
    ramp: Share = 0.4


class Action(_Frozen):
    """Learn from images without labels by contrast, in three stages.

    First the encoder relates an image to others as its teacher does, without any label; then
    windows of the output do so too, beside what the labels say; last, hard voxels are drawn to the
    mean of their class, and the teacher's sure voxels are learned from as if they were labelled.

    Attributes:
        kind: its name.
        stages: share of the training of each stage; they add up to 1.
        decay: of the teacher's weights.
        anchors: images that one is related to.
        channels: of embeddings and representations.
        student_temperature: of the relations.
        teacher_temperature: likewise.
        contrast: weight of the contrast of anatomy.
        contrast_temperature: of it.
        cyclic: let that temperature fall from 1 to 0.1 and rise again, once over the last stage
            (ACTION++).
        queries: hard voxels of each class.
        negatives: voxels that each is compared with.
        sure: probability from which a voxel is easy, and counts for how much an image is trusted.
        trusted: probability from which the teacher's class of a voxel enters the contrast.

    Source: You et al., IPMI 2023, arXiv 2206.02307; the cycle MICCAI 2023, arXiv 2304.02689.
    """

    kind: Literal["action"]
    stages: tuple[Share, Share, Share] = (0.25, 0.25, 0.5)
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    anchors: PositiveInt = 36
    channels: PositiveInt = 128
    student_temperature: PositiveFloat = 0.1
    teacher_temperature: PositiveFloat = 0.01
    contrast: Annotated[float, Field(ge=0)] = 0.01
    contrast_temperature: PositiveFloat = 0.5
    cyclic: bool = False
    queries: PositiveInt = 256
    negatives: PositiveInt = 512
    sure: Share = 0.97
    trusted: Share = 0.7

    @field_validator("stages")
    @classmethod
    def _whole(cls, shares: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(sum(shares) - 1) > 1e-6:
            raise ValueError("the shares do not add up to 1")
        return shares


class PrunedAgreement(_Frozen):
    """Learn from images without labels where a weakened copy of the teacher says what it says.

    Attributes:
        kind: its name.
        decay: of the teacher's weights.
        sparsity: share of the weights that the copy lacks.
        every: share of the training between two copies.
        after: share of the training before which only labels are learned from.
        weight: of the cross entropy on what both agree on.
        sure: probability that both need.

    Source: after Jaiswal et al., WACV 2023; the rule is ours.
    """

    kind: Literal["pruned_agreement"]
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    sparsity: Share = 0.8
    every: Annotated[float, Field(gt=0, le=1)] = 0.05
    after: Share = 0.3
    weight: PositiveFloat = 1.0
    sure: Share = 0.9


Unlabelled = Annotated[MeanTeacher | Action | PrunedAgreement, Field(discriminator="kind")]
"""How images without labels are learned from."""


class Recipe(_Frozen):
    """Everything about a training that the plan of a dataset does not decide.

    Attributes:
        description: what it is and where it comes from.
        synthesis: see :class:`Synthesis`; None where there is a dataset.
        preset: rules of the plan.
        network: see :class:`NetworkChoice`.
        loss: see :class:`LossChoice`.
        supervision: see :class:`Supervision`.
        optimizer: see :class:`OptimizerChoice`.
        schedule: see :class:`Schedule`.
        augmentation: see :class:`Augmentation`.
        sampling: where patches are taken; the plan's when None.
        spacing_mm: that images are resampled to, along the network's axes, of which the one across
            thick slices comes first; the plan's when None.
        intensity_range: lowest and highest intensity, which become 0 and 1; what lies beyond is
            clipped. The plan's normalisation when None.
        patch: voxels along each axis; the plan's when None.
        batch: patches of a step; the plan's when None.
        gradient_clip: largest norm of the gradient.
        ema: decay of the averaged weights, which are validated and kept; 0 for none.
        iterations: steps, unless the command says otherwise.
        validate_every: iterations between validations; None for forty in all.
        early_stopping: validations without a better Dice after which training ends; None for
            never.
        hard_skeleton_every: iterations between two searches for missed centreline voxels, where
            ``sampling.hard_skeleton`` asks for them.
        unlabelled: how images without labels are learned from; None where there are none.
        image_labels: weight of the loss of images of which only the classes that they show are
            known, where the dataset has such.
        hard_samples: see :class:`HardSamples`; ``"on"`` for its defaults, ``"off"`` to weigh all
            cases alike.
        judge_mirrored: whether a training that mirrors also judges averages over mirrored copies in
            the end, which takes eight times as long again in three dimensions.
        precision: ``"auto"`` for bfloat16 where the hardware has it.
    """

    description: str = ""
    synthesis: Synthesis | None = None
    preset: Preset = "v2"
    network: NetworkChoice = NetworkChoice()
    loss: LossChoice = LossChoice()
    supervision: Supervision = Supervision()
    optimizer: OptimizerChoice = OptimizerChoice()
    schedule: Schedule = Schedule()
    augmentation: Augmentation = Augmentation()
    sampling: Sampling | None = None
    spacing_mm: Annotated[tuple[PositiveFloat, ...], Field(min_length=2, max_length=3)] | None = (
        None
    )
    intensity_range: tuple[float, float] | None = None
    patch: Annotated[tuple[_PatchSide, ...], Field(min_length=2, max_length=3)] | None = None
    batch: Annotated[int, Field(ge=1, le=1024)] | None = None
    gradient_clip: PositiveFloat = 12.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    iterations: PositiveInt | None = None
    validate_every: PositiveInt | None = None
    early_stopping: PositiveInt | None = None
    hard_skeleton_every: PositiveInt = 1000
    unlabelled: Unlabelled | None = None
    image_labels: Annotated[float, Field(ge=0)] = 0.1
    hard_samples: HardSamples | Literal["on", "off"] = "off"
    judge_mirrored: bool = True
    precision: Literal["auto", "float32"] = "auto"

    @property
    def attended(self) -> HardSamples | None:
        """How hard samples are attended to; None where they are not."""
        if self.hard_samples == "on":
            return HardSamples()
        return None if self.hard_samples == "off" else self.hard_samples

    @model_validator(mode="after")
    def _fresh_patches_fit(self) -> Recipe:
        if self.synthesis and self.synthesis.fresh:
            if len(set(self.patch or ())) != 1:
                raise ValueError("fresh patches need a patch with sides of one length")
            if self.loss.weight != "centerline":
                raise ValueError("fresh patches need the weight centerline in the loss")
        return self

    @field_validator("intensity_range")
    @classmethod
    def _darkest_first(cls, ends: tuple[float, float] | None) -> tuple[float, float] | None:
        if ends and ends[0] >= ends[1]:
            raise ValueError("the lowest value does not lie below the highest")
        return ends
