import { SynlockError } from 'synlock';
import { LockFactory } from 'synlock/symfony';

// also postgres://, and sqlite:/path/of/a/file
export const factory = new LockFactory('mysql://myuser:mypassword@127.0.0.1/lock');

try {
  await factory.store.createTable();
} catch (error) {
  if (!(error instanceof SynlockError)) throw error;
  // the table could not be created for some reason
}
