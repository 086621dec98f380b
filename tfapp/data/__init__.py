"""Examples and where they come from: arrays, IDX files, tables, images and texts; and the input pipeline."""
