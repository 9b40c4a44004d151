<?php

declare(strict_types=1);

namespace Synlock\Symfony;

/** The name of `LockFactory` up to Symfony 4.3. */
class Factory extends LockFactory
{
}
