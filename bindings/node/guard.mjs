import guard from './guard.js';

export default guard;
export const { Admission, Guards, Held, Policy, Refused, heldBy } = guard;
