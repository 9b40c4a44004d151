<?php

declare(strict_types=1);

namespace Synlock\Symfony\Store;

use Doctrine\DBAL\Connection;
use Synlock\Symfony\Internal\TableStore;

/** Locks in the table that Symfony's store of this name keeps. */
class DoctrineDbalStore extends TableStore
{
    /**
     * @param Connection|string    $connOrUrl     as for `PdoStore`
     * @param array<string, mixed> $options       `db_table`, `db_id_col`, `db_token_col`, `db_expiration_col`
     * @param float                $gcProbability how often an acquire drops rows that have ended
     */
    public function __construct(Connection|string $connOrUrl, array $options = [], float $gcProbability = 0.01, int $initialTtl = 300)
    {
        parent::__construct($connOrUrl, $options, $gcProbability, $initialTtl);
    }
}
