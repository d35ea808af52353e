"""Sandboxes made of Linux namespaces, cgroups and forks of a warm interpreter. DESIGN.md here tells the whole."""
