from synlock.symfony import LockFactory

stores = []
for server in ("server1", "server2", "server3"):
    stores.append(f"redis://{server}")

# CombinedStore is a quorum. A majority has to grant, as with ConsensusStrategy.
factory = LockFactory(f"quorum:({','.join(stores)})")

# UnanimousStrategy: all of them have to.
unanimous = LockFactory(f"quorum:({','.join(stores)})", strategy="unanimous")
