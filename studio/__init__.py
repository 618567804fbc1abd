"""Films a synthetic actor: phones -> expression curves -> rendered frames, all ground truth kept."""
