// Addresses of AF_VSOCK (linux/vm_sockets.h). Shared with tests: numbers only.

/** Whoever calls: of a listener's own address. */
export const VMADDR_CID_ANY = 0xffffffff;
/** The machine itself, by the module vsock_loopback. */
export const VMADDR_CID_LOCAL = 1;
export const VMADDR_CID_HOST = 2;
/** The kernel chooses one. */
export const VMADDR_PORT_ANY = 0xffffffff;
