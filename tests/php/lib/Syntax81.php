<?php

declare(strict_types=1);

namespace Synlock\Tests;

/** Finds what PHP 8.1 would not understand, since only a newer PHP may be there to run the tests. */
final class Syntax81
{
    /** Functions and classes that came after 8.1. */
    private const NEW_NAMES = [
        'array_all', 'array_any', 'array_find', 'array_find_key', 'array_first', 'array_last', 'bcdivmod', 'curl_upkeep',
        'fpow', 'get_error_handler', 'get_exception_handler', 'http_get_last_response_headers', 'ini_parse_quantity',
        'json_validate', 'mb_lcfirst', 'mb_ltrim', 'mb_rtrim', 'mb_str_pad', 'mb_trim', 'mb_ucfirst',
        'memory_reset_peak_usage', 'openssl_cipher_key_length', 'posix_eaccess', 'posix_fpathconf', 'posix_pathconf',
        'posix_sysconf', 'request_parse_body', 'sodium_crypto_stream_xchacha20_xor_ic', 'stream_context_set_options',
        'str_decrement', 'str_increment', 'allowdynamicproperties', 'sensitiveparameter', 'override', 'deprecated',
    ];
    /** Standing alone or in brackets, types from 8.2 on. */
    private const NEW_TYPE = '/(?:[(,]|\bpublic|\bprotected|\bprivate|\bstatic|\breadonly)\s*(\?\s*)?(null|true|false)\s+&?\$'
        . '|\)\s*:\s*\??\s*(null|true|false)\s*(?:\{|=>)|function\s+\w+\s*\([^;{}]*\)\s*:\s*\??\s*(null|true|false)\s*;'
        . '|[(|]\s*\(\s*[\\\\\w]+\s*&[^)]*\)\s*\||\|\s*\(\s*[\\\\\w]+\s*&/i';

    /**
     * @return list<string> what is wrong, with lines
     */
    public static function check(string $code): array
    {
        $found = [];
        $tokens = array_values(array_filter(
            \PhpToken::tokenize($code),
            static fn (\PhpToken $token): bool => !$token->is([T_WHITESPACE, T_COMMENT, T_DOC_COMMENT]),
        ));
        $is = static fn (int $at, array|int|string $what): bool => isset($tokens[$at]) && $tokens[$at]->is($what);
        $traitDepth = $depth = 0;
        foreach ($tokens as $i => $token) {
            $add = static function (string $what) use (&$found, $token): void {
                $found[] = "line {$token->line}: {$what}";
            };
            $depth += ($token->is(['{', T_CURLY_OPEN, T_DOLLAR_OPEN_CURLY_BRACES]) ? 1 : 0) - ($token->is('}') ? 1 : 0);
            $traitDepth = $token->is('}') && $depth < $traitDepth ? 0 : $traitDepth;
            if ($token->is(T_TRAIT)) {
                $traitDepth = $depth + 1;
            } elseif ($token->is(T_READONLY) && ($is($i + 1, [T_CLASS, T_FINAL, T_ABSTRACT]) || $is($i - 1, T_NEW))) {
                $add('a readonly class (8.2)');
            } elseif ($token->is([T_FINAL, T_ABSTRACT]) && $is($i + 1, T_READONLY) && $is($i + 2, T_CLASS)) {
                $add('a readonly class (8.2)');
            } elseif ($token->is(T_CONST) && $traitDepth > 0 && $depth === $traitDepth) {
                $add('a constant in a trait (8.2)');
            } elseif ($token->is(T_CONST) && !$is($i + 2, '=')) {
                $add('a typed constant (8.3)');
            } elseif ($token->is(T_DOUBLE_COLON) && $is($i + 1, '{')) {
                $add('a class constant by an expression (8.3)');
            } elseif ($token->is('(') && $is($i + 1, [T_PRIVATE, T_PROTECTED, T_PUBLIC]) && $is($i + 2, '(')) {
                $add('asymmetric visibility (8.4)');
            } elseif ($token->is([T_PRIVATE, T_PROTECTED, T_PUBLIC]) && $is($i + 1, '(')) {
                $add('asymmetric visibility (8.4)');
            } elseif ($token->is([T_STRING, T_NAME_FULLY_QUALIFIED, T_NAME_QUALIFIED])) {
                $name = strtolower(ltrim($token->text, '\\'));
                $calls = $is($i + 1, '(') && !$is($i - 1, [T_OBJECT_OPERATOR, T_NULLSAFE_OBJECT_OPERATOR, T_DOUBLE_COLON, T_FUNCTION, T_NEW]);
                if (in_array($name, self::NEW_NAMES, true) && ($calls || $is($i - 1, T_ATTRIBUTE))) {
                    $add("{$token->text} is newer");
                } elseif (str_starts_with($name, 'random\\')) {
                    $add("{$token->text} (8.2)");
                }
            }
        }
        $plain = implode(' ', array_map(
            static fn (\PhpToken $token): string => $token->is([T_CONSTANT_ENCAPSED_STRING, T_ENCAPSED_AND_WHITESPACE]) ? '""' : $token->text,
            $tokens,
        ));
        if (preg_match(self::NEW_TYPE, $plain, $parts)) {
            $found[] = "a type of 8.2: {$parts[0]}";
        }

        return $found;
    }
}
