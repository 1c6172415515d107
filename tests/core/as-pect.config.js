// What as-pect compiles, and the memory it runs in. For run.mjs, from the root of the repository.

/** The core has fixed places below 0x30000000; the tests' own data and heap lie from there on (memoryBase). */
const MEMORY_PAGES = 16384;

export default {
  entries: [`tests/core/${process.env.CORE_UNIT ?? "*"}.unit.ts`],
  reporter: "tests/core/reporter.mjs",

  instantiate(_memory, createImports, instantiate, binary) {
    const memory = new WebAssembly.Memory({ initial: MEMORY_PAGES });
    const imports = createImports({ env: { memory } });
    const reportAbort = imports.env.abort;
    // as-pect's own returns, and a test would go on behind a failed assertion.
    imports.env.abort = (...details) => {
      reportAbort(...details);
      throw new Error("abort");
    };
    return instantiate(binary, imports);
  },
};
