<?php

declare(strict_types=1);

namespace Synlock\Symfony\Store;

use Synlock\Symfony\Internal\TableStore;

/** Locks in the table that Symfony's store of this name keeps. */
class PdoStore extends TableStore
{
    /**
     * @param \PDO|\Doctrine\DBAL\Connection|string $connOrDsn     a DSN is connected to when the first lock needs it;
     *                                                             an object is used outside of its transactions only
     * @param array<string, mixed>                  $options       `db_table`, `db_id_col`, `db_token_col`,
     *                                                             `db_expiration_col`, `db_username`, `db_password`,
     *                                                             `db_connection_options`
     * @param float                                 $gcProbability how often an acquire drops rows that have ended
     */
    public function __construct(\PDO|\Doctrine\DBAL\Connection|string $connOrDsn, array $options = [], float $gcProbability = 0.01, int $initialTtl = 300)
    {
        parent::__construct($connOrDsn, $options, $gcProbability, $initialTtl);
    }
}
