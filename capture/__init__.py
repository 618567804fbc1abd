"""A real person's video -> the dataset that an avatar is trained on."""
