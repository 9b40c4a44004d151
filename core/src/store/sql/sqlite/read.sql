SELECT version, fence, since, until, state FROM {table} WHERE id = ?1
