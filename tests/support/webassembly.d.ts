// The part of the WebAssembly interface that only tests use, beside host/webassembly.d.ts.
declare namespace WebAssembly {
  class Global {
    value: number | bigint;
  }
  class Instance {
    constructor(module: Module, imports: Record<string, Record<string, unknown>>);
    readonly exports: Record<string, unknown>;
  }
}
