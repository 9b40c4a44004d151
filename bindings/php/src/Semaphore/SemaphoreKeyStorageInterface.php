<?php

declare(strict_types=1);

namespace Synlock\Semaphore;

/**
 * A class of constants that name the keys of an application:
 *
 *     class Keys implements SemaphoreKeyStorageInterface
 *     {
 *         const ORDER = 'order_';
 *     }
 *
 * and `[Keys::ORDER, $id]` is a key.
 */
interface SemaphoreKeyStorageInterface
{
}
