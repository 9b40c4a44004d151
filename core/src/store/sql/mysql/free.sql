/*M!100300 SET STATEMENT innodb_lock_wait_timeout = 1 FOR */
UPDATE {table} SET version = version + 1, since = {now}, until = 0, state = '' WHERE id = ? AND state = ?
