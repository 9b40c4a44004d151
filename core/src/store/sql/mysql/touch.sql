/*M!100300 SET STATEMENT innodb_lock_wait_timeout = 1 FOR */
UPDATE {table} SET version = version + 1, until = GREATEST(until, {now} + ?)
WHERE id = ? AND state = ? AND until > {now}
