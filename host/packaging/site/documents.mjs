// What the site of the documentation calls each document, which is its first heading, and where in the menu it stands.
import { basename } from "node:path";
import { Converter } from "typedoc";

/** Names of files, in the menu's order. */
export const MENU = {
  "Run it": ["recipes", "install", "operate", "migration"],
  Disks: ["disk", "nbd", "ceph"],
  "Other devices": ["console", "vsock", "input", "i2c", "gpio", "gpu"],
  "Write your own": ["library", "write-a-device", "ABI"],
  "How it works": [
    "ARCHITECTURE",
    "memory",
    "recovery",
    "storage",
    "errors",
    "observability",
    "performance",
    "figures",
  ],
  "Work on it": ["SECURITY", "develop", "decisions", "packaging", "CHANGELOG"],
};

/** Throws for a document that has no heading, or no place in the menu. */
export function load(app) {
  app.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_context, document) => {
    const file = basename(document.name, ".md");
    const heading = /^# (.+)$/m.exec(document.content.map(({ text }) => text).join(""))?.[1];
    const group = Object.keys(MENU).find((name) => MENU[name].includes(file));
    if (heading === undefined || group === undefined) {
      throw new Error(
        `${document.name} has no heading, or no place in the menu of host/packaging/site/documents.mjs`,
      );
    }
    document.name = heading;
    document.frontmatter.group = group;
  });
}
