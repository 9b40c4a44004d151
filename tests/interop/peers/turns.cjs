// The requests of tests/interop/README.md, for peers in Node.
'use strict';

const fs = require('node:fs');
const readline = require('node:readline');

async function turns(count, file, take, release) {
  for (let turn = 0; turn < count; turn += 1) {
    if (!(await take())) return 'busy';
    const number = Number(fs.readFileSync(file, 'utf8')) || 0;
    fs.writeFileSync(file, String(number + 1));
    if (!(await release())) return 'lost';
  }
  return 'done';
}

/** Each says whether it did; `take` waits. */
exports.serve = async function serve(take, tryTake, release) {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [verb, count, ...file] = line.split(' ');
    let answer;
    if (verb === 'take') answer = (await take()) ? 'taken' : 'busy';
    else if (verb === 'try') answer = (await tryTake()) ? 'taken' : 'busy';
    else if (verb === 'release') answer = (await release()) ? 'released' : 'lost';
    else answer = await turns(Number(count), file.join(' '), take, release);
    process.stdout.write(`${answer}\n`);
  }
  process.exit(0);
};
