"""What studio, capture and training share: the dataset folder, speech labels, the template mesh, lip movements."""
