import { LockFactory } from 'synlock/symfony';

export const factory = new LockFactory('zookeeper://localhost:2181');
// use the following to define a high-availability cluster:
// new LockFactory('zookeeper://localhost1:2181,localhost2:2181,localhost3:2181')
