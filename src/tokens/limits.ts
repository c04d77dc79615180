/** The mutex: a lock is void and its waiters are freed this long after it was asked for. */
export const LOCK_MS = 30_000;
/** The store ends a lock's record a little later, so that its holder knows first. */
export const LOCK_TTL_MS = 35_000;
/** The ear: how long a provider is listened to after the request was sent. */
export const EAR_MS = 60_000;
/** Between the attempt's record and the first byte at most this may pass, else nothing is sent. */
export const SEND_WITHIN_MS = 5_000;
/** A permit outlives the longest exchange. */
export const PERMIT_TTL_MS = SEND_WITHIN_MS + EAR_MS;
/** How long nobody but its holder may act on an open attempt; longer than lock and ear together can last. */
export const IN_DOUBT_HOLD_MS = 90_000;
/** How long a store that does not answer is asked before a refresh is given up, nothing having been sent. */
export const STORE_PATIENCE_MS = 5_000;
/** How long ahead it is said that a customer, or an operator, will be needed by a date. */
export const EXPIRING_WITHIN_MS = 7 * 86_400_000;
/** How long an answer that has come waits for a disk that does not take it, or give it up: the store may take it. */
export const DISK_PATIENCE_MS = 5_000;
