"""From a folder of images and labels to a training plan: nnU-Net's rules, with reasons."""
