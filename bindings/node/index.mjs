// The same classes and the same registry as `require('synlock')`.
import synlock from './index.js';

export default synlock;
export const { Store, Lock, LockSet, Session, SemaphoreManager, keyName, templateName, fencing, metrics, schemes } = synlock;
export const {
  SynlockError, LockBusy, LockTimeout, LockLost, NotHeld, AlreadyHeld, LockCancelled, LockInterrupted, InvalidArgument,
  InvalidUrl, Unsupported, InvalidHandle, ForkedHandle, ConcurrentUse, Reentered, Deadlock, Unavailable, Uncertain,
  PermissionDenied, ProtocolError, Exhausted, StorageError, InternalError,
} = synlock;
