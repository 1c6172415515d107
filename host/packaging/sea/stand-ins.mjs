// What is another module in the single executable than in the package, as a plugin of esbuild.
import { resolve } from "node:path";

const OWN_FILES = resolve("host/process/own-files.ts");
const KOFFI_NATIVE = `@koromix/koffi-linux-${process.arch}`;

export const standIns = {
  name: "stand-ins",
  setup(build) {
    build.onResolve({ filter: /\/own-files\.ts$/ }, ({ path, resolveDir }) => {
      return resolve(resolveDir, path) === OWN_FILES
        ? { path: resolve("host/packaging/sea/own-files.ts") }
        : undefined;
    });
    // Its ES module wants to know where it lies.
    build.onResolve({ filter: /^koffi$/ }, () => ({ path: resolve("node_modules/koffi/index.cjs") }));
    // koffi tries one for each kind of machine.
    build.onResolve({ filter: /^@koromix\/koffi-/ }, ({ path }) => {
      return path === KOFFI_NATIVE ? { path, namespace: "koffi" } : { path, external: true };
    });
    // koffi adds to what it has loaded, which an ES module would not allow.
    build.onLoad({ filter: /.*/, namespace: "koffi" }, () => ({
      contents: 'module.exports = require("./host/packaging/sea/koffi-native.ts").loadNative();',
      resolveDir: resolve("."),
    }));
  },
};
