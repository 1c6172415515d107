// What a completion belongs to: the user_data of an SQE, which its CQE brings back (io_uring_enter(2)).
export const TAG_REQUEST: u32 = 0;
export const TAG_KICK: u32 = 1;
export const TAG_CALL: u32 = 2;
export const TAG_CONTROL: u32 = 3;
export const TAG_CANCEL: u32 = 4;

/** The high half says whose completion it is, the low half which one. */
const TAG_SHIFT: u64 = 32;

export function userDataOf(tag: u32, index: u32): u64 {
  return ((<u64>tag) << TAG_SHIFT) | index;
}

export function tagOf(userData: u64): u32 {
  return <u32>(userData >> TAG_SHIFT);
}

export function indexOf(userData: u64): u32 {
  return <u32>userData;
}
