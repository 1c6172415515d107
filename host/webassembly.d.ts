// The part of the WebAssembly interface that vringd uses. TypeScript has it only with the whole DOM.
declare namespace WebAssembly {
  class Module {
    constructor(bytes: NodeJS.ArrayBufferView);
    static imports(module: Module): { module: string; name: string; kind: string }[];
    static exports(module: Module): { name: string; kind: string }[];
  }
  class Memory {
    constructor(descriptor: { initial: number; maximum?: number; shared?: boolean });
    readonly buffer: ArrayBuffer;
  }
  function compile(bytes: ArrayBufferView | ArrayBuffer): Promise<Module>;
}
