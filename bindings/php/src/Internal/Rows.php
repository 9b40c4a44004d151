<?php

declare(strict_types=1);

namespace Synlock\Internal;

use FFI\CData;
use Synlock\Holder;
use Synlock\Inspection;

/**
 * Reads the list objects of the library.
 *
 * @internal
 */
final class Rows
{
    /**
     * @return list<Inspection>
     */
    public static function read(Native $native, CData $list): array
    {
        $row = $native->sized('synlock_holder');
        // The name has no NUL at its end, but FFI would look for one in a `const char *`: the same
        // memory as plain pointers, of which the name is the second.
        $place = \FFI::addr($row);
        $pointers = $native->ffi->cast('char **', $place);
        $names = $holders = $waiters = [];
        for ($i = 0, $count = $native->ffi->synlock_list_count($list); $i < $count; ++$i) {
            $status = $native->ffi->synlock_list_get($list, $i, $place, $native->errorSlot);
            $native->check($status);
            $name = \FFI::string($pointers[1], $row->name_length);
            $key = \bin2hex($name); // a name of digits would become an integer
            $names[$key] = $name;
            $waiters[$key] = $row->waiters < 0 ? null : $row->waiters;
            $holders[$key][] = new Holder(
                (string) $row->owner,
                (string) $row->mode,
                $row->permits,
                $row->host,
                $row->pid === 0 ? null : $row->pid,
                $row->label,
                $row->remaining_ms < 0 ? null : $row->remaining_ms / 1000,
                $row->held_ms < 0 ? null : $row->held_ms / 1000,
                $row->fencing_token === 0 ? null : $row->fencing_token,
            );
        }
        $found = [];
        foreach ($names as $key => $name) {
            $found[] = new Inspection($name, $holders[$key], $waiters[$key]);
        }

        return $found;
    }
}
