import { LockFactory } from 'synlock/symfony';

export const factory = new LockFactory('memcached://localhost:11211');
