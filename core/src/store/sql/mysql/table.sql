CREATE TABLE IF NOT EXISTS {table} (
    id VARBINARY(32) NOT NULL PRIMARY KEY,
    name MEDIUMBLOB NOT NULL,
    version BIGINT NOT NULL,
    fence BIGINT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT NOT NULL,
    state MEDIUMBLOB NOT NULL
) ENGINE = InnoDB;
INSERT INTO {table} (id, name, version, fence, since, until, state)
VALUES ('', '', 1, 0, 0, 0, '') ON DUPLICATE KEY UPDATE version = version;
