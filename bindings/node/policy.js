'use strict';

// Policies of request guards, and what they are applied to, in no framework's terms.

const native = require('./native.js');
const { tools } = require('./internal.js');

const { check, make, statusOf } = tools;
const DEFAULTS = {
  mode: 'block',
  name: undefined,
  service: undefined,
  ttl: undefined,
  maxWait: undefined,
  userIsolation: false,
  anonymous: 'refuse',
  status: 423,
  message: 'Resource is not available at this moment.',
  domain: undefined,
  autoRelease: true,
  release: undefined,
  strict: false,
  label: undefined,
};

const encode = (text) => (text instanceof Uint8Array ? new Uint8Array(text) : new TextEncoder().encode(String(text)));
const maybe = (text) => (text === undefined || text === null ? undefined : encode(text));

/** How requests are guarded; frozen. */
class Policy {
  constructor(options = {}) {
    for (const key of Object.keys(options)) {
      if (!(key in DEFAULTS)) throw make({ status: statusOf.UNKNOWN_OPTION, message: `there is no option \`${key}\`` });
    }
    for (const [key, value] of Object.entries(DEFAULTS)) this[key] = options[key] ?? value;
    check(native.checkPolicy(rules(this)));
    Object.freeze(this);
  }

  static of(given) {
    return given instanceof Policy ? given : new Policy(given);
  }
}

function rules(policy, maxWait) {
  return {
    mode: String(policy.mode),
    name: maybe(policy.name),
    service: policy.service,
    ttl: policy.ttl,
    maxWait: policy.maxWait ?? maxWait,
    userIsolation: Boolean(policy.userIsolation),
    anonymous: String(policy.anonymous),
    status: Number(policy.status),
    autoRelease: Boolean(policy.autoRelease),
    release: policy.release,
    strict: Boolean(policy.strict),
    label: policy.label,
  };
}

/** What can stand in a name, of what routers give. */
function texts(params) {
  const found = [];
  for (const [name, value] of Object.entries(params ?? {})) {
    if (['string', 'number', 'bigint', 'boolean'].includes(typeof value) || value instanceof Uint8Array) found.push(encode(name), encode(value));
  }
  return found;
}

function asked({ route = '', path = '', params, user, session, ip, token } = {}) {
  return {
    route: encode(route),
    path: encode(path),
    params: texts(params),
    hasUsers: user !== undefined,
    provider: maybe(user?.provider),
    user: maybe(user?.id),
    session: maybe(session),
    ip: maybe(ip),
    token: maybe(token),
  };
}

const PLAIN = new Set(Buffer.from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/-._~!$&'()*+,;=:@"));

/** The path of a URL without the query, encoded in one way, however its client has spelled it. */
function pathOf(url) {
  const path = url.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i, '').replace(/[?#].*$/s, '');
  let out = '';
  const add = (byte) => {
    out += PLAIN.has(byte) ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  };
  for (const [piece] of path.matchAll(/%[0-9a-f]{2}|./gisu)) {
    if (piece.length === 3 && piece[0] === '%') add(parseInt(piece.slice(1), 16));
    // Node shows bytes as Latin 1.
    else if (piece.charCodeAt(0) <= 0xff) add(piece.charCodeAt(0));
    else for (const byte of Buffer.from(piece)) add(byte);
  }
  return out;
}

module.exports = { Policy, rules, asked, pathOf };
