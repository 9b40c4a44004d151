/*M!100300 SET STATEMENT innodb_lock_wait_timeout = 1 FOR */
INSERT INTO {table} (id, name, version, fence, since, until, state)
VALUES ('', '', 1, ?, 0, 0, '')
ON DUPLICATE KEY UPDATE version = version + 1, fence = GREATEST(fence, VALUES(fence))
