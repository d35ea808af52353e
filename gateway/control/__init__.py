"""Use cases of the control plane, one file each, and the catalog that the hot path reads."""
