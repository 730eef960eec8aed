-- The values of custom headers may be credentials, so they are encrypted at rest: the column `headers` shows their names only, and
-- `sealed_headers` has the values. A program seals the headers that are stored when it starts, because the database does not have
-- the key. Older attempts recorded the values, and deleted endpoints kept them: both are removed.

ALTER TABLE endpoints ADD COLUMN sealed_headers BLOB;

UPDATE attempts SET request_headers = '[]', requests = NULL, responses = NULL, response_headers = NULL, response_excerpt = NULL,
    response_truncated = NULL
WHERE delivery_id IN (
    SELECT d.id FROM deliveries d JOIN endpoints e ON e.id = d.endpoint_id WHERE e.headers <> '{}');

UPDATE endpoints SET headers = '{}' WHERE deleted_at IS NOT NULL;
