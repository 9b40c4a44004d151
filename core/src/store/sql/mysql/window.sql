SELECT id, fence FROM (
    SELECT id, fence, since, state FROM {table} WHERE id > ? ORDER BY id LIMIT 200
) AS part WHERE state = '' AND since < {now} - ?
