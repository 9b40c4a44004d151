UPDATE {table} SET version = version + 1, fence = ?, since = ?, until = ?, state = ? WHERE id = ? AND version = ? AND fence = ?
