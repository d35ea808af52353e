"""Load tests: Lambent under many clients, by locust and by an open-loop generator. DESIGN.md says why, the README how."""
