import { LockFactory } from 'synlock/symfony';

export const factory = new LockFactory('semaphore');
