"""Label values and what they mean: names, colours and SNOMED CT codes, kept in one place."""

from __future__ import annotations

from dataclasses import dataclass

BACKGROUND = 0
UNLABELLED = 255
"""Voxel value of an annotation that nobody has looked at: never trained on, never exported."""


@dataclass(frozen=True)
class CodedConcept:
    """A term of a coding scheme, as DICOM writes it.

    Attributes:
        value: code value, for example ``"110726009"``.
        meaning: human-readable meaning, for example ``"Trachea and bronchus"``.
        scheme: coding scheme designator; SNOMED CT is ``"SCT"``.
    """

    value: str
    meaning: str
    scheme: str = "SCT"

    def triplet(self) -> str:
        """The concept as Slicer's terminology entries write it: ``scheme^value^meaning``."""
        return f"{self.scheme}^{self.value}^{self.meaning}"


@dataclass(frozen=True)
class SegmentInfo:
    """What one label value stands for.

    Attributes:
        label: voxel value, 1..254.
        name: segment name shown to people.
        category: segmented property category (DICOM PS3.16 CID 7150).
        type: segmented property type (CID 7151 and below).
        color: recommended display colour, sRGB 0..255.
        region: anatomic region, where it is not already said by the type.
    """

    label: int
    name: str
    category: CodedConcept
    type: CodedConcept
    color: tuple[int, int, int]
    region: CodedConcept | None = None

    def terminology_entry(self) -> str:
        """The seven-part entry of 3D Slicer's terminology tag for this segment."""
        empty = "^^"
        region = self.region.triplet() if self.region else empty
        return "~".join(
            [
                "Segmentation category and type - ImbalanceSeg",
                self.category.triplet(),
                self.type.triplet(),
                empty,
                "Anatomic codes - DICOM master list",
                region,
                empty,
            ]
        )


ANATOMICAL_STRUCTURE = CodedConcept("123037004", "Anatomical Structure")
MORPHOLOGICALLY_ALTERED_STRUCTURE = CodedConcept("49755003", "Morphologically Altered Structure")

AIRWAY_TREE = SegmentInfo(
    label=1,
    name="Airway tree",
    category=ANATOMICAL_STRUCTURE,
    type=CodedConcept("110726009", "Trachea and bronchus"),
    color=(128, 196, 226),
)
TUMOR = SegmentInfo(
    label=1,
    name="Tumor",
    category=MORPHOLOGICALLY_ALTERED_STRUCTURE,
    type=CodedConcept("108369006", "Neoplasm"),
    color=(230, 92, 66),
)
LESION = SegmentInfo(
    label=1,
    name="Lesion",
    category=MORPHOLOGICALLY_ALTERED_STRUCTURE,
    type=CodedConcept("52988006", "Lesion"),
    color=(246, 190, 60),
)

STANDARD_SEGMENTS = {"airway": AIRWAY_TREE, "tumor": TUMOR, "lesion": LESION}
