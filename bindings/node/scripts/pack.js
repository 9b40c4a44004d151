// Copies the crates that the addon is built from into the package before `npm pack`, with a
// workspace of their own, and the licences (`npm pack` leaves links out); `--clean` removes them
// afterwards.
'use strict';

const fs = require('node:fs');
const path = require('node:path');

const here = path.join(__dirname, '..');
const root = path.join(here, '..', '..');
const crates = path.join(here, 'crates');

const licences = ['LICENSE-APACHE', 'LICENSE-MIT'];

for (const made of ['crates', ...licences]) fs.rmSync(path.join(here, made), { recursive: true, force: true });
if (!process.argv.includes('--clean')) {
  const copy = (from, to) =>
    fs.cpSync(path.join(root, from), path.join(crates, to), {
      recursive: true,
      filter: (file) => !/\/(target|node_modules|test|tests|crates)$/.test(file),
    });
  copy('core/src', 'core/src');
  copy('core/Cargo.toml', 'core/Cargo.toml');
  copy('bindings/node/src', 'bindings/node/src');
  copy('bindings/node/Cargo.toml', 'bindings/node/Cargo.toml');
  copy('bindings/node/build.rs', 'bindings/node/build.rs');
  const workspace = fs
    .readFileSync(path.join(root, 'Cargo.toml'), 'utf8')
    .replace(/^members = .*$/m, 'members = ["core", "bindings/node"]')
    .replace(/^default-members = .*\n/m, '');
  fs.writeFileSync(path.join(crates, 'Cargo.toml'), workspace);
  fs.copyFileSync(path.join(root, 'Cargo.lock'), path.join(crates, 'Cargo.lock'));
  for (const name of licences) fs.copyFileSync(path.join(root, name), path.join(here, name));
}
