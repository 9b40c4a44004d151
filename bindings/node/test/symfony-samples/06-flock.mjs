import { tmpdir } from 'node:os';
import { LockFactory } from 'synlock/symfony';

// the path of the directory where the locks are created
export const factory = new LockFactory(`flock:${tmpdir()}`);
