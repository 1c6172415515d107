declare namespace __AdaptedExports {
  /**
   * assembly/index/abiVersion
   * @returns `u32`
   */
  export function abiVersion(): number;
  /**
   * assembly/index/startQueue
   * @param index `u32`
   * @param size `u32`
   * @param flags `u32`
   * @param desc `usize`
   * @param driver `usize`
   * @param device `usize`
   * @param base `u32`
   * @param kickFd `i32`
   * @param callFd `i32`
   */
  export function startQueue(index: number, size: number, flags: number, desc: number, driver: number, device: number, base: number, kickFd: number, callFd: number): void;
  /**
   * assembly/index/trackInflight
   * @param index `u32`
   * @param region `usize`
   * @param entries `u32`
   */
  export function trackInflight(index: number, region: number, entries: number): void;
  /**
   * assembly/index/stopQueue
   * @param index `u32`
   */
  export function stopQueue(index: number): void;
  /**
   * assembly/index/suspendQueue
   * @param index `u32`
   */
  export function suspendQueue(index: number): void;
  /**
   * assembly/index/placeRing
   * @param index `u32`
   * @param descGpa `u64`
   * @param deviceGpa `u64`
   */
  export function placeRing(index: number, descGpa: bigint, deviceGpa: bigint): void;
  /**
   * assembly/index/setLogging
   * @param isOn `bool`
   */
  export function setLogging(isOn: boolean): void;
  /**
   * assembly/index/isStopped
   * @param index `u32`
   * @returns `bool`
   */
  export function isStopped(index: number): boolean;
  /**
   * assembly/index/queueBase
   * @param index `u32`
   * @returns `u32`
   */
  export function queueBase(index: number): number;
  /**
   * assembly/index/setCredit
   * @param index `u32`
   * @param count `u32`
   */
  export function setCredit(index: number, count: number): void;
  /**
   * assembly/index/addCredit
   * @param index `u32`
   * @param count `u32`
   */
  export function addCredit(index: number, count: number): void;
  /**
   * assembly/index/setCallFd
   * @param index `u32`
   * @param callFd `i32`
   */
  export function setCallFd(index: number, callFd: number): void;
  /**
   * assembly/index/queueFault
   * @param index `u32`
   * @returns `i32`
   */
  export function queueFault(index: number): number;
  /**
   * assembly/index/missedGpa
   * @returns `u64`
   */
  export function missedGpa(): bigint;
  /**
   * assembly/io/uring/attachRings
   * @param sqHeadPtr `usize`
   * @param sqTailPtr `usize`
   * @param sqFlagsPtr `usize`
   * @param sqesPtr `usize`
   * @param sqEntryCount `u32`
   * @param cqHeadPtr `usize`
   * @param cqTailPtr `usize`
   * @param cqesPtr `usize`
   * @param cqEntryCount `u32`
   */
  export function attachRings(sqHeadPtr: number, sqTailPtr: number, sqFlagsPtr: number, sqesPtr: number, sqEntryCount: number, cqHeadPtr: number, cqTailPtr: number, cqesPtr: number, cqEntryCount: number): void;
  /**
   * assembly/turn/news
   * @returns `u32`
   */
  export function news(): number;
  /**
   * assembly/turn/openWorker
   * @param index `u32`
   * @param queues `u32`
   * @param requests `u32`
   * @param control `i32`
   */
  export function openWorker(index: number, queues: number, requests: number, control: number): void;
  /**
   * assembly/turn/step
   * @returns `u32`
   */
  export function step(): number;
  /**
   * assembly/turn/stepAwake
   * @returns `u32`
   */
  export function stepAwake(): number;
  /**
   * assembly/io/throttle/throttleUs
   * @returns `u32`
   */
  export function throttleUs(): number;
}
/** Instantiates the compiled WebAssembly module with the given imports. */
export declare function instantiate(module: WebAssembly.Module, imports: {
}): Promise<typeof __AdaptedExports>;
