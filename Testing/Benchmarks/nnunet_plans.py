"""Ask nnU-Net's own planner for patches, poolings and batches of made-up datasets.

    NNUNET/bin/python Testing/Benchmarks/nnunet_plans.py FILE

Needs an interpreter with nnunetv2. FILE is Testing/imbalanceseg/planning/nnunet_plans.json, written
with 2.8.1. The planner wants a folder of images, of which it uses but a few numbers; here they are
given to it without the images.
"""

import json
import random
import sys
from pathlib import Path

import numpy as np
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
    ExperimentPlanner,
)

CHOSEN = [
    ((0.8, 0.8), (512, 512), 2, 1e8),
    ((1.0, 1.0), (256, 320), 2, 1e8),
    ((1.0, 1.0), (1024, 1360), 2, 1e8),
    ((1.0, 1.0), (3000, 2000), 3, 1e9),
    ((5.0, 0.8, 0.8), (100, 512, 512), 2, 1e9),
    ((1.0, 1.0, 1.0), (128, 128, 128), 2, 1e8),
    ((1.0, 1.0, 1.0), (36, 50, 35), 3, 8e6),
    ((6.5, 0.78, 0.78), (25, 256, 256), 2, 1e8),
    ((1.0, 1.0, 1.0), (512, 512, 512), 2, 1e10),
    ((2.0, 1.0, 1.0), (160, 220, 200), 4, 1e9),
]


def drawn(count, seed=0):
    """Random spacings, shapes, classes and voxels of a dataset."""
    draw = random.Random(seed)
    for _ in range(count):
        spacing = [round(draw.uniform(0.4, 1.2), 2) for _ in range(2)]
        shape = [draw.randint(40, 700) for _ in range(2)]
        if draw.random() < 2 / 3:
            thick = draw.random() < 0.5
            spacing.insert(0, round(draw.uniform(1.5, 7) if thick else draw.uniform(0.5, 1.5), 2))
            shape.insert(0, draw.randint(8, 300))
        yield tuple(spacing), tuple(shape), draw.choice([2, 3, 5]), draw.choice([1e7, 1e9])


def planner(classes):
    """nnU-Net's planner with its constants, without a folder."""
    one = ExperimentPlanner.__new__(ExperimentPlanner)
    one.UNet_class = PlainConvUNet
    one.UNet_base_num_features = 32
    one.UNet_max_features_2d, one.UNet_max_features_3d = 512, 320
    one.UNet_reference_val_2d, one.UNet_reference_val_3d = 85_000_000, 560_000_000
    one.UNet_reference_val_corresp_bs_2d, one.UNet_reference_val_corresp_bs_3d = 12, 2
    one.UNet_reference_val_corresp_GB = one.UNet_vram_target_GB = 8
    one.UNet_featuremap_min_edge_length, one.UNet_min_batch_size = 4, 2
    one.UNet_blocks_per_stage_encoder, one.UNet_blocks_per_stage_decoder = (2,) * 15, (2,) * 14
    one.max_dataset_covered, one.preprocessor_name = 0.05, "DefaultPreprocessor"
    one.dataset_json = {
        "channel_names": {"0": "MR"},
        "labels": {str(n): n for n in range(classes)},
    }
    one.dataset_fingerprint = {"median_relative_size_after_cropping": 1.0}
    return one


def asked(spacing, shape, classes, voxels):
    """One row: what was asked and what nnU-Net answers."""
    plan = planner(classes).get_plans_for_configuration(
        np.array(spacing), np.array(shape), "made-up", voxels, {}
    )
    network = plan["architecture"]["arch_kwargs"]
    return {
        "spacing": spacing,
        "shape": shape,
        "classes": classes,
        "voxels": voxels,
        "patch": [int(n) for n in plan["patch_size"]],
        "batch": int(plan["batch_size"]),
        "strides": network["strides"],
        "kernels": network["kernel_sizes"],
        "features": network["features_per_stage"],
    }


if __name__ == "__main__":
    rows = [json.dumps(asked(*one)) for one in [*CHOSEN, *drawn(50)]]
    Path(sys.argv[1]).write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")
