import { LockFactory } from 'synlock/symfony';

const stores = [];
for (const server of ['server1', 'server2', 'server3']) {
  stores.push(`redis://${server}`);
}

// CombinedStore is a quorum. A majority has to grant, as with ConsensusStrategy.
export const factory = new LockFactory(`quorum:(${stores})`);

// UnanimousStrategy: all of them have to.
export const unanimous = new LockFactory(`quorum:(${stores})`, { strategy: 'unanimous' });
