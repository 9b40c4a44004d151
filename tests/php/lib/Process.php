<?php

declare(strict_types=1);

namespace Synlock\Tests;

/** A program that a test started, spoken to by lines. It dies with the test run at the latest. */
final class Process
{
    /** @var resource */
    private $process;
    /** @var array<int, resource> */
    private array $pipes = [];
    private string $buffer = '';
    public string $output = '';
    private ?int $status = null;
    public readonly int $pid;

    /**
     * @param list<string>               $command
     * @param array<string, string>|null $environment
     */
    public function __construct(array $command, ?array $environment = null, ?string $errors = null, ?string $directory = null)
    {
        $streams = [0 => ['pipe', 'r'], 1 => ['pipe', 'w'], 2 => $errors === null ? ['redirect', 1] : ['file', $errors, 'a']];
        $process = proc_open($command, $streams, $this->pipes, $directory, $environment);
        if ($process === false) {
            throw new \RuntimeException('cannot start ' . implode(' ', $command));
        }
        $this->process = $process;
        $this->pid = proc_get_status($process)['pid'];
        stream_set_blocking($this->pipes[1], false);
    }

    public function __destruct()
    {
        if ($this->isRunning()) {
            $this->signal(SIGKILL);
            $this->wait();
        }
    }

    /** The next line; fails after some time. */
    public function line(float $seconds = 60): string
    {
        $end = microtime(true) + $seconds;
        while (($at = strpos($this->buffer, "\n")) === false) {
            if (!$this->read($end - microtime(true))) {
                throw new \RuntimeException("no line in {$seconds} s; output so far: {$this->output}");
            }
        }
        $line = substr($this->buffer, 0, $at);
        $this->buffer = substr($this->buffer, $at + 1);

        return $line;
    }

    public function expect(string $line, float $seconds = 60): void
    {
        $got = $this->line($seconds);
        if ($got !== $line) {
            $this->read(0.2);
            throw new \RuntimeException("expected the line \"{$line}\", got \"{$got}\" {$this->buffer}");
        }
    }

    public function send(string $line): void
    {
        fwrite($this->pipes[0], $line . "\n");
        fflush($this->pipes[0]);
    }

    /** Ends the input of a program that ends with it. */
    public function end(float $seconds = 60): int
    {
        fclose($this->pipes[0]);

        return $this->wait($seconds);
    }

    public function signal(int $signal): void
    {
        posix_kill($this->pid, $signal);
    }

    public function isRunning(): bool
    {
        if ($this->status !== null) {
            return false;
        }
        $status = proc_get_status($this->process);
        if (!$status['running']) {
            $this->status = $status['signaled'] ? -$status['termsig'] : $status['exitcode'];
        }

        return $status['running'];
    }

    /** Exit status, or the negative number of the signal that ended it. */
    public function wait(float $seconds = 60): int
    {
        $end = microtime(true) + $seconds;
        while ($this->isRunning()) {
            if (microtime(true) > $end) {
                throw new \RuntimeException("process {$this->pid} did not end in {$seconds} s: {$this->output}");
            }
            $this->read(0.02);
        }
        while ($this->read(0.0)) {
        }

        return (int) $this->status;
    }

    private function read(float $seconds): bool
    {
        $seconds = max(0.0, $seconds);
        $read = [$this->pipes[1]];
        $none = null;
        if (!@stream_select($read, $none, $none, (int) $seconds, (int) (fmod($seconds, 1) * 1e6))) {
            return false;
        }
        $chunk = (string) fread($this->pipes[1], 65536);
        if ($chunk === '') {
            usleep(2000);

            return false;
        }
        $this->buffer .= $chunk;
        $this->output .= $chunk;

        return true;
    }
}
