SELECT id, name, version, fence, since, until, state, {now} FROM {table}
WHERE id > ? AND until > {now} AND LEFT(name, ?) = ? ORDER BY id LIMIT ?
