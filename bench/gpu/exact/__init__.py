"""Are a GPU's sums of integers exact? One file per library; each is imported in a process of its own."""
