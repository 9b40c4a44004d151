<?php

declare(strict_types=1);

namespace Synlock\Symfony;

require_once __DIR__ . '/Internal/types.php';

// The name of `PersistingStoreInterface` up to Symfony 4.3.
\class_alias(PersistingStoreInterface::class, StoreInterface::class);
