SELECT version, fence, since, until, state, {now} FROM {table} WHERE id = ?
