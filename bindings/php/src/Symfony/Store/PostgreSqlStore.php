<?php

declare(strict_types=1);

namespace Synlock\Symfony\Store;

use Synlock\Symfony\Internal\AdvisoryStore;

/** The advisory locks that Symfony's store of this name takes. */
class PostgreSqlStore extends AdvisoryStore
{
    /**
     * @param \PDO|string          $connOrDsn an object is used outside of its transactions only, and polled
     * @param array<string, mixed> $options   `db_username`, `db_password`
     */
    public function __construct(\PDO|\Doctrine\DBAL\Connection|string $connOrDsn, array $options = [])
    {
        parent::__construct($connOrDsn, $options);
    }
}
