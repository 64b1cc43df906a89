"""Cases for the training of the airway model: pieces of CT painted over real and grown chests.

Anatomy is that of three LIDC-IDRI patients of Med-MPD (CC BY 3.0) and of chests grown from a seed;
appearance is drawn anew for every case. Patient 4 is left out altogether: it judges the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.synthesis.anatomy import ChestAnatomy
from imbalanceseg.synthesis.chest_ct import render_chest_ct, training_style
from imbalanceseg.synthesis.library import chest_library

AIRWAY_SPACING_MM = 0.8

_PATIENTS = (1, 2, 3)
_GROWN = (1, 2, 3, 4, 5, 6)
_VALIDATION = (901, 902)
# Thinner bronchi are many, and below what a chest CT resolves: no piece is taken for their sake.
_SMALL_RADIUS_MM = (1.0, 2.5)
_AXIAL = 0.9
_AXES = ("sagittal", "coronal", "axial")
_UPLOAD = Lock()


@dataclass(frozen=True)
class Placing:
    """Where pieces of a chest are taken and how they are bent.

    Attributes:
        small_airway: share centred on an airway of 1 to 2.5 mm radius.
        airway: share centred on a wider airway. Both lie evenly along the airways' length: evenly
            over their volume, most would lie in the trachea.
        pleura: share centred within 6 mm of the lung's surface and away from airways, where thin
            dark tongues of lung resemble a bronchus; the rest is anywhere in the body.
        rotation_degrees: largest rotation about a random axis.
        zoom: range of the magnification of the anatomy.
        side: voxels along each axis.
    """

    small_airway: float = 0.45
    airway: float = 0.2
    pleura: float = 0.15
    rotation_degrees: float = 20.0
    zoom: tuple[float, float] = (0.8, 1.3)
    side: int = 144


@dataclass(frozen=True)
class AirwayHost:
    """A chest that pieces are taken of.

    Attributes:
        name: for people.
        anatomy: where everything lies.
    """

    name: str
    anatomy: ChestAnatomy

    def maps(self, box: tuple[slice, ...], device: torch.device) -> Tensor:
        """All maps of the anatomy in a box, float32 ``[7, ...]``, in the order of their names.

        A processor reads the box from where the anatomy lies; a GPU keeps the whole chest.
        """
        if device.type == "cpu":
            names = self.anatomy.map_names()
            parts = np.stack([getattr(self.anatomy, name)[box] for name in names])
            return torch.from_numpy(parts.astype(np.float32))
        with _UPLOAD:
            if device not in self._resident:
                self._resident[device] = torch.from_numpy(self.anatomy.stacked()).to(device)
        return self._resident[device][(slice(None), *box)].float()

    @cached_property
    def _resident(self) -> dict[torch.device, Tensor]:
        return {}

    @cached_property
    def places(self) -> dict[str, Places]:
        """What pieces are centred near, by kind."""
        anatomy = self.anatomy
        airway, radius = anatomy.airway_distance_mm < 0, anatomy.airway_radius_mm
        low, high = _SMALL_RADIUS_MM

        def along(mask: NDArray[np.bool_]) -> Places:
            """Evenly over length: a tube has as many voxels in a slice as its radius squared."""
            sections = np.square(radius[mask].astype(np.float64))
            return Places(np.argwhere(mask), np.cumsum(1.0 / sections))

        body = anatomy.body_distance_mm[::4, ::4, ::4] < 15
        pleura = np.abs(anatomy.lung_distance_mm[::4, ::4, ::4]) < 6
        pleura &= anatomy.airway_distance_mm[::4, ::4, ::4] > 10
        return {
            "small": along(airway & (radius >= low) & (radius < high)),
            "airway": along(airway & (radius >= high)),
            "pleura": Places(np.argwhere(pleura) * 4),
            "body": Places(np.argwhere(body) * 4),
        }


@dataclass(frozen=True)
class AirwaySources:
    """The chests that cases are made of.

    Attributes:
        training: learned from.
        validation: judged on.
    """

    training: Sequence[AirwayHost]
    validation: Sequence[AirwayHost]

    @classmethod
    def read(cls, data: Path, library: Path) -> AirwaySources:
        """Make the anatomies, or read those that were made before.

        Args:
            data: folder with the set ``airway_medmpd_masks``; without it all chests are grown.
            library: folder where the anatomies are kept.
        """
        masks = data / "airway_medmpd_masks"
        patients = _PATIENTS if masks.is_dir() else ()
        names = [f"patient {n}" for n in patients] + [f"grown chest {n}" for n in _GROWN]
        training = chest_library(library, masks, patients, _GROWN, AIRWAY_SPACING_MM)
        validation = chest_library(library, None, (), _VALIDATION, AIRWAY_SPACING_MM)
        return cls(
            [AirwayHost(name, one) for name, one in zip(names, training, strict=True)],
            [
                AirwayHost(f"grown chest {seed}", one)
                for seed, one in zip(_VALIDATION, validation, strict=True)
            ],
        )


def airway_case(
    seed: int, sources: AirwaySources, validation: bool = False, placing: Placing | None = None
) -> tuple[sitk.Image, sitk.Image, str]:
    """A piece of a chest CT and the exact label of the airways in it.

    The anatomy is turned, mirrored and magnified; patient, disease, scanner, dose and kernel are
    drawn at random.

    Args:
        seed: same seed and sources, same case.
        sources: see :class:`AirwaySources`.
        validation: made of chests that training never sees.
        placing: see :class:`Placing`.

    Returns:
        int16 CT in HU, its uint8 label (1 airway lumen), both LPS, and what it is made of.
    """
    rng = np.random.default_rng([seed, int(validation)])
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    hosts = sources.validation if validation else sources.training
    placing = placing or Placing()
    piece = airway_piece(hosts, placing, rng, generator)
    spacing = hosts[0].anatomy.grid.spacing_mm
    grid = Grid((placing.side,) * 3, spacing, (0.0,) * 3, tuple(np.eye(3).ravel()))
    return (
        image_from_array(piece.hu.round().numpy().astype(np.int16), grid),
        image_from_array(piece.label.numpy(), grid),
        piece.about,
    )


@dataclass(frozen=True)
class AirwayPiece:
    """A painted piece of a chest, ``[D, H, W]`` each.

    Attributes:
        hu: float32.
        label: uint8, 1 in the airway's lumen.
        centerline_weight: float32, see :class:`~.anatomy.ChestAnatomy`.
        about: what it is made of.
    """

    hu: Tensor
    label: Tensor
    centerline_weight: Tensor
    about: str


def airway_piece(
    hosts: Sequence[AirwayHost],
    placing: Placing,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> AirwayPiece:
    """A piece of one of the chests, painted on the device of ``generator``.

    Args:
        hosts: equally likely, all of one spacing.
        placing: see :class:`Placing`.
        rng: decides on place, course and style.
        generator: paints.
    """
    host = hosts[int(rng.integers(len(hosts)))]
    kind = _kind(placing, rng)
    places = host.places[kind] if len(host.places[kind].voxels) else host.places["body"]
    side = placing.side
    voxel = places.drawn(rng) + rng.integers(-side // 4, side // 4 + 1, 3)
    maps = _warped(host, voxel, placing, rng, generator.device)
    axis = 0 if rng.random() < _AXIAL else int(rng.integers(3))
    spacing_mm = host.anatomy.grid.spacing_mm[0]
    return AirwayPiece(
        render_chest_ct(maps, spacing_mm, training_style(rng), generator, axis),
        (maps["airway_distance_mm"] < 0).to(torch.uint8),
        maps["centerline_weight"],
        f"{host.name}, {kind}, {_AXES[2 - axis]} slices",
    )


@dataclass(frozen=True)
class Places:
    """Voxels ``[n, 3]``, and the running sum of their weights; equally likely where it is None."""

    voxels: NDArray[np.int64]
    weight_up_to: NDArray[np.float64] | None = None

    def drawn(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """One of them."""
        if self.weight_up_to is None:
            return self.voxels[rng.integers(len(self.voxels))]
        at = np.searchsorted(self.weight_up_to, rng.random() * self.weight_up_to[-1], side="right")
        return self.voxels[min(int(at), len(self.voxels) - 1)]


def _kind(placing: Placing, rng: np.random.Generator) -> str:
    shares = (placing.small_airway, placing.airway, placing.pleura)
    kind = np.searchsorted(np.cumsum(shares), rng.random(), side="right")
    return ("small", "airway", "pleura", "body")[int(kind)]


def _warped(
    host: AirwayHost,
    voxel: NDArray[np.int64],
    placing: Placing,
    rng: np.random.Generator,
    device: torch.device,
) -> dict[str, Tensor]:
    """The maps, turned, mirrored and magnified about ``voxel``; float32 ``[side, side, side]``."""
    zoom = float(rng.uniform(*placing.zoom))
    angle = np.deg2rad(rng.uniform(0, placing.rotation_degrees))
    matrix = _rotation(rng.normal(size=3), angle) / zoom
    matrix = matrix @ np.diag(rng.choice([-1.0, 1.0], 3, p=[0.3, 0.7]))
    side = placing.side
    reach = int(np.ceil(np.abs(matrix).sum(1).max() * side / 2)) + 2
    shape = np.array(host.anatomy.airway_distance_mm.shape)
    low = np.clip(voxel - reach, 0, np.maximum(shape - 2 * reach, 0))
    high = np.minimum(low + 2 * reach, shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    theta = np.zeros((3, 4))
    theta[:, :3] = (matrix * (side / (high - low))[:, None])[::-1, ::-1]
    theta[:, 3] = (2 * (voxel - low + 0.5) / (high - low) - 1)[::-1]
    turned = torch.tensor(theta[None], dtype=torch.float32, device=device)
    at = F.affine_grid(turned, [1, 1, side, side, side], align_corners=False)
    maps = host.maps(box, device)[None]
    sampled = F.grid_sample(maps, at, padding_mode="border", align_corners=False)[0]
    return {
        name: values * zoom if name.endswith("_mm") else values
        for name, values in zip(host.anatomy.map_names(), sampled, strict=True)
    }


def _rotation(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    from scipy.spatial.transform import Rotation

    matrix: NDArray[np.float64] = Rotation.from_rotvec(
        angle * axis / np.linalg.norm(axis)
    ).as_matrix()
    return matrix
