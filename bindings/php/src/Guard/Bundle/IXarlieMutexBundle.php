<?php

declare(strict_types=1);

namespace Synlock\Guard\Bundle;

use Symfony\Component\HttpKernel\Bundle\Bundle;

/** ixarlie's mutex bundle: the same configuration, services and annotations, over synlock. */
final class IXarlieMutexBundle extends Bundle
{
}
