-- Functions and what hangs on them. Keys are columns, because they are what is looked up and what must be unique; the rest of a
-- record is JSON, read and written whole. A qualifier of '' is the function itself ($LATEST).

CREATE TABLE functions (
    name TEXT PRIMARY KEY,
    next_version INTEGER NOT NULL,
    reserved_concurrency INTEGER
);

CREATE TABLE versions (
    function TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
    version TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (function, version)
);

CREATE TABLE aliases (
    function TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (function, name)
);

CREATE TABLE urls (
    function TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
    qualifier TEXT NOT NULL,
    url_id TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL,
    PRIMARY KEY (function, qualifier)
);

CREATE TABLE policies (
    function TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
    qualifier TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (function, qualifier)
);

CREATE TABLE tags (
    function TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (function, key)
);
