<?php

declare(strict_types=1);

namespace Synlock\Symfony\Strategy;

require_once __DIR__ . '/../Internal/types.php';

/** More than half of the members. */
class ConsensusStrategy implements StrategyInterface
{
    public function isMet(int $numberOfSuccess, int $numberOfItems): bool
    {
        return $numberOfSuccess > $numberOfItems / 2;
    }

    public function canBeMet(int $numberOfFailure, int $numberOfItems): bool
    {
        return $numberOfFailure < $numberOfItems / 2;
    }
}
