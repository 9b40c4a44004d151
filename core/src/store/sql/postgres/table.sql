CREATE TABLE IF NOT EXISTS {table} (
    id bytea NOT NULL PRIMARY KEY,
    name bytea NOT NULL,
    version bigint NOT NULL,
    fence bigint NOT NULL,
    since bigint NOT NULL,
    until bigint NOT NULL,
    state bytea NOT NULL
) WITH (fillfactor = 50);
