-- Which of some rows have been free since ?2: the last one's key, and the highest fence of them.
SELECT max(id), max(fence) FROM (SELECT id, fence, since, state FROM {table} WHERE id > ?1 ORDER BY id LIMIT 200)
WHERE state = x'' AND since < ?2
