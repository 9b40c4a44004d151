<?php

declare(strict_types=1);

namespace Synlock\Guard\Bundle;

use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\RequestStack;
use Symfony\Component\HttpFoundation\Response;
use Symfony\Component\HttpKernel\DataCollector\DataCollector;
use Symfony\Component\HttpKernel\DataCollector\LateDataCollectorInterface;
use Synlock\Guard\Held;
use Synlock\Guard\MutexException;
use Synlock\Holder;

/** What the panel of the profiler shows: the locks of a request, and who stood in its way. */
final class MutexDataCollector extends DataCollector implements LateDataCollectorInterface
{
    public const NAME = 'ixarlie_mutex';

    private ?Held $held = null;
    private ?MutexException $refused = null;

    public function collect(Request $request, Response $response, ?\Throwable $exception = null): void
    {
        $this->held = $request->attributes->get(Held::class);
        // The profiler is not told of an exception that the application has made an answer of.
        $this->refused = $request->attributes->get(MutexException::class);
        $this->lateCollect();
    }

    /** Again when all is released, so that the times are whole. */
    public function lateCollect(): void
    {
        $locks = [];
        foreach ($this->held?->all() ?? [] as $admission) {
            $locks[] = [
                'name' => $admission->name,
                'store' => $admission->service,
                'mode' => $admission->policy->mode,
                'waited' => $admission->waited,
                'held' => $admission->lock === null ? null : $admission->held(),
                'attempts' => $admission->attempts,
                'holder' => self::words($admission->broken),
                'refused' => false,
            ];
        }
        if ($this->refused !== null) {
            $locks[] = [
                'name' => $this->refused->getLockName(),
                'store' => $this->refused->getService(),
                'mode' => $this->refused->getPolicy()->mode,
                'waited' => $this->refused->getWaited(),
                'held' => null,
                'attempts' => $this->refused->getAttempts(),
                'holder' => self::words($this->refused->getHolders()),
                'refused' => true,
            ];
        }
        $this->data = ['locks' => $locks];
    }

    public function reset(): void
    {
        $this->data = [];
        $this->held = $this->refused = null;
    }

    public function getName(): string
    {
        return self::NAME;
    }

    /**
     * @return list<array{name: string, store: string, mode: string, waited: float, held: float|null, attempts: int, holder: string, refused: bool}>
     *         `holder`: who refused it, or whose lock `force` took
     */
    public function getLocks(): array
    {
        return $this->data['locks'] ?? [];
    }

    /** @param list<Holder> $holders */
    private static function words(array $holders): string
    {
        return \implode('; ', \array_map(
            static fn (Holder $one): string => \trim(\implode(' ', \array_filter([$one->label, $one->pid === null ? null : "pid {$one->pid}", $one->host === null ? null : "on {$one->host}"]))),
            $holders,
        ));
    }
}
