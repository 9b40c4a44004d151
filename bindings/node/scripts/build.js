// Builds the addon with cargo. `--dev` takes the dev profile, for tests.
'use strict';

const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const here = path.join(__dirname, '..');
const dev = process.argv.includes('--dev');

if (spawnSync('cargo', ['--version']).status !== 0) {
  console.error('synlock is built from source and needs cargo (Rust 1.89 or newer): https://rustup.rs');
  process.exit(1);
}
// A packed tarball carries the crates; in the repository they stand where they are.
const packed = path.join(here, 'crates', 'Cargo.toml');
const manifest = fs.existsSync(packed) ? packed : path.join(here, '..', '..', 'Cargo.toml');
const options = { cwd: path.dirname(manifest), stdio: ['ignore', 'inherit', 'inherit'] };
execFileSync('cargo', ['build', '-q', '-p', 'synlock-node', ...(dev ? [] : ['--release', '--features', 'packaged'])], options);
const metadata = execFileSync('cargo', ['metadata', '--format-version', '1', '--no-deps'], {
  cwd: path.dirname(manifest),
  maxBuffer: 1 << 28,
});
const target = JSON.parse(metadata).target_directory;
const built = path.join(target, dev ? 'debug' : 'release', 'libsynlock_node.so');
const place = path.join(here, 'synlock.node');
// Renamed into place: a process that has the old one loaded keeps it. Two builds at once do not meet.
const fresh = path.join(here, `synlock.${process.pid}.node`);
fs.copyFileSync(built, fresh);
fs.renameSync(fresh, place);
// What was built on the way would stay in the user's node_modules: hundreds of megabytes.
if (target.startsWith(here + path.sep)) fs.rmSync(target, { recursive: true, force: true });
