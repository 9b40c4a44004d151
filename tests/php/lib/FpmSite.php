<?php

declare(strict_types=1);

namespace Synlock\Tests;

/** Under PHP-FPM with nginx before it. The workers are www-data's, and so is the store's group. */
final class FpmSite extends Site
{
    private Fpm $fpm;

    /** @param array<string, string> $pool settings of the pool besides */
    public function __construct(private readonly string $package, string $place, private readonly string $script, private readonly array $pool = [])
    {
        parent::__construct($place, "shm:{$place}/segment?group=www-data");
        register_shutdown_function($this->stop(...));
    }

    public function start(): void
    {
        same(0, posix_getuid(), 'the tests of FPM need root; user');
        // What the command line made is the workers' too.
        $of = escapeshellarg($this->place);
        exec("chgrp -R www-data {$of} && chmod -R g+rwX {$of}");
        // Unbuffered, so that a byte is with the client when it is written.
        $settings = ['pm.max_children' => '8', 'php_admin_value[output_buffering]' => '0', 'php_admin_value[error_log]' => "{$this->place}/log"];
        foreach (['SYNLOCK_PACKAGE' => $this->package] + $this->environment as $name => $value) {
            $settings["env[{$name}]"] = "\"{$value}\"";
        }
        $ini = (string) shell_exec(PHP_BINARY . " {$this->package}/bin/synlock-check --ini 2>/dev/null");
        $this->fpm = new Fpm(dirname($this->place), $ini, [...$settings, ...$this->pool]);
        file_put_contents("{$this->place}/nginx.conf", $this->configuration());
        $this->server = new Process(['nginx', '-p', $this->place, '-c', "{$this->place}/nginx.conf", '-e', "{$this->place}/nginx.log"], getenv(), "{$this->place}/nginx.out");
        parent::start();
    }

    public function stop(): void
    {
        if (isset($this->server)) {
            $this->server->signal(SIGTERM);
            $this->server->wait();
            $this->fpm->stop();
        }
    }

    public function log(): string
    {
        $own = implode('', array_map(static fn (string $file): string => (string) @file_get_contents($file), glob("{$this->place}/{log,nginx.log,nginx.out}", GLOB_BRACE)));

        return $own . (isset($this->fpm) ? $this->fpm->logged() : '');
    }

    private function configuration(): string
    {
        $temporary = '';
        foreach (['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'] as $kind) {
            $temporary .= "    {$kind}_temp_path {$this->place}/nginx-{$kind};\n";
        }

        return <<<CONF
            daemon off;
            master_process off;
            pid {$this->place}/nginx.pid;
            events {}
            http {
                access_log off;
            {$temporary}
                server {
                    listen 127.0.0.1:{$this->port};
                    location / {
                        include /etc/nginx/fastcgi_params;
                        fastcgi_param SCRIPT_FILENAME {$this->script};
                        fastcgi_param SCRIPT_NAME /index.php;
                        fastcgi_pass unix:{$this->fpm->socket};
                        fastcgi_buffering off;
                    }
                }
            }

            CONF;
    }
}
