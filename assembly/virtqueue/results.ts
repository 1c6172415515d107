// What the core's own functions return of a chain, in one i32, from the ring to the turn. No two are alike, so that none is taken
// for another on its way. Below them are the status bytes of spec/virtio-blk.ts; negative are the faults of abi/faults.ts.

/** The ring, or what a predecessor left: it has nothing to take, or a chain. */
export const EMPTY = 0x10;
export const AVAILABLE = 0x11;

/** A chain that is read, buffer by buffer. */
export const BUFFER = 0x18;
export const CHAIN_END = 0x19;

/** The guest's bytes: they are in linear memory. */
export const PRESENT = 0x20;
/** They are guest memory, but no window shows them: see missedGpa. */
export const MISSED = 0x21;
/** The host writes some of them after this step. */
export const DEFERRED = 0x22;
/** Not in this turn: the host has been given nearly as much to write as it takes after one. */
export const PUT_OFF = 0x23;

/** A chain that was taken: its next operation has been submitted. */
export const SUBMITTED = 0x30;
/** It is to be used, with the length in usedBytes. */
export const DONE = 0x31;
/** The same, once the host has written what it was given to write, or others have ended. */
export const WAITS_FOR_HOST = 0x32;
/** It stays recorded as in flight, without an answer. */
export const PARKED = 0x33;
/** In place of a status byte: it has no place for a header or a status byte, and is used with length 0. */
export const NO_STATUS = 0x34;
