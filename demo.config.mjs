// Builds build/ring.html: one file, with the core, its instrumented twin, styles and script inside, which loads nothing.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const PAGE = "host/demo/page";

const core = readFileSync("build/core.plain.wasm");
const script = await bundle(`${PAGE}/main.ts`);
const style = await bundle(`${PAGE}/style.css`);
const policy = [
  "default-src 'none'",
  `script-src ${hashOf(script)} 'wasm-unsafe-eval'`,
  `style-src ${hashOf(style)}`,
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

const parts = {
  STYLE: `<style>${style}</style>`,
  SCRIPT: `<script>${script}</script>`,
  CORE: `<template id="core-wasm">${core.toString("base64")}</template>`,
  HOOKED: `<template id="hooked-wasm">${(await hookedCore()).toString("base64")}</template>`,
};
const template = readFileSync(`${PAGE}/page.html`, "utf8").replace("POLICY", policy);
writeFileSync(
  "build/ring.html",
  template.replace(/<!-- ([A-Z]+) -->/g, (_, name) => parts[name]),
);

/** Making it takes seconds, so it is kept for as long as the core stays the same. */
async function hookedCore() {
  const path = `build/demo/hooked-${createHash("sha256").update(core).digest("hex").slice(0, 16)}.wasm`;
  if (!existsSync(path)) {
    mkdirSync("build/demo", { recursive: true });
    await build({
      entryPoints: ["host/demo/instrumented-core.ts"],
      outfile: "build/demo/instrumented-core.mjs",
      bundle: true,
      platform: "node",
      format: "esm",
      logLevel: "warning",
    });
    const { instrumentCore } = await import("./build/demo/instrumented-core.mjs");
    writeFileSync(path, await instrumentCore());
  }
  return readFileSync(path);
}

async function bundle(entryPoint) {
  const { outputFiles } = await build({
    entryPoints: [entryPoint],
    bundle: true,
    write: false,
    minify: true,
    charset: "utf8",
    target: ["chrome111", "firefox113", "safari16.4"],
    legalComments: "none",
    logLevel: "warning",
  });
  // Neither may end the element that it stands in.
  return outputFiles[0].text.trim().replaceAll("</", "<\\/");
}

function hashOf(text) {
  return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
}
