-- Layers and their versions. A layer whose versions are all deleted keeps its row: its numbers are not given twice.

CREATE TABLE layers (
    name TEXT PRIMARY KEY,
    next_version INTEGER NOT NULL
);

CREATE TABLE layer_versions (
    layer TEXT NOT NULL REFERENCES layers (name) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (layer, version)
);
