<?php

declare(strict_types=1);

namespace Synlock\Symfony\Store;

use Doctrine\DBAL\Connection;
use Synlock\Symfony\Internal\AdvisoryStore;

/** The advisory locks that Symfony's store of this name takes. */
class DoctrineDbalPostgreSqlStore extends AdvisoryStore
{
    /** @param Connection|string $connOrUrl an object is used outside of its transactions only, and polled */
    public function __construct(Connection|string $connOrUrl)
    {
        parent::__construct($connOrUrl);
    }
}
