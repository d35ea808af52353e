-- What becomes of a loop of invocations: Terminate or Allow, in AWS's words.

ALTER TABLE functions ADD COLUMN recursive_loop TEXT NOT NULL DEFAULT 'Terminate';
