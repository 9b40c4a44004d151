DELETE kept FROM ({keys}) AS old STRAIGHT_JOIN {table} AS kept FORCE INDEX (PRIMARY) ON kept.id = old.id
WHERE kept.state = '' AND kept.since < {now} - ? AND kept.fence <= ?
