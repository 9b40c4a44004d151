import symfony from './symfony.js';

export default symfony;
export const { LockFactory, Lock, Key } = symfony;
