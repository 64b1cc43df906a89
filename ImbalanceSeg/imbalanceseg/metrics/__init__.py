"""How good a segmentation is: overlap, surface distance, airway trees."""
