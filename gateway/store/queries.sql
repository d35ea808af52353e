-- name: put_function
INSERT INTO functions (name, next_version, reserved_concurrency, recursive_loop)
VALUES (:function, :next_version, :reserved_concurrency, :recursive_loop)
ON CONFLICT (name) DO UPDATE SET next_version = excluded.next_version, reserved_concurrency = excluded.reserved_concurrency,
    recursive_loop = excluded.recursive_loop;

-- name: delete_function
DELETE FROM functions WHERE name = :function;

-- name: put_version
INSERT INTO versions (function, version, body) VALUES (:function, :key, :body)
ON CONFLICT (function, version) DO UPDATE SET body = excluded.body;

-- name: delete_version
DELETE FROM versions WHERE function = :function AND version = :key;

-- name: put_alias
INSERT INTO aliases (function, name, body) VALUES (:function, :key, :body)
ON CONFLICT (function, name) DO UPDATE SET body = excluded.body;

-- name: delete_alias
DELETE FROM aliases WHERE function = :function AND name = :key;

-- name: put_url
INSERT INTO urls (function, qualifier, url_id, body) VALUES (:function, :key, :url_id, :body)
ON CONFLICT (function, qualifier) DO UPDATE SET url_id = excluded.url_id, body = excluded.body;

-- name: delete_url
DELETE FROM urls WHERE function = :function AND qualifier = :key;

-- name: put_policy
INSERT INTO policies (function, qualifier, body) VALUES (:function, :key, :body)
ON CONFLICT (function, qualifier) DO UPDATE SET body = excluded.body;

-- name: delete_policy
DELETE FROM policies WHERE function = :function AND qualifier = :key;

-- name: put_tag
INSERT INTO tags (function, key, value) VALUES (:function, :key, :body)
ON CONFLICT (function, key) DO UPDATE SET value = excluded.value;

-- name: delete_tag
DELETE FROM tags WHERE function = :function AND key = :key;

-- name: all_functions
SELECT name, next_version, reserved_concurrency, recursive_loop FROM functions;

-- name: all_versions
SELECT function, version, body FROM versions;

-- name: all_aliases
SELECT function, name, body FROM aliases ORDER BY name;

-- name: all_urls
SELECT function, qualifier, body FROM urls;

-- name: all_policies
SELECT function, qualifier, body FROM policies;

-- name: all_tags
SELECT function, key, value FROM tags ORDER BY key;

-- name: put_layer
INSERT INTO layers (name, next_version) VALUES (:layer, :next_version)
ON CONFLICT (name) DO UPDATE SET next_version = excluded.next_version;

-- name: put_layer_version
INSERT INTO layer_versions (layer, version, body) VALUES (:layer, :version, :body)
ON CONFLICT (layer, version) DO UPDATE SET body = excluded.body;

-- name: delete_layer_version
DELETE FROM layer_versions WHERE layer = :layer AND version = :version;

-- name: all_layers
SELECT name, next_version FROM layers;

-- name: all_layer_versions
SELECT layer, version, body FROM layer_versions;
