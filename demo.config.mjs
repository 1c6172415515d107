// Builds the pages, each one file with its styles and script inside, which loads nothing: build/ring.html, with the core and its
// instrumented twin; build/view.html, of a guest's screen.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const core = readFileSync("build/core.plain.wasm");
await writePage("build/ring.html", "host/demo/page", {
  scripts: "'wasm-unsafe-eval'",
  parts: {
    CORE: `<template id="core-wasm">${core.toString("base64")}</template>`,
    HOOKED: `<template id="hooked-wasm">${(await hookedCore()).toString("base64")}</template>`,
  },
});
await writePage("build/view.html", "host/toolbox/ctl/view/page", { connect: "'self'" });

/** `parts`: what stands in for comments of the page's. `scripts`, `connect`: what its policy allows beside its own script. */
async function writePage(path, folder, { parts = {}, scripts = "", connect = "'none'" }) {
  const script = await bundle(`${folder}/main.ts`);
  const style = await bundle(`${folder}/style.css`);
  const policy = [
    "default-src 'none'",
    `script-src ${hashOf(script)} ${scripts}`.trim(),
    `style-src ${hashOf(style)}`,
    "img-src data:",
    `connect-src ${connect}`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
  const all = { STYLE: `<style>${style}</style>`, SCRIPT: `<script>${script}</script>`, ...parts };
  const template = readFileSync(`${folder}/page.html`, "utf8").replace("POLICY", policy);
  writeFileSync(
    path,
    template.replace(/<!-- ([A-Z]+) -->/g, (_, name) => all[name]),
  );
}

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
